"""What is logged since an operator has changed it, for workers that start later.

It holds until the node ends, or is reloaded with another ``[log] level``.
"""

from contextlib import suppress
from pathlib import Path

from gateway.node.files import replace


class LogLevel:
    """The level of the node's log, where it is not the configured one."""

    def __init__(self, directory: Path | None, configured: str) -> None:
        """``configured``: ``[log] level``."""
        self._file = None if directory is None else directory / "log-level"
        self._configured = configured

    def keep(self, level: str) -> None:
        """Have workers that start from now on begin with this level."""
        if self._file is not None:
            with suppress(OSError):  # the level is changed in those that run
                replace(self._file, f"{level} {self._configured}".encode())

    def kept(self) -> str | None:
        """Return the level that an operator has set since it was configured as it is; None: none has."""
        if self._file is None:
            return None
        try:
            level, _, configured = self._file.read_text(encoding="ascii").partition(" ")
        except (OSError, ValueError):
            return None
        return level if configured == self._configured else None
