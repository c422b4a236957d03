"""Which of the endpoints that serve gets the next request, and where connections are too few for an even share.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from collections.abc import Sequence
from math import inf
from typing import Generic, Literal

from gateway.pool.endpoint_slots import EndpointSlots
from gateway.pool.slot import C, Slot

Balance = Literal["round_robin", "least_busy"]

SHIFT_EVERY = 5.0
"""Seconds between two shifts of the odd connection, where the slots do not divide evenly among the endpoints."""

Turns = Sequence[Sequence[EndpointSlots[C]]]
"""The endpoints to choose from, rotated so that each is the first of one sequence."""


class Balancer(Generic[C]):
    """Spreads requests over endpoints in turn or by the number of leases, and connections evenly."""

    def __init__(self, *, balance: Balance, turn: int = 0) -> None:
        """``turn``: index of the endpoint to begin with."""
        self.serving: Sequence[EndpointSlots[C]] = ()
        self.turns: Turns[C] = ()
        self.sole: EndpointSlots[C] | None = None
        """The endpoint that serves, if no other does."""
        self.pick = self._pick_least_busy if balance == "least_busy" else self._pick_in_turn
        """Of some turns: the endpoint to take a connection from (None if none is idle), and the endpoint, if any,
        that should have another connection."""
        self.richest: EndpointSlots[C] | None = None
        """The endpoint with the most connections, if all slots are taken and another endpoint has fewer."""
        self._poorest: EndpointSlots[C] | None = None
        self._turn = turn
        self._changes = 0
        self._shift_at = 0.0

    @property
    def order(self) -> Sequence[EndpointSlots[C]]:
        """All that serve, beginning with the one whose turn it was last."""
        return self.turns[self._turn % len(self.turns)] if self.turns else ()

    def arrange(self, serving: Sequence[EndpointSlots[C]]) -> None:
        """Take over which endpoints serve."""
        self.serving = serving
        self.sole = serving[0] if len(serving) == 1 else None
        self.turns = [[*serving[turn:], *serving[:turn]] for turn in range(len(serving))]

    def _pick_least_busy(self, turns: Turns[C]) -> tuple[EndpointSlots[C] | None, EndpointSlots[C] | None]:
        self._turn = turn = (self._turn + 1) % len(turns)
        best = due = None
        fewest = least = inf
        for endpoint in turns[turn]:
            leased = endpoint.leased
            if leased < least:
                due, least = endpoint, leased
            if leased < fewest and endpoint.idle:
                best, fewest = endpoint, leased
        if best is None or due is None:
            return None, None
        if best is due:
            return best, None
        due.missed = True
        return best, due if due.total < best.total else None

    def _pick_in_turn(self, turns: Turns[C]) -> tuple[EndpointSlots[C] | None, EndpointSlots[C] | None]:
        self._turn = turn = (self._turn + 1) % len(turns)
        for endpoint in turns[turn]:
            if endpoint.idle:
                due = turns[turn][0]
                if endpoint is due:
                    return endpoint, None
                due.missed = True
                return endpoint, due if due.total < endpoint.total else None
        return None, None

    def count_changed(self, endpoint: EndpointSlots[C], *, is_full: bool) -> None:
        """Note that an endpoint has one connection more or less."""
        self._changes += 1
        endpoint.changed = self._changes
        self.compare(is_full=is_full)

    def compare(self, *, is_full: bool) -> None:
        """Find the endpoints with the most and the fewest connections; of several, the one unchanged for longest."""
        self.richest = self._poorest = None
        if is_full and len(self.serving) > 1:
            richest = max(self.serving, key=lambda endpoint: (endpoint.total, -endpoint.changed))
            poorest = min(self.serving, key=lambda endpoint: (endpoint.total, endpoint.changed))
            if poorest.total < richest.total:
                self.richest, self._poorest = richest, poorest

    def to_shift(self, slot: Slot[C], now: float, *, busy: bool) -> EndpointSlots[C] | None:
        """Return where a connection should be opened instead of the one being returned in ``slot``, if anywhere.

        Only with all slots taken, from the endpoint with the most connections to the one with the fewest, if these
        are too few: requests wait (``busy``), or it was passed over for want of an idle one. A difference of one is
        shifted again and again, slowly: otherwise eight slots would give three endpoints 3, 3 and 2 parts of the work.

        Not to be called while a request waits that not every endpoint satisfies.
        """
        richest, poorest = self.richest, self._poorest
        if richest is None or poorest is None or slot.endpoint != richest.name or not (busy or poorest.missed):
            return None
        if poorest.connecting or poorest.backoff.failing or not poorest.may_connect(now):
            return None
        if richest.total - poorest.total == 1:
            is_due = 0.0 < self._shift_at <= now
            if is_due or self._shift_at == 0.0:
                self._shift_at = now + SHIFT_EVERY
            if not is_due:
                return None
        poorest.missed = False
        return poorest
