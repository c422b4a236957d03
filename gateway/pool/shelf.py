"""What a group keeps of one endpoint; bookkeeping without a lock, under the lock of its group."""

from typing import Generic

from gateway.pool.slot import C, Slot

BACKOFF_FIRST = 0.1
BACKOFF_LONGEST = 1.0
"""Seconds between two tries to connect, before jitter takes off up to half."""


class Shelf(Generic[C]):
    """One endpoint, as one group sees it."""

    __slots__ = (
        "_backoff",
        "connecting",
        "failing",
        "idle",
        "leased",
        "name",
        "retry_at",
        "serving",
        "suspect",
        "total",
        "untried",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.serving = False
        """May be given work of this group."""
        self.untried = False
        """May be, for all that is known."""
        self.suspect = False
        """Was serving, and a probe is to say whether it may go on: what is idle stays."""
        self.idle: list[Slot[C]] = []
        """Last in, first out: what is not needed grows old at the bottom."""
        self.leased = 0
        """Leases of requests; slots held by connectors are not counted."""
        self.connecting = 0
        self.total = 0
        """Slots that hold a connection to this endpoint, or wait for one."""
        self.failing = False
        self.retry_at = 0.0
        self._backoff = 0.0

    @property
    def is_candidate(self) -> bool:
        """Whether connections to it are wanted at all."""
        return self.serving or self.untried

    def may_connect(self, now: float) -> bool:
        """Whether one more connection may be tried: one in flight while it fails, or before it ever worked."""
        return now >= self.retry_at and not (self.connecting and (self.failing or not self.serving))

    def connect_failed(self, now: float, jitter: float) -> None:
        """Wait before the next try, longer each time; ``jitter`` is in [0, 1)."""
        self.failing = True
        self._backoff = min(BACKOFF_LONGEST, self._backoff * 2 or BACKOFF_FIRST)
        self.retry_at = now + self._backoff * (1 - jitter / 2)

    def connect_succeeded(self) -> None:
        """Forget that it ever failed."""
        self.failing = False
        self.forgive()

    def forgive(self) -> None:
        """Let the next try be made at once."""
        self._backoff = 0.0
        self.retry_at = 0.0

    def __repr__(self) -> str:
        state = "serving" if self.serving else "untried" if self.untried else "withdrawn"
        return (
            f"<Shelf {self.name} {state} [{self.leased} leased, {len(self.idle)} idle, {self.connecting} connecting]>"
        )
