"""When a connect to an endpoint may be tried again after one that failed, for all groups of a process together.

NOTE: nothing here locks, though a backoff is changed under the locks of several groups. Two threads may both find that
a connect may be tried, at the same moment, and each begins one: one more than intended, which harms nothing.
"""

import os
import weakref

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 1.0
"""Seconds between two tries to connect, before jitter takes off up to half."""


class ConnectBackoff:
    """The connect backoff of one endpoint."""

    __slots__ = ("_delay", "connecting", "failing", "retry_at")

    def __init__(self) -> None:
        self.connecting = 0
        """Connects in progress, of all groups."""
        self.failing = False
        """The last connect that ended had failed: one at a time until one succeeds."""
        self.retry_at = 0.0
        """No connect is begun before this point of ``time.monotonic``."""
        self._delay = 0.0

    def failed(self, now: float, jitter: float) -> None:
        """Delay the next connect, longer after each failure; ``jitter`` is in [0, 1)."""
        self.failing = True
        self._delay = min(BACKOFF_LONGEST, self._delay * 2 or BACKOFF_FIRST)
        self.retry_at = now + self._delay * (1 - jitter / 2)

    def succeeded(self) -> None:
        """Forget all failures."""
        self.failing = False
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
