"""Which worker looks at the servers for the whole node: whoever holds a lock that the kernel frees with its holder.

The file behind the lock also says when its holder last ended a look. One that does not end any although it holds the
lock, stopped or stuck, is stood in for: by the holder of a second file, should that one stop too of a third, and so on.
A stand-in leaves when those before it look again.
"""

import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.node.files import FileLock

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
        self._files: list[FileLock] = []
        self._rank: int | None = None
        self._is_alone = directory is None
        if directory is not None:
            self._files = [FileLock(directory / f"elected-{name}-{rank}") for rank in range(RANKS)]
            for file in self._files:
                file.reserve(_STAMP.size)

    def is_elected(self) -> bool:
        """Try; whether this process is to look now. To be asked every 100 ms or so."""
        if not self._files:
            return self._is_alone
        before = self._rank
        for rank in range(RANKS):
            if rank == before:
                return True
            if self._files[rank].take():
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
                self._files[rank].write(_STAMP.pack(self._clock()))

    def close(self) -> None:
        """Let another be elected, for good. Harmless when repeated."""
        for file in self._files:
            file.close()
        self._files, self._rank = [], None

    def _leave(self) -> None:
        if self._rank is not None:
            self._files[self._rank].free()
            self._rank = None

    def _is_looking(self, rank: int) -> bool:
        stamp = self._files[rank].read(_STAMP.size)
        return len(stamp) == _STAMP.size and self._clock() - _STAMP.unpack(stamp)[0] < self._stale_after
