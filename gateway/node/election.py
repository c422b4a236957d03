"""Which worker looks at the servers for the whole node: whoever holds a lock that the kernel frees with its holder.

The file behind the lock also says when its holder last ended a look. One that does not end any although it holds the
lock, stopped or stuck, is stood in for: by the holder of a second file, should that one stop too of a third, and so on.
A stand-in leaves when those before it look again.
"""

import fcntl
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

RANKS = 4
_STAMP = struct.Struct("=d")


class Election:
    """One process's part in it. Without a directory it is always elected."""

    def __init__(
        self, directory: Path | None, *, name: str, stale_after: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``name``: of what is done; ``stale_after``: seconds without a look after which a holder is stuck."""
        self._stale_after = stale_after
        self._clock = clock
        self._files: list[int] = []
        self._rank: int | None = None
        if directory is not None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files = [os.open(directory / f"elected-{name}-{rank}", flags, 0o600) for rank in range(RANKS)]

    def is_elected(self) -> bool:
        """Try; whether this process is to look now. To be asked every 100 ms or so."""
        if not self._files:
            return True
        before = self._rank
        for rank in range(RANKS):
            if rank == before:
                return True
            if self._take(rank):
                self._leave()
                self._rank = rank
                self.stamp()
                return True
            if self._is_looking(rank):
                self._leave()
                return False
        return False

    def stamp(self) -> None:
        """A look has ended."""
        rank = self._rank
        if rank is not None and self._files:
            with suppress(OSError):  # no room for it: then others stand in
                os.pwrite(self._files[rank], _STAMP.pack(self._clock()), 0)

    def resign(self) -> None:
        """Let another be elected."""
        self._leave()

    def close(self) -> None:
        """Resign for good; not to be used afterwards."""
        for file in self._files:
            os.close(file)
        self._files = []

    def _take(self, rank: int) -> bool:
        try:
            fcntl.flock(self._files[rank], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _leave(self) -> None:
        if self._rank is not None:
            fcntl.flock(self._files[self._rank], fcntl.LOCK_UN)
            self._rank = None

    def _is_looking(self, rank: int) -> bool:
        stamp = os.pread(self._files[rank], _STAMP.size, 0)
        return len(stamp) == _STAMP.size and self._clock() - _STAMP.unpack(stamp)[0] < self._stale_after
