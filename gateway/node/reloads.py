"""The last reload of the node: what became of it, as its master wrote it down, and how a worker asks for another."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.faults import Fault
from gateway.node import files

FILE = "reload"


class Reload(msgspec.Struct, frozen=True, kw_only=True):
    """One reload. Points in time are of ``time.monotonic``."""

    began: float
    ended: float | None = None
    """When the new generation was in charge, or the reload was given up; None while it is under way."""
    faults: tuple[Fault, ...] = ()
    """Why nothing was changed; empty where the reload succeeded, or is under way."""
    hash: str = ""
    """Of the catalogue that is served since then."""
    queries: int = 0


class Reloads:
    """The master's notes, as a worker reads them. Without a directory there is no master, and nothing to be read."""

    def __init__(self, directory: Path | None, *, master: int) -> None:
        """``master``: the process that is to be asked, which has to be this one's parent still when it is."""
        self._file = None if directory is None else directory / FILE
        self._master = master
        self._known: tuple[tuple[int, int], Reload | None] = ((0, 0), None)
        """The last reload, with inode and time of the file that told it."""

    def last(self) -> Reload | None:
        """Return the last reload, or the one under way; None if there was none."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
            key = (status.st_ino, status.st_mtime_ns)  # the file is only ever replaced as a whole
            if key != self._known[0]:
                self._known = (key, msgspec.json.decode(self._file.read_bytes(), type=Reload))
        except (OSError, msgspec.MsgspecError):
            return None
        return self._known[1]

    def fault(self) -> str | None:
        """Return why the last reload was refused; None if it was not."""
        last = self.last()
        if last is None or not last.faults:
            return None
        more = len(last.faults) - 1
        return f"not reloaded: {last.faults[0]}" + (f", and {more} more" if more else "")

    def ask(self, *, whole: bool = True) -> bool:
        """Have the master reload; False if this process has none that could.

        Not ``whole``: without reading files, for the members that were written down (``discovery``).
        """
        # SECURITY: a parent that has died may have been succeeded by a process that is none of ours.
        if self._file is None or os.getppid() != self._master:
            return False
        os.kill(self._master, signal.SIGHUP if whole else signal.SIGUSR1)
        return True


def note(directory: Path, reload: Reload, *, on_failure: Callable[[OSError], None]) -> None:
    """Write a reload down, for all workers; for the master alone."""
    try:
        files.replace(directory / FILE, msgspec.json.encode(reload))
    except OSError as error:
        on_failure(error)
