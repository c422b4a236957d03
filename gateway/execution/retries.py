"""When a request may be run once more: which failures allow it, and how many reads in all.

A read may, if the server it was on is to blame, or the way to it. A write may only if it provably did not execute.
"""

import threading
from collections import deque

from gateway.errors import BackendUnavailable, ConnectionLost, GatewayError, NoEndpoint, Outcome

WINDOW = 10
"""Seconds over which the budget looks."""
MOST_ATTEMPTS = 5
"""Of a write: a server that takes connections and breaks each must not be asked for ever."""

_SHUTTING_DOWN = frozenset({"57P01", "57P02", "57P03"})
_RECOVERY_CONFLICT = frozenset({"40001", "40P01"})
"""As BackendUnavailable: on a standby only (``postgres.failures``)."""


class RetryBudget:
    """How many reads of a group this process may run once more: a share of the reads of the last ten seconds.

    When a server dies under many reads at once they all may, up to ``least``; when everything fails, all the time,
    the load on what is left stays bounded.
    """

    __slots__ = ("_least", "_lock", "_past", "_reads", "_retries", "_second", "_share")

    def __init__(self, *, share: float, least: int) -> None:
        """``share`` of the reads, and never fewer than ``least`` in ten seconds."""
        self._share = share
        self._least = least
        self._lock = threading.Lock()
        self._past: deque[tuple[int, int, int]] = deque()
        """Seconds that are over: which, its reads, its retries."""
        self._second = 0
        self._reads = 0
        self._retries = 0

    def note(self, now: float, count: int = 1) -> None:
        """Reads have come."""
        if now >= self._second + 1:
            self._roll(int(now))
        # NOTE: without the lock; that two threads count as one now and then does no harm.
        self._reads += count

    def spend(self, now: float) -> bool:
        """Whether one read more may be run again; if so, it counts."""
        if now >= self._second + 1:
            self._roll(int(now))
        with self._lock:
            reads = self._reads + sum(reads for _, reads, _ in self._past)
            retries = self._retries + sum(retries for _, _, retries in self._past)
            if retries + 1 > max(self._least, self._share * reads):
                return False
            self._retries += 1
            return True

    def _roll(self, second: int) -> None:
        with self._lock:
            if second <= self._second:
                return
            self._past.append((self._second, self._reads, self._retries))
            self._second, self._reads, self._retries = second, 0, 0
            while self._past and self._past[0][0] <= second - WINDOW:
                self._past.popleft()


def may_succeed_elsewhere(error: GatewayError) -> bool:
    """Whether a read failed for a reason that says nothing of the query: its server or the way to it was lost."""
    if isinstance(error, ConnectionLost):
        return True
    return isinstance(error, BackendUnavailable) and error.sqlstate in _SHUTTING_DOWN | _RECOVERY_CONFLICT


def did_not_execute(error: GatewayError) -> bool:
    """Whether a write that failed on a server provably did not execute, and may on another, or on the same restarted.

    NoEndpoint from a server is its saying that it has become a replica (25006).
    """
    if error.served is None or error.outcome is not Outcome.NOT_EXECUTED:
        return False
    if isinstance(error, BackendUnavailable):
        return error.sqlstate in _SHUTTING_DOWN
    return isinstance(error, NoEndpoint | ConnectionLost)
