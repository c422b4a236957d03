"""The slots of a group: every change of a slot's state, with the counts of its endpoint that change with it.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Generic

from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.balancing import Balance, Balancer, Turns
from gateway.pool.endpoint_slots import (
    GONE,
    RESERVE,
    SERVING,
    SUSPECT,
    UNTRIED,
    WITHDRAWN,
    EndpointSlots,
    Standing,
)
from gateway.pool.lease import ANY, LeaseRequest
from gateway.pool.slot import EMPTY, IDLE, LEASED, C, Slot
from gateway.rotation.choosing import Candidates
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role

_NOT_ANSWERING = frozenset({Reason.REFUSED, Reason.TIMEOUT, Reason.LOST, Reason.STARTING_UP, Reason.UNKNOWN})
"""Reasons for which an endpoint is out that make it unlikely that reads in progress there are ever answered."""


class GroupSlots(Generic[C]):
    """The slots of a group, by the endpoint that their connections go to."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        size: int,
        balance: Balance,
        access_write: bool,
        close_later: Callable[[C], None],
        backoffs: ConnectBackoffs,
        turn: int = 0,
    ) -> None:
        """``close_later`` is given each connection that is to be closed; ``turn``: index of the first endpoint used."""
        self._access_write = access_write
        self._close_later = close_later
        self._slots = [Slot[C]() for _ in range(size)]
        self.empty = self._slots[::-1]
        self._endpoints = {name: EndpointSlots[C](name, backoffs[name]) for name in endpoints}
        self.balancer = Balancer[C](balance=balance, turn=turn)

    # --- which endpoints may be used ---------------------------------------------------------------------------

    def is_promising(self, request: LeaseRequest) -> bool:
        """Whether an endpoint that the request allows may be used, now or after a probe."""
        if request is ANY and self.balancer.serving:
            return True  # PERF: read whenever a request has to wait
        return any(
            (endpoint.standing is SUSPECT or self._is_open(endpoint, request)) and request.allows(endpoint.name)
            for endpoint in self._all()
        )

    @property
    def serving(self) -> tuple[str, ...]:
        """Names of the endpoints that may be given any work."""
        return tuple(endpoint.name for endpoint in self.balancer.serving)

    def arrange(self, candidates: Candidates, now: float, views: Iterable[EndpointView] = ()) -> None:
        """Take over which endpoints may be used: close idle connections to others, cancel reads that cannot end."""
        others_serve = any(
            endpoint.standing is SERVING and endpoint.total and endpoint.name in candidates.serving
            for endpoint in self._all()
        )
        by_name = {view.name: view for view in views}
        for endpoint in self._all():
            self._move(endpoint, _standing(candidates, endpoint.name, by_name.get(endpoint.name)), others_serve)
        self.balancer.arrange([self._endpoints[name] for name in candidates.serving])
        for view in by_name.values():
            self._follow(self._endpoints[view.name], view.addresses)
        for endpoint in self._all():
            for slot in [slot for slot in endpoint.idle if not endpoint.keeps or now >= slot.retire_at]:
                self.remove(slot)
        self.balancer.compare(is_full=not self.empty)

    def _move(self, endpoint: EndpointSlots[C], standing: Standing, others_serve: bool) -> None:
        """Change the standing of an endpoint, with what follows from that."""
        before, was_candidate = endpoint.standing, endpoint.is_candidate
        endpoint.standing = standing
        if endpoint.is_candidate and not was_candidate:
            endpoint.admit(on_trial=others_serve and before is not SUSPECT, was_down=before is GONE)
        if standing is GONE and before is not GONE:
            for slot in self._slots_of(endpoint):
                if slot.state is LEASED:
                    slot.connection.abandon()

    def _follow(self, endpoint: EndpointSlots[C], addresses: tuple[str, ...]) -> None:
        """Take over what the endpoint's host name resolves to; connections to other addresses are not kept."""
        if addresses != endpoint.addresses:
            endpoint.addresses = addresses
            for slot in self._slots_of(endpoint):
                self._retire_if_elsewhere(slot, endpoint)

    def _slots_of(self, endpoint: EndpointSlots[C]) -> list[Slot[C]]:
        return [slot for slot in self._slots if slot.endpoint == endpoint.name]

    def _retire_if_elsewhere(self, slot: Slot[C], endpoint: EndpointSlots[C]) -> None:
        address = slot.connection.address
        if address and endpoint.addresses and address not in endpoint.addresses:
            slot.retire_at = -inf

    def _all(self) -> Iterable[EndpointSlots[C]]:
        return self._endpoints.values()

    # --- requests ----------------------------------------------------------------------------------------------

    def _is_open(self, endpoint: EndpointSlots[C], request: LeaseRequest) -> bool:
        """Whether its standing lets it be used for this request, or be tried for it."""
        return endpoint.standing is UNTRIED or self._serves(endpoint, request)

    def _serves(self, endpoint: EndpointSlots[C], request: LeaseRequest) -> bool:
        return endpoint.standing is SERVING or (endpoint.standing is RESERVE and request.only is not None)

    def usable(self, request: LeaseRequest) -> Sequence[EndpointSlots[C]]:
        """Return the endpoints that satisfy this request now, those to be avoided only if there is no other."""
        if request is ANY:
            return self.balancer.serving
        endpoints = [
            endpoint for endpoint in self._all() if request.allows(endpoint.name) and self._serves(endpoint, request)
        ]
        return [endpoint for endpoint in endpoints if endpoint.name not in request.avoid] or endpoints

    def may_use(self, endpoint: EndpointSlots[C], request: LeaseRequest) -> bool:
        """Whether a connection to be opened to this endpoint would satisfy the request."""
        return endpoint in self.usable(request) or (endpoint.standing is UNTRIED and request.allows(endpoint.name))

    def satisfies(self, slot: Slot[C], request: LeaseRequest) -> bool:
        """Whether the connection in this slot satisfies the request."""
        endpoint = self._endpoints[slot.endpoint]
        return endpoint.standing is SERVING if request is ANY else endpoint in self.usable(request)

    def is_starving(self, request: LeaseRequest, now: float) -> bool:
        """Whether no connection there is or is being opened satisfies the request, though one could be opened."""
        has_none = not any(endpoint.total for endpoint in self.usable(request))
        return has_none and isinstance(self.next_to_connect(now, request), EndpointSlots)

    # --- leases ------------------------------------------------------------------------------------------------

    def take(self, request: LeaseRequest = ANY) -> tuple[Slot[C] | None, EndpointSlots[C] | None]:
        """Lease an idle slot, if there is one, of the endpoint whose turn it is among those with idle connections.

        The second value is the endpoint that would have been used if it had had an idle connection, provided that it
        has fewer connections than the one used instead: it should get another one.
        """
        turns: Turns[C]
        if request is ANY:
            endpoint, turns = self.balancer.sole, self.balancer.turns
        else:
            usable = self.usable(request)
            endpoint, turns = (usable[0] if len(usable) == 1 else None), [usable]
        behind = None
        if endpoint is None and turns:
            endpoint, behind = self.balancer.pick(turns)
        if endpoint is None or not endpoint.idle:
            return None, None
        slot = endpoint.idle.pop()
        slot.move(LEASED)
        endpoint.leased += 1
        return slot, behind

    def is_to_be_kept(self, slot: Slot[C], now: float) -> bool:
        """Whether the connection in this leased slot may be used again: its endpoint, role, address and age."""
        return self._is_to_be_kept(slot, self._endpoints[slot.endpoint], now)

    def _is_to_be_kept(self, slot: Slot[C], endpoint: EndpointSlots[C], now: float) -> bool:
        keeps = endpoint.standing is SERVING or endpoint.keeps
        return keeps and now < slot.retire_at and (not self._access_write or slot.role is Role.PRIMARY)

    def put_back(self, slot: Slot[C], now: float, *, clean: bool, wanted: bool) -> bool:
        """Take a slot back from a request. Return whether its connection may be used again.

        If so, the slot becomes IDLE, unless a waiter may get it (``wanted``): then it stays LEASED, for the caller to
        decide. If not, the caller has to ``vacate`` it.
        """
        endpoint = self._endpoints[slot.endpoint]
        endpoint.leased -= 1
        if not clean:
            return False
        endpoint.on_trial = False
        if not self._is_to_be_kept(slot, endpoint, now):
            return False
        if not wanted:
            slot.rested_at = now
            slot.move(IDLE)
            endpoint.idle.append(slot)
        return True

    def take_unclean(self, rested_before: float) -> list[Slot[C]]:
        """Lease the idle slots whose connections have session state to be reset, and have not been used since then."""
        found = []
        for endpoint in self._all():
            for slot in tuple(endpoint.idle):
                if slot.connection.owes_reset and slot.rested_at <= rested_before:
                    endpoint.idle.remove(slot)
                    slot.move(LEASED)
                    endpoint.leased += 1
                    found.append(slot)
        return found

    def pass_on(self, slot: Slot[C]) -> None:
        """Lease a leased slot to the next in the queue."""
        slot.move(LEASED)
        self._endpoints[slot.endpoint].leased += 1

    def rest(self, slot: Slot[C]) -> None:
        """Make a leased slot idle."""
        slot.move(IDLE)
        self._endpoints[slot.endpoint].idle.append(slot)

    def vacate(self, slot: Slot[C]) -> None:
        """Empty a leased slot; its connection, if there is one, will be closed."""
        self._empty_out(slot, self._endpoints[slot.endpoint])

    def _empty_out(self, slot: Slot[C], endpoint: EndpointSlots[C]) -> None:
        connection = slot.vacate()
        self.empty.append(slot)
        self._count(endpoint, -1)
        if connection is not None:
            self._close_later(connection)

    def remove(self, slot: Slot[C]) -> None:
        """Empty an idle slot; its connection will be closed."""
        self._endpoints[slot.endpoint].idle.remove(slot)
        self.vacate(slot)

    @property
    def free(self) -> int:
        """How many slots are empty or idle."""
        return len(self.empty) + sum(len(endpoint.idle) for endpoint in self._all())

    @property
    def has_free(self) -> bool:
        """Whether there is one."""
        if self.empty:
            return True
        for endpoint in self._endpoints.values():  # noqa: SIM110 -- PERF: a generator costs as much as all the rest
            if endpoint.idle:
                return True
        return False

    def make_room(self) -> bool:
        """See that a slot is empty, if need be by closing the oldest idle connection of the endpoint with the most.

        Only to be called for waiters, when no idle connection satisfies any of them. False if all slots are leased.
        """
        if not self.empty:
            endpoint = max(self._all(), key=_idle)
            if not endpoint.idle:
                return False
            self.remove(endpoint.idle[0])
        return True

    # --- connecting --------------------------------------------------------------------------------------------

    def next_to_connect(self, now: float, request: LeaseRequest = ANY) -> EndpointSlots[C] | float | None:
        """Return where the next connection should be opened: endpoints that serve first, then by fewest connections.

        A number: not now, but in so many seconds. None: nowhere, or not before a connect in progress has ended.
        """
        waits = []
        serving = self.balancer.order if request is ANY else self.usable(request)
        untried = [each for each in self._all() if each.standing is UNTRIED and request.allows(each.name)]
        for tier in (serving, untried):
            ready = [endpoint for endpoint in tier if endpoint.may_connect(now)]
            if ready:
                return min(ready, key=_total)
            waits += [wait for endpoint in tier if (wait := endpoint.next_try(now)) is not None]
        return min(waits, default=None)

    def claim(self, endpoint: EndpointSlots[C]) -> Slot[C]:
        """Lease an empty slot to a connector, for a connection to this endpoint."""
        slot = self.empty.pop()
        slot.move(LEASED)
        endpoint.connecting += 1
        endpoint.backoff.connecting += 1
        self._count(endpoint, 1)
        return slot

    def fill(self, slot: Slot[C], endpoint: EndpointSlots[C], connection: C, *, now: float, retire_at: float) -> None:
        """Put the connection of a connector into its slot, which stays LEASED."""
        self._connect_ended(endpoint)
        slot.fill(connection, endpoint=endpoint.name, now=now, retire_at=retire_at)
        self._retire_if_elsewhere(slot, endpoint)
        if endpoint.is_catching_up:
            others = (other.total for other in self.balancer.serving if other is not endpoint)
            endpoint.is_catching_up = endpoint.total < min(others, default=0)

    def unclaim(self, slot: Slot[C], endpoint: EndpointSlots[C]) -> None:
        """Take a slot back from a connector that has no connection for it."""
        self._connect_ended(endpoint)
        self._empty_out(slot, endpoint)

    def _connect_ended(self, endpoint: EndpointSlots[C]) -> None:
        endpoint.connecting -= 1
        endpoint.backoff.connecting -= 1

    def _count(self, endpoint: EndpointSlots[C], change: int) -> None:
        endpoint.total += change
        self.balancer.count_changed(endpoint, is_full=not self.empty)

    # --- all of them -------------------------------------------------------------------------------------------

    def count(self) -> tuple[int, int, int]:
        """Return how many slots are leased, idle and empty. Without the lock the sum is right and each a little old."""
        states = [slot.state for slot in self._slots]
        return states.count(LEASED), states.count(IDLE), states.count(EMPTY)

    def leases(self) -> dict[str, int]:
        """Return the number of requests that have a connection, by endpoint."""
        return {endpoint.name: endpoint.leased for endpoint in self._all()}

    def leased(self) -> list[tuple[str, C]]:
        """Return every leased connection, and the endpoint it goes to."""
        return [(slot.endpoint, slot.connection) for slot in self._slots if slot.state is LEASED and slot.is_filled]

    def connections(self) -> dict[tuple[str, str], float]:
        """Return the number of connections by endpoint and state: leased, idle, or connecting."""
        return {
            (endpoint.name, state): float(count)
            for endpoint in self._all()
            for state, count in (
                ("leased", endpoint.leased),
                ("idle", len(endpoint.idle)),
                ("connecting", endpoint.connecting),
            )
        }

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        """Empty so many idle slots, those unused for longest first.

        ``or_leased``: if none is idle, close one leased connection when it is returned; asked again before that
        happens, no second one.
        """
        idle = sorted((slot for endpoint in self._all() for slot in endpoint.idle), key=_rested_at)
        for slot in idle[:count]:
            self.remove(slot)
        if or_leased and not idle:
            leased = [slot for slot in self._slots if slot.state is LEASED and slot.is_filled]
            if leased and all(slot.retire_at > 0 for slot in leased):
                leased[0].retire_at = -inf

    def retire_all(self) -> None:
        """Close every connection: idle ones now, leased ones when they are returned."""
        for slot in [slot for endpoint in self._all() for slot in endpoint.idle]:
            self.remove(slot)
        for slot in self._slots:
            if slot.is_filled:
                slot.retire_at = -inf

    def forget(self) -> None:
        """Empty all slots without closing their connections: after a fork they belong to the parent."""
        for slot in self._slots:
            if slot.state is not EMPTY:
                slot.vacate()


def _standing(candidates: Candidates, name: str, view: EndpointView | None) -> Standing:
    if name in candidates.serving:
        return SERVING
    if name in candidates.reserve:
        return RESERVE
    if name in candidates.suspect:
        return SUSPECT
    if name in candidates.untried:
        return UNTRIED
    is_gone = view is not None and view.state is EndpointState.OUT and view.reason in _NOT_ANSWERING
    return GONE if is_gone else WITHDRAWN


def _total(endpoint: EndpointSlots[C]) -> int:
    return endpoint.total


def _idle(endpoint: EndpointSlots[C]) -> int:
    return len(endpoint.idle)


def _rested_at(slot: Slot[C]) -> float:
    return slot.rested_at
