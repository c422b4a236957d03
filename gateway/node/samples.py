"""The last five minutes of every endpoint: a sample a second, which any worker of the node can show.

Each endpoint has a ring of rows in a file of the runtime directory. The elected prober alone writes: where two do for
a moment, one having just taken over from the other, both write nearly the same. A reader that comes in the middle of
a write may see the old half of a row, which is out of the time that is asked for, or a figure of five minutes ago.
"""

import hashlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import nan
from pathlib import Path
from typing import NamedTuple

from gateway.events import NodeNotShared, Observer, ignore
from gateway.node.rows import Row, Rows
from gateway.rotation.endpoint import EndpointView

SECONDS = 300
"""How many samples are kept of each endpoint."""
_PREFIX = "samples-"
_ROW = struct.Struct("=qdd?")


class Sample(NamedTuple):
    """An endpoint in one second."""

    second: int
    """Of the Unix epoch."""
    ping_ms: float
    """NaN: it did not answer."""
    lag_ms: float
    """NaN: it is not known, or it is a primary."""
    serves: bool
    """Whether it was in the rotation."""


class Samples:
    """Takes samples of the endpoints and reads those that were taken. Without a directory they are this process's."""

    def __init__(
        self,
        directory: Path | None,
        *,
        endpoints: Iterable[str],
        views: Callable[[], Iterable[EndpointView]],
        serves: Callable[[EndpointView], bool],
        observe: Observer = ignore,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``serves``: whether an endpoint with this view is in the rotation."""
        self._views = views
        self._serves = serves
        self._wall = wall
        self._taken = 0
        self._files: dict[str, Rows] = {}
        self._own: dict[str, dict[int, Sample]] = {name: {} for name in endpoints}
        """By place in the ring, where there is no file."""
        if directory is None:
            return
        try:
            for name in self._own:
                path = directory / f"{_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:16]}"
                self._files[name] = Rows(path, _ROW, count=SECONDS)
                os.utime(path, (wall(), wall()))
            self._remove_unused(directory)
        except OSError as error:
            observe(NodeNotShared(what="other workers do not see how endpoints were", detail=str(error)))

    def take(self) -> None:
        """Take a sample of every endpoint, unless this process has done so in this second."""
        second = int(self._wall())
        if second == self._taken:
            return
        self._taken = second
        for view in self._views():
            ping = view.ping_ms if view.ping_ok and view.ping_ms is not None else nan
            lag = view.lag_ms if view.ping_ok and view.lag_ms is not None else nan
            sample = Sample(second, round(ping, 3), round(lag, 1), self._serves(view))
            file = self._files.get(view.name)
            if file is None:
                self._own[view.name][second % SECONDS] = sample
            else:
                with suppress(OSError):  # the next one follows in a second
                    file.write(second % SECONDS, *sample)

    def since(self, moment: float) -> dict[str, list[Sample]]:
        """Return the samples of each endpoint that are younger than this moment, in seconds of the Unix epoch."""
        now = self._wall()
        oldest = max(moment, now - SECONDS)
        found = {}
        for name, own in self._own.items():
            file = self._files.get(name)
            rows: Iterable[Row] = own.values() if file is None else _all(file)
            found[name] = [Sample._make(row) for row in sorted(row for row in rows if oldest < row[0] <= now)]
        return found

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _remove_unused(self, directory: Path) -> None:
        """Remove the files of endpoints that no worker has had for so long that all in them is too old."""
        for path in directory.glob(f"{_PREFIX}*"):
            if self._wall() - path.stat().st_mtime > SECONDS:
                path.unlink(missing_ok=True)


def _all(file: Rows) -> Sequence[Row]:
    try:
        return file.all(SECONDS)
    except OSError:
        return ()
