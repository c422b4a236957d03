"""The way to an endpoint, as all groups of a process find it: when it may be tried again after a failure.

NOTE: nothing here locks. A road is changed under the locks of several groups: of two real threads both may see it free
at the very same moment, and one connect more than there should be is tried.
"""

import os
import weakref

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 1.0
"""Seconds between two tries to connect, before jitter takes off up to half."""


class Road:
    """One endpoint: who is on the way, and when the next may set out."""

    __slots__ = ("_backoff", "connecting", "failing", "retry_at")

    def __init__(self) -> None:
        self.connecting = 0
        """Connects in flight, of all groups."""
        self.failing = False
        """The last connect that ended had failed: one at a time until one succeeds."""
        self.retry_at = 0.0
        self._backoff = 0.0

    def failed(self, now: float, jitter: float) -> None:
        """Wait before the next try, longer each time; ``jitter`` is in [0, 1)."""
        self.failing = True
        self._backoff = min(BACKOFF_LONGEST, self._backoff * 2 or BACKOFF_FIRST)
        self.retry_at = now + self._backoff * (1 - jitter / 2)

    def succeeded(self) -> None:
        """Forget that it ever failed."""
        self.failing = False
        self.forgive()

    def forgive(self) -> None:
        """Let the next try be made at once."""
        self._backoff = 0.0
        self.retry_at = 0.0


class Roads:
    """The roads to all endpoints; one for all groups of a process."""

    def __init__(self) -> None:
        self._roads: dict[str, Road] = {}
        # The child of a fork has none of the connects in flight. Groups, which are made later, start afresh after us.
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def __getitem__(self, name: str) -> Road:
        return self._roads.setdefault(name, Road())

    def _forget(self) -> None:
        self._roads.clear()
