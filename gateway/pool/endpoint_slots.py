"""The slots of a group whose connections go to one endpoint.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from enum import Enum, auto
from math import inf
from typing import Generic

from gateway.pool.backoff import ConnectBackoff
from gateway.pool.slot import C, Slot

UNWANTED_PAUSE = 0.1
"""Seconds until the next connect after a connection that the group could not use, before jitter."""
CAP_PAUSE = 0.05
"""Seconds until the next connect where the node's cap allowed none, before jitter."""
TRIAL = 0.5
"""Seconds after its first connect for which an endpoint that came back gets no second connection unless the first
one has been used and returned. It is limited because the first use may be a long query."""


class Standing(Enum):
    """What a group may use an endpoint for. Decided by the rotation; see ``rotation.choosing``."""

    SERVING = auto()
    """Any work of the group."""
    RESERVE = auto()
    """Work that asks for this endpoint by name."""
    SUSPECT = auto()
    """No new work until it has been probed; its idle connections are kept."""
    UNTRIED = auto()
    """Not probed so far. A connect may be tried, for want of an endpoint that serves."""
    WITHDRAWN = auto()
    """Nothing: connections to it are closed when they become idle."""
    GONE = auto()
    """Nothing, and what runs there is not likely to be answered: reads in progress are cancelled, to be retried."""


# PERF: Python 3.11 takes four times as long to find a member in its enum as a name in a module.
SERVING, RESERVE, SUSPECT, UNTRIED = Standing.SERVING, Standing.RESERVE, Standing.SUSPECT, Standing.UNTRIED
WITHDRAWN, GONE = Standing.WITHDRAWN, Standing.GONE

_CANDIDATES = (SERVING, RESERVE, UNTRIED)
_KEEPING = (SERVING, RESERVE, SUSPECT)


class EndpointSlots(Generic[C]):
    """One endpoint as one group sees it."""

    __slots__ = (
        "_trial_ends",
        "addresses",
        "backoff",
        "changed",
        "connecting",
        "idle",
        "is_catching_up",
        "leased",
        "missed",
        "name",
        "on_trial",
        "retry_at",
        "standing",
        "total",
    )

    def __init__(self, name: str, backoff: ConnectBackoff) -> None:
        """``backoff`` is shared with the other groups of the process."""
        self.name = name
        self.backoff = backoff
        self.standing = WITHDRAWN
        self.addresses: tuple[str, ...] = ()
        """Where connections may go; empty: anywhere."""
        self.idle: list[Slot[C]] = []
        """Used last in, first out, so that surplus connections grow old at the beginning of the list."""
        self.leased = 0
        """Leases of requests; slots held by connectors are not counted."""
        self.connecting = 0
        """Slots held by connectors."""
        self.total = 0
        """Slots that hold a connection to this endpoint, or in which one is being opened."""
        self.changed = 0
        """Grows with every change of ``total`` in the group: the higher, the later this one changed."""
        self.missed = False
        """A request went elsewhere because nothing was idle here."""
        self.retry_at = 0.0
        """No connect of this group is begun before this point of ``time.monotonic``."""
        self.on_trial = False
        """Came back while others serve, and no connection has been returned clean since: it gets one, no more."""
        self._trial_ends = inf
        self.is_catching_up = False
        """Came back while others serve, and has fewer connections than any of them: connects one at a time."""

    @property
    def is_candidate(self) -> bool:
        """Whether connections to it may be opened."""
        return self.standing in _CANDIDATES

    @property
    def keeps(self) -> bool:
        """Whether idle connections to it are kept."""
        return self.standing in _KEEPING

    def may_connect(self, now: float) -> bool:
        """Whether a connect may be begun: one at a time while they fail, or before it was ever seen to serve."""
        if now < self.retry_at or now < self.backoff.retry_at:
            return False
        if self.backoff.connecting >= (1 if self.standing is UNTRIED else self.backoff.at_once):
            return False
        if self.on_trial and self.total and now < self._trial_ends:
            return False
        return not (self.is_catching_up and self.connecting)

    def next_try(self, now: float) -> float | None:
        """Return the seconds after which to ask ``may_connect`` again; None: when a connect of this group has ended."""
        if self.connecting:
            return None
        wait = max(self.retry_at, self.backoff.retry_at) - now
        return wait if wait > 0 else UNWANTED_PAUSE / 2  # another group connects, or it is on trial

    def admit(self, *, on_trial: bool, was_down: bool) -> None:
        """Allow connects now, as it may be used again; ``on_trial``: only one, until that has been used."""
        self.backoff.allow_now()
        if was_down:
            self.backoff.ramp_up()
        self.retry_at = 0.0
        self.on_trial = self.is_catching_up = on_trial and self.total == 0
        self._trial_ends = inf

    def connected(self, now: float) -> None:
        """A connect has succeeded."""
        self.backoff.succeeded()
        if self._trial_ends == inf:
            self._trial_ends = now + TRIAL

    def cap_reached(self, now: float, jitter: float) -> None:
        """The node's cap allowed no connect. Others may close a connection at any moment, so the pause is short."""
        self.retry_at = now + CAP_PAUSE * (1 - jitter / 2)

    def turned_away(self, now: float, jitter: float) -> None:
        """A connect has succeeded, but the group cannot use the connection."""
        self.retry_at = now + UNWANTED_PAUSE * (1 - jitter / 2)

    def __repr__(self) -> str:
        counts = f"{self.leased} leased, {len(self.idle)} idle, {self.connecting} connecting"
        return f"<EndpointSlots {self.name} {self.standing.name.lower()} [{counts}]>"
