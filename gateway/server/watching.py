"""Notices that a file of what is served was changed: for development, where a save is a reason to reload."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Seen = dict[str, tuple[int, int]]
"""Modification times and sizes, by path."""


class Watch:
    """The settings file, and all files below the catalogue's paths, as they were when they were last looked at."""

    def __init__(self, application: Any) -> None:
        """``application``: whose settings name the paths (``application.Application``)."""
        self._application = application
        self._seen = self._look()

    def has_changed(self) -> bool:
        """Look; whether anything is different from what the last look saw."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> Seen:
        seen: Seen = {}
        for path in self._paths():
            try:
                status = os.stat(path)  # noqa: PTH116 -- a tenth of what a Path costs, 20 times a second
            except OSError:
                continue
            seen[path] = status.st_mtime_ns, status.st_size
        return seen

    def _paths(self) -> Iterator[str]:
        if self._application.origin.config:
            yield self._application.origin.config
        for named in self._application.settings.catalogue.paths:
            if not Path(named).is_dir():
                yield named
            for folder, _, files in os.walk(named):
                yield from (os.path.join(folder, file) for file in files)  # noqa: PTH118 -- as above
