"""What a group keeps of one endpoint; bookkeeping without a lock, under the lock of its group."""

from math import inf
from typing import Generic

from gateway.pool.road import Road
from gateway.pool.slot import C, Slot

UNWELCOME = 0.1
"""Seconds after a connection that was not what the group needs (a replica's for writes), before jitter."""
FULL = 0.05
"""Seconds until the next try where a place may come free any moment, before jitter."""
TRIAL = 0.5
"""Seconds after which an endpoint that came back needs no more proof: nobody can wait for the end of a long query."""


class Shelf(Generic[C]):
    """One endpoint, as one group sees it."""

    __slots__ = (
        "_trial_ends",
        "addresses",
        "changed",
        "connecting",
        "idle",
        "is_catching_up",
        "is_gone",
        "leased",
        "missed",
        "name",
        "on_trial",
        "reserve",
        "retry_at",
        "road",
        "serving",
        "suspect",
        "total",
        "untried",
    )

    def __init__(self, name: str, road: Road) -> None:
        self.name = name
        self.road = road
        self.serving = False
        """May be given any work of this group."""
        self.reserve = False
        """May be given work that asks for it by name."""
        self.untried = False
        """May serve, for all that is known."""
        self.suspect = False
        """Was serving, and may be again in a moment: keeps its connections, gets no new work."""
        self.is_gone = False
        """Out for a reason that lets no answer be hoped for."""
        self.addresses: tuple[str, ...] = ()
        """Where connections may go; empty: anywhere."""
        self.idle: list[Slot[C]] = []
        """Last in, first out: what is not needed grows old at the bottom."""
        self.leased = 0
        """Leases of requests; slots held by connectors are not counted."""
        self.connecting = 0
        self.total = 0
        """Slots that hold a connection to this endpoint, or wait for one."""
        self.changed = 0
        """The higher, the later ``total`` last changed."""
        self.missed = False
        """It was its turn, and nothing was idle here."""
        self.retry_at = 0.0
        self.on_trial = False
        """Came back while others serve, and has not brought a connection home clean yet: gets one, no more."""
        self._trial_ends = inf
        self.is_catching_up = False
        """Came back while others serve, and has fewer connections than any of them: gets one at a time."""

    @property
    def is_candidate(self) -> bool:
        """Whether connections to it are wanted at all."""
        return self.serving or self.reserve or self.untried

    @property
    def keeps(self) -> bool:
        """Whether connections to it may rest here."""
        return self.serving or self.reserve or self.suspect

    def may_connect(self, now: float) -> bool:
        """Whether one more connection may be tried: one in flight while it fails, or before it ever worked."""
        if now < self.retry_at or now < self.road.retry_at:
            return False
        if self.road.connecting and (self.road.failing or not (self.serving or self.reserve)):
            return False
        if self.on_trial and self.total and now < self._trial_ends:
            return False
        return not (self.is_catching_up and self.connecting)

    def next_try(self, now: float) -> float | None:
        """Seconds until it is worth asking again; None: one of our own connects has to end first."""
        if self.connecting:
            return None
        wait = max(self.retry_at, self.road.retry_at) - now
        return wait if wait > 0 else UNWELCOME / 2  # another group's connect is in flight, or a trial

    def admit(self, *, on_trial: bool) -> None:
        """It may be given work again, and connects may be tried at once; ``on_trial``: it has to prove itself first."""
        self.road.forgive()
        self.retry_at = 0.0
        self.on_trial = self.is_catching_up = on_trial and self.total == 0
        self._trial_ends = inf

    def opened(self, now: float) -> None:
        """A connect has succeeded."""
        self.road.succeeded()
        if self._trial_ends == inf:
            self._trial_ends = now + TRIAL

    def full(self, now: float, jitter: float) -> None:
        """There was no place for a connection of this group, but one may come free any moment."""
        self.retry_at = now + FULL * (1 - jitter / 2)

    def turned_away(self, now: float, jitter: float) -> None:
        """A connect has succeeded, and the connection is not wanted."""
        self.retry_at = now + UNWELCOME * (1 - jitter / 2)

    def __repr__(self) -> str:
        states = ("serving", "reserve", "suspect", "untried")
        state = next((state for state in states if getattr(self, state)), "withdrawn")
        return (
            f"<Shelf {self.name} {state} [{self.leased} leased, {len(self.idle)} idle, {self.connecting} connecting]>"
        )
