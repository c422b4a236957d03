"""How many statements of one query are in flight at a time: found out, again and again, by what calls take.

A call that goes at once on a connection of its own is answered soonest where servers and processors have time to
spare. Where they have not, or the way to the server is what takes long, it is answered sooner with others: each
statement costs both sides far more than one more call in it. Which of the two holds cannot be seen from here: it
depends on the load, on other processes, and on the network. But the mean time from a call's coming to its answer
shows it.

So there are levels: 1, 2, 4 or 8 statements in flight, or any number. For a while one level is kept; then the next
lower or higher one is tried for a moment, and the mean times before, meanwhile and after are compared. If calls took
less time meanwhile, that level is kept from then on. The times before and after are both looked at because a load that
rises or falls changes all of them.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

ANY: Final = 1 << 30
LEVELS: Final[Sequence[int]] = (1, 2, 4, 8, ANY)
"""Statements in flight."""
WINDOW = 0.04
"""Seconds over which the mean is taken, and LEAST calls at least."""
LEAST = 64
SETTLING = 0.004
"""Seconds after a change that are left out: what came before it is answered then."""
GAIN = 0.95
"""What the mean time must fall to for a level to be better."""
MOST_TIMES = 4.0
"""Times the mean before that one call's time counts as at most: a few that were held up say nothing of a level."""
SHORTEST, LONGEST = 3, 48
"""Windows for which a level is kept, at first and when trying has not helped for long."""
CROWD = 16
"""Calls at a time from which on they never go each by itself: there are not so many connections."""


class Pace:
    """The number of statements in flight for one query."""

    __slots__ = (
        "_before",
        "_count",
        "_downwards",
        "_hold",
        "_left",
        "_level",
        "_most",
        "_other",
        "_settles",
        "_sum",
        "_tried",
        "_until",
        "limit",
    )

    def __init__(self) -> None:
        self._level = len(LEVELS) - 1
        self._other = self._level
        """The one that is tried."""
        self.limit = LEVELS[self._level]
        """How many there may be."""
        self._sum = 0.0
        self._count = 0
        self._most = inf
        """Seconds of one call that count."""
        self._until = 0.0
        """When the window ends, by the clock that ``note`` is told of."""
        self._settles = False
        """Whether this is the time after a change."""
        self._hold = self._left = SHORTEST
        """For how many windows a level is kept, and for how many this one still is."""
        self._downwards = True
        """Whether the next lower level is tried next."""
        self._before = 0.0
        """The mean before a level was tried; 0.0 where none is."""
        self._tried = 0.0
        """The mean meanwhile; 0.0 before it is known."""

    def note(self, seconds: float, now: float, crowd: float) -> None:
        """Take note of a call that was answered, so long after it came; ``crowd``: how many are there at a time."""
        self._sum += min(seconds, self._most)
        self._count += 1
        if now >= self._until and (self._settles or self._count >= LEAST):
            self._end_window(now, crowd)

    def _end_window(self, now: float, crowd: float) -> None:
        mean = self._sum / self._count
        self._most = mean * MOST_TIMES
        self._sum, self._count = 0.0, 0
        self._until = now + WINDOW
        if self._settles:
            self._settles = False
        elif self._tried:
            self._compare(mean)
        elif self._before:
            self._tried = mean
            self._change(self._level, now)
        elif crowd > CROWD and self._level == len(LEVELS) - 1:
            self._level -= 1
            self._change(self._level, now)
        else:
            self._left -= 1
            if self._left <= 0:
                self._before = mean
                self._other = self._next(crowd)
                self._change(self._other, now)

    def _compare(self, after: float) -> None:
        """Keep the level that was tried, or not."""
        is_better = self._tried < GAIN * (self._before + after) / 2
        self._before = self._tried = 0.0
        if is_better:
            self._level = self._other
            self.limit = LEVELS[self._level]
            self._hold = SHORTEST
        else:
            self._downwards = not self._downwards
            self._hold = min(self._hold * 2, LONGEST)
        self._left = self._hold

    def _next(self, crowd: float) -> int:
        """The level to be tried: a neighbour, or the next one that would make a difference."""
        highest = len(LEVELS) - (2 if crowd > CROWD else 1)
        if self._level == 0:
            self._downwards = False
        elif self._level >= highest:
            self._downwards = True
        if not self._downwards:
            return self._level + 1
        level = self._level - 1
        while level > 0 and LEVELS[level] >= crowd:
            level -= 1
        return level

    def _change(self, level: int, now: float) -> None:
        self.limit = LEVELS[level]
        self._settles, self._until = True, now + SETTLING
