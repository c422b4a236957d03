"""Places for connections, so many for a purpose and a node, whichever of its processes has them.

A file of numbers, one a place: when it becomes free, or that it is held. A holder has the lock on the place's byte as
well (an open file description lock of fcntl(2)): the kernel takes it away when the process dies, however it does, so
that a place held without a lock is known to be a dead process's. No lock is ever waited for, and none is on more than
one place: a process that is stopped keeps its own places, and nobody else from anything.

NOTE: a closed connection is not gone from the server at once, so a place stays taken for a while after.
"""

import errno
import fcntl
import os
import struct
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

AFTER_FAREWELL = 0.05
"""Seconds for which a server may still count a connection that was closed in good order."""
AFTER_BREAK = 0.35
"""The same for one that was cut off under a statement: ``client_connection_check_interval`` (250 ms) and some."""
FRESH = 0.1
"""Seconds for which a want counts after it was last said."""

_HELD = inf
_HEADER = 64
_WANT = struct.Struct("=dd")
_ENTRY = struct.Struct("=d")
_LOCK = struct.Struct("hhqqi")
"""``struct flock``: type, whence, start, length, pid (0 for these locks)."""


class Places:
    """One process's hand on the places of one purpose. Safe for threads; never blocks.

    ``share`` is what each worker of the node is entitled to. One that has less says so, and the others see it
    (``wants_first``, ``wants_share``): whoever has more takes no further place then, and gives up what it can.
    """

    def __init__(self, file: Path, *, size: int, share: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Make the file if it is not there. Raises OSError."""
        self.size = size
        self.share = share
        self._clock = clock
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # NOTE: reentrant, because a connection may be finalised, and its place released, anywhere in here.
        self._lock = threading.RLock()
        self._held: dict[int, bool] = {}
        """Places of this process; True: borrowed for another purpose."""

    @property
    def mine(self) -> int:
        """How many this process holds for its share."""
        return list(self._held.values()).count(False)

    def take(self, *, is_borrowed: bool = False, is_draining: bool = False) -> int | None:
        """Try to take a place; None: there is none now, or others need it more."""
        with self._lock:
            now = self._clock()
            mine = self.mine
            if not is_borrowed and self._is_others_turn(mine, now):
                return None
            for place, free_at in enumerate(self._entries()):
                if place not in self._held and not self._rests(free_at, now) and self._seize(place, now):
                    self._held[place] = is_borrowed
                    return place
            if not is_borrowed:
                self._say_want(mine, now, is_draining=is_draining)
            return None

    def release(self, place: int, *, after: float) -> None:
        """Let go of a place; others may have it so many seconds later."""
        with self._lock:
            self._write(place, self._clock() + after)
            self._held.pop(place, None)
            self._unlock(place)

    def sweep(self) -> None:
        """Notice places of dead processes, whose time counts from then."""
        with self._lock:
            now = self._clock()
            for place, free_at in enumerate(self._entries()):
                if free_at == _HELD and place not in self._held and self._try_lock(place):
                    self._bury(place, now)
                    self._unlock(place)

    def wants_first(self) -> bool:
        """Whether some process has no place at all, and wants one."""
        return self._is_fresh(self._wants()[0], self._clock())

    def wants_share(self) -> bool:
        """Whether some worker wants a place that it is entitled to."""
        return self._is_fresh(self._wants()[1], self._clock())

    def taken(self) -> int:
        """How many places are not free."""
        now = self._clock()
        return sum(self._rests(free_at, now) or free_at == _HELD for free_at in self._entries())

    def close(self) -> None:
        """Let go of everything as if the process had died."""
        os.close(self._file)

    def _is_others_turn(self, mine: int, now: float) -> bool:
        if mine == 0:
            return False
        first, share = self._wants()
        return self._is_fresh(first, now) or (mine >= self.share and self._is_fresh(share, now))

    def _say_want(self, mine: int, now: float, *, is_draining: bool) -> None:
        first, share = self._wants()
        if mine == 0:
            os.pwrite(self._file, _WANT.pack(now, share), 0)
        elif mine < self.share and not is_draining:
            os.pwrite(self._file, _WANT.pack(first, now), 0)

    def _wants(self) -> tuple[float, float]:
        first, share = _WANT.unpack(os.pread(self._file, _WANT.size, 0).ljust(_WANT.size, b"\0"))
        return first, share

    @staticmethod
    def _is_fresh(said: float, now: float) -> bool:
        return 0 <= now - said < FRESH

    @staticmethod
    def _rests(free_at: float, now: float) -> bool:
        """Whether it has to wait yet; a time out of reach was written before the machine was last started."""
        return free_at != _HELD and 0 < free_at - now < 2 * AFTER_BREAK

    def _seize(self, place: int, now: float) -> bool:
        if not self._try_lock(place):
            return False
        free_at = self._read(place)
        if free_at == _HELD:
            self._bury(place, now)
        elif not self._rests(free_at, now):
            self._write(place, _HELD)
            return True
        self._unlock(place)
        return False

    def _bury(self, place: int, now: float) -> None:
        """Let a dead process's place become free. Its byte locked."""
        if self._read(place) == _HELD:
            self._write(place, now + AFTER_BREAK)

    # --- the file ------------------------------------------------------------------------------------------------

    def _entries(self) -> tuple[float, ...]:
        length = self.size * _ENTRY.size
        return struct.unpack(f"={self.size}d", os.pread(self._file, length, _HEADER).ljust(length, b"\0"))

    def _read(self, place: int) -> float:
        entry = os.pread(self._file, _ENTRY.size, _HEADER + place * _ENTRY.size)
        return float(_ENTRY.unpack(entry.ljust(_ENTRY.size, b"\0"))[0])

    def _write(self, place: int, value: float) -> None:
        os.pwrite(self._file, _ENTRY.pack(value), _HEADER + place * _ENTRY.size)

    def _try_lock(self, place: int) -> bool:
        try:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _HEADER + place, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _unlock(self, place: int) -> None:
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _HEADER + place, 1, 0))
