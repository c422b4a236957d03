"""When a connect to an endpoint may be tried again after one that failed, for all groups of a process together.

NOTE: nothing here locks, though a backoff is changed under the locks of several groups. Two threads may both find that
a connect may be tried, at the same moment, and each begins one: one more than intended, which harms nothing.
"""

import os
import weakref
from math import inf

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 1.0
"""Seconds between two tries to connect, before jitter takes off up to half."""
RAMP_ENDS = 64
"""Connects at once from which on they are not limited any more after an outage."""


class ConnectBackoff:
    """The connect backoff of one endpoint, and the ramp by which it is connected to after it was down.

    A server that has just come back does not get all connections at once: one, then two, then four, each when those
    before it are open.
    """

    __slots__ = ("_delay", "_opened", "at_once", "connecting", "failing", "retry_at")

    def __init__(self) -> None:
        self.connecting = 0
        """Connects in progress, of all groups."""
        self.failing = False
        """The last connect that ended had failed: one at a time until one succeeds."""
        self.retry_at = 0.0
        """No connect is begun before this point of ``time.monotonic``."""
        self._delay = 0.0
        self.at_once = inf
        """How many connects may be in progress at the same time."""
        self._opened = 0
        """Connects that have succeeded since that was last changed."""

    def ramp_up(self) -> None:
        """Begin with one connect at a time."""
        self.at_once, self._opened = 1, 0

    def failed(self, now: float, jitter: float) -> None:
        """Delay the next connect, longer after each failure; ``jitter`` is in [0, 1)."""
        self.failing = True
        self.ramp_up()
        self._delay = min(BACKOFF_LONGEST, self._delay * 2 or BACKOFF_FIRST)
        self.retry_at = now + self._delay * (1 - jitter / 2)

    def succeeded(self) -> None:
        """Forget all failures; double what is allowed at once when as many have succeeded."""
        self.failing = False
        self._opened += 1
        if self._opened >= self.at_once:
            self.at_once, self._opened = (inf if self.at_once >= RAMP_ENDS else self.at_once * 2), 0
        self.allow_now()

    def allow_now(self) -> None:
        """Allow the next connect at once."""
        self._delay = 0.0
        self.retry_at = 0.0


class ConnectBackoffs:
    """The connect backoffs of all endpoints by name; one object for all groups of a process."""

    def __init__(self) -> None:
        self._backoffs: dict[str, ConnectBackoff] = {}
        # The child of a fork has none of the connects in progress. The hooks run in the order of registration: the
        # groups, which are made after this object, start afresh after it has been cleared.
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def __getitem__(self, name: str) -> ConnectBackoff:
        return self._backoffs.setdefault(name, ConnectBackoff())

    def _forget(self) -> None:
        self._backoffs.clear()
