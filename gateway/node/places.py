"""Places for connections: so many for each purpose on a node, whichever of its processes has them.

A place is a row of a shared file: the time when it becomes free, or that it is held. Whoever holds it has the lock on
its row, so that a place of a dead process is known as such.

Two generations of workers may have different numbers of places. Each knows the first so many rows; what only the larger
one knows is of no use to the smaller one. So a demand says how many rows it is about: whoever holds one of these, and
can have one beyond, moves its connection there.
"""

import struct
import threading
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import NamedTuple

from gateway.node.rows import Claim, Rows

AFTER_CLOSE = 0.05
"""Seconds for which a place stays taken after its connection was closed while idle, or by the server."""
AFTER_CUT = 0.35
"""Seconds for which a place stays taken after its connection was closed while a statement ran:
``client_connection_check_interval`` (250 ms), and some more."""
FRESH = 0.1
"""Seconds for which a demand is valid after it was last made."""

_HELD = inf
_DEMANDS = struct.Struct("=dIdI")
_PLACE = struct.Struct("=d")


class Demand(NamedTuple):
    """Some process wants a place."""

    made: float
    """When, in seconds of ``time.monotonic``."""
    size: int
    """It can use a row below this one."""

    def is_fresh(self, now: float) -> bool:
        """Whether it was made a moment ago."""
        return 0 <= now - self.made < FRESH


class Places:
    """One process's access to the places of one purpose. Safe for threads; never blocks.

    ``share`` is the number of places each worker of the node is entitled to. A worker that wants a place and has none,
    or fewer than its share, demands one, which the others see (``wants_first``, ``wants_share``): whoever has more
    takes no further place then, and gives up what it can.
    """

    def __init__(
        self,
        file: Path,
        *,
        size: int,
        share: int,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make and allocate the file if it does not exist; ``tell`` is called when a demand is made. Raises OSError."""
        self.size = size
        self.share = share
        self._tell = tell
        self._clock = clock
        self._rows = Rows(file, _PLACE, count=size)
        # NOTE: reentrant, because a connection may be finalised, and its place released, anywhere in here.
        self._lock = threading.RLock()
        self._held: dict[Claim, bool] = {}
        """Places of this process; True: borrowed for another purpose."""

    @property
    def mine(self) -> int:
        """How many this process holds for its share."""
        return list(self._held.values()).count(False)

    def take(self, *, is_borrowed: bool = False, is_draining: bool = False) -> Claim | None:
        """Take a place; None if there is none now, or if others need it more."""
        with self._lock:
            now = self._clock()
            mine = self.mine
            left = 0 if is_borrowed else self._left_to_others(mine, now)
            place = self._seize_from(left, now)
            if place is not None:
                self._held[place] = is_borrowed
            elif not is_borrowed and left == 0:
                self._demand(mine, now, is_draining=is_draining)
            return place

    def release(self, place: Claim, *, after: float) -> None:
        """Give a place back; it becomes free so many seconds later. Does nothing after ``close``."""
        with self._lock:
            if self._rows.is_closed:
                return
            self._rows.write(place.number, self._clock() + after)
            self._held.pop(place, None)
            self._rows.unlock(place.number)

    def make_way(self) -> bool:
        """Leave rows that are demanded for others that the demanding process does not know; whether there was any."""
        with self._lock:
            now = self._clock()
            size = max(demand.size if demand.is_fresh(now) else 0 for demand in self._demands())
            moved = False
            for place in [place for place in self._held if place.number < size]:
                beyond = self._seize_from(size, now)
                if beyond is None:
                    break
                left, place.number = place.number, beyond.number
                self._rows.write(left, now)
                self._rows.unlock(left)
                moved = True
            return moved

    def sweep(self) -> None:
        """Look for places of dead processes; they become free some time after they were found."""
        with self._lock:
            now, held = self._clock(), self._own_rows()
            for place, (free_at,) in enumerate(self._rows.all(self.size)):
                if free_at == _HELD and place not in held and self._rows.try_lock(place):
                    self._free_if_held(place, now)
                    self._rows.unlock(place)

    def wants_first(self) -> bool:
        """Whether some process has no place at all, and wants one."""
        return self._demands()[0].is_fresh(self._clock())

    def wants_share(self) -> bool:
        """Whether some worker wants a place that it is entitled to."""
        return self._demands()[1].is_fresh(self._clock())

    def are_wanted(self) -> bool:
        """Whether some worker wants a place that another one may have to give up."""
        return self.wants_first() or self.wants_share()

    def free(self) -> int:
        """Return how many places are free now, those of dead processes that were not found so far not included."""
        now = self._clock()
        return sum(free_at != _HELD and not self._rests(free_at, now) for (free_at,) in self._rows.all(self.size))

    def close(self) -> None:
        """Give up all places as if the process had died."""
        with self._lock:
            self._rows.close()

    def _own_rows(self) -> set[int]:
        return {place.number for place in self._held}

    def _left_to_others(self, mine: int, now: float) -> int:
        """Return how many of the first rows this process leaves to others that need them more."""
        if mine == 0:
            return 0
        first, share = self._demands()
        size = first.size if first.is_fresh(now) else 0
        return max(size, share.size) if mine >= self.share and share.is_fresh(now) else size

    def _demand(self, mine: int, now: float, *, is_draining: bool) -> None:
        """Demand a place. Two processes that do so at once may lose one of two demands: it is repeated soon."""
        first, share = self._demands()
        made = Demand(now, self.size)
        if mine == 0:
            earlier = first
            self._rows.write_header(_DEMANDS, *made, *share)
        elif mine < self.share and not is_draining:
            earlier = share
            self._rows.write_header(_DEMANDS, *first, *made)
        else:
            return
        if not earlier.is_fresh(now):
            self._tell()

    def _demands(self) -> tuple[Demand, Demand]:
        first, first_size, share, share_size = self._rows.read_header(_DEMANDS)
        return Demand(first, first_size), Demand(share, share_size)

    @staticmethod
    def _rests(free_at: float, now: float) -> bool:
        """Whether it becomes free later. A time far in the future was written before the machine was restarted."""
        return free_at != _HELD and 0 < free_at - now < 2 * AFTER_CUT

    def _seize_from(self, least: int, now: float) -> Claim | None:
        """Take a row from this one on, the last one that is free.

        Of two generations with different sizes, the one that may have more should take what the other cannot.
        """
        held = self._own_rows()
        for number, (free_at,) in reversed(list(enumerate(self._rows.all(self.size)))[least:]):
            if number not in held and not self._rests(free_at, now) and self._seize(number, now):
                return Claim(number)
        return None

    def _seize(self, place: int, now: float) -> bool:
        """Take a place that seemed free, or not to be held by a living process. Another may have been faster."""
        if not self._rows.try_lock(place):
            return False
        (free_at,) = self._rows.read(place)
        if free_at == _HELD:
            self._free_if_held(place, now)
        elif not self._rests(free_at, now):
            self._rows.write(place, _HELD)
            return True
        self._rows.unlock(place)
        return False

    def _free_if_held(self, place: int, now: float) -> None:
        """Let the place of a dead process become free. Its row is locked: since then nobody else has changed it."""
        if self._rows.read(place) == (_HELD,):
            self._rows.write(place, now + AFTER_CUT)
