"""How many statements of one query are in flight at a time: found out, again and again, by what calls take.

A call that goes at once on a connection of its own is answered soonest where servers and processors have time to
spare. Where they have not, it is answered sooner with others: each statement costs both sides far more than one more
call in it. Which of the two holds cannot be seen from here: it depends on the load, on other processes, and on the
network. But the mean time from a call's coming to its answer shows it.

So there are levels: 1, 2, 4 or 8 statements in flight, or any number, which is that of few callers. More callers start
with one. A level is kept for a while; then another one is tried for a moment, and the mean times before, meanwhile and
after are compared. The times before and after are both looked at because a load that rises or falls changes all of
them. Single comparisons are worth little on a machine that has other work, so a level is given up when its comparisons
with another one say so on average, the newest counting most.

More statements in flight make a process's own calls faster at the expense of others on the same machine, other
workers of the node included: more server processes work for it. Each of several workers would find that it gains, and
all together would lose. So a process leaves the one statement in flight only while processors have nothing to do.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

ANY: Final = 1 << 30
LEVELS: Final[Sequence[int]] = (1, 2, 4, 8, ANY)
"""Statements in flight."""
WINDOW = 0.04
"""Seconds over which the mean is taken, and LEAST calls at least."""
LEAST = 64
SETTLING = 0.004
"""Seconds after a change that are left out: what came before it is answered then."""
MANY = 4.5
"""Calls at a time up to which every one goes at once; with more, one statement in flight is where it starts."""
CHANGED = 1.6
"""Times as many calls, or as few, with which it starts anew: what was found out of another load says little."""
GAIN, BACK = 0.95, 0.98
"""What the mean time must fall to, on average of comparisons, for a level to be better; and to return to the first."""
IDLE = 0.15
"""Part of the machine's processors that must have nothing to do for more than one statement to be tried."""
PROMISING = 0.97
"""What it must fall to in one comparison for others to be tried soon."""
MOST_TIMES = 4.0
"""Times the mean before that one call's time counts as at most: a few that were held up say nothing of a level."""
SHORTEST, LONGEST = 4, 48
"""Windows for which a level is kept, at first and when trying has not helped for long."""
CROWD = 16
"""Calls at a time from which on they never go each by itself: there are not so many connections."""


class Processors:
    """How busy the machine's processors are. One for all queries of a process."""

    LOOK = 0.2
    """Seconds between two looks. PERF: where there are many processors, each look takes a millisecond."""
    STALE = 1.0
    """Seconds since the last look after which what has been idle since then says nothing of now."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._looked_at = -inf
        self._idle = self._all = 0
        self._part = 1.0

    def idle(self, now: float) -> float:
        """Return which part of them had nothing to do lately: 0.0 at first, 1.0 where that is never to be known."""
        since = now - self._looked_at
        if since >= self.LOOK:
            self._looked_at = now
            with suppress(OSError, ValueError, IndexError):
                with self._stat.open(encoding="ascii") as file:
                    times = [int(field) for field in file.readline().split()[1:9]]
                idle, all_ = times[3] + times[4], sum(times)
                if since > self.STALE:
                    self._part = 0.0
                elif all_ > self._all:
                    self._part = (idle - self._idle) / (all_ - self._all)
                self._idle, self._all = idle, all_
        return self._part


class Pace:
    """The number of statements in flight for one query."""

    __slots__ = (
        "_before",
        "_count",
        "_crowd",
        "_first",
        "_hold",
        "_idle",
        "_left",
        "_level",
        "_most",
        "_other",
        "_ratios",
        "_settles",
        "_sum",
        "_tried",
        "_until",
        "limit",
    )

    def __init__(self, idle: Callable[[float], float] = lambda _: 1.0) -> None:
        """``idle``: as of ``Processors``."""
        self._idle = idle
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
        self._before = 0.0
        """The mean before a level was tried; 0.0 where none is."""
        self._tried = 0.0
        """The mean meanwhile; 0.0 before it is known."""
        self._start(0.0)

    def note(self, seconds: float, now: float, crowd: float) -> None:
        """Take note of a call that was answered, so long after it came; ``crowd``: how many are there at a time."""
        self._sum += min(seconds, self._most)
        self._count += 1
        if now >= self._until and (self._settles or self._count >= LEAST):
            self._end_window(now, crowd)

    def _start(self, crowd: float) -> None:
        """Begin with a load of which nothing is known."""
        self._crowd = crowd
        self._first = self._other = 0 if crowd > MANY else len(LEVELS) - 1
        self._keep(self._first)

    def _keep(self, level: int) -> None:
        """Have a level from now on."""
        self._level = level
        self.limit = LEVELS[level]
        """How many there may be."""
        self._ratios = [1.0] * len(LEVELS)
        """Of each level, how long calls take with it, relative to this one."""
        self._hold = self._left = SHORTEST

    def _end_window(self, now: float, crowd: float) -> None:
        mean = self._sum / self._count
        self._most = mean * MOST_TIMES
        self._sum, self._count = 0.0, 0
        self._until = now + WINDOW
        if not self._crowd / CHANGED <= crowd <= self._crowd * CHANGED:
            self._before = self._tried = 0.0
            self._start(crowd)
            self._settle(now)
        elif self._settles:
            self._settles = False
        elif self._tried:
            self._compare(mean)
        elif self._before:
            self._tried = mean
            self.limit = LEVELS[self._level]
            self._settle(now)
        else:
            self._left -= 1
            if self._left <= 0 and (self._level or self._first or self._idle(now) >= IDLE):
                self._before = mean
                self._other = self._next(crowd)
                self.limit = LEVELS[self._other]
                self._settle(now)

    def _compare(self, after: float) -> None:
        """Keep the level that was tried, or not."""
        ratio = self._tried / ((self._before + after) / 2)
        self._before = self._tried = 0.0
        average = self._ratios[self._other] = (self._ratios[self._other] + ratio) / 2
        if average < (BACK if self._other == self._first else GAIN):
            self._keep(self._other)
        else:
            self._hold = SHORTEST if ratio < PROMISING else min(self._hold * 2, LONGEST)
            self._left = self._hold

    def _next(self, crowd: float) -> int:
        """The level to be tried: each in its turn, but those that would make little difference."""
        for step in range(1, len(LEVELS)):
            other = (self._other - step) % len(LEVELS)
            if other != self._level and (LEVELS[other] * 2 <= crowd or (LEVELS[other] == ANY and crowd <= CROWD)):
                return other
        return self._level

    def _settle(self, now: float) -> None:
        self._settles, self._until = True, now + SETTLING
