"""The slots of a group, shelved by endpoint, and whose turn it is.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group that owns it.
"""

from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Generic

from gateway.pool.road import Roads
from gateway.pool.sharing import Balance, Sharing, Turns
from gateway.pool.shelf import Shelf
from gateway.pool.slot import EMPTY, IDLE, LEASED, C, Slot
from gateway.pool.want import ANY, Want
from gateway.rotation.choosing import Candidates
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role

_HOPELESS = frozenset({Reason.REFUSED, Reason.TIMEOUT, Reason.LOST, Reason.STARTING_UP, Reason.UNKNOWN})
"""Reasons of an endpoint's withdrawal for which reads in flight there had better be run elsewhere."""


class Stock(Generic[C]):
    """Slots and shelves: every change of a slot's state, with the counts that go with it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        size: int,
        balance: Balance,
        access_write: bool,
        drop: Callable[[C], None],
        roads: Roads | None = None,
        turn: int = 0,
    ) -> None:
        """``drop`` is given connections that are to be closed; ``turn`` says with which endpoint to begin."""
        self._access_write = access_write
        self._drop = drop
        self._slots = [Slot[C]() for _ in range(size)]
        self.empty = self._slots[::-1]
        roads = roads or Roads()
        self._shelves = {name: Shelf[C](name, roads[name]) for name in endpoints}
        self.sharing = Sharing[C](balance=balance, turn=turn)

    # --- who may be given work ---------------------------------------------------------------------------------

    def is_promising(self, want: Want) -> bool:
        """Whether any endpoint that the want allows may be used, now or when a probe has looked."""
        return any((shelf.suspect or self._is_open(shelf, want)) and want.allows(shelf.name) for shelf in self._all())

    @property
    def serving(self) -> tuple[str, ...]:
        """Names of the endpoints that may be given work."""
        return tuple(shelf.name for shelf in self.sharing.serving)

    def arrange(self, candidates: Candidates, now: float, views: Iterable[EndpointView] = ()) -> None:
        """Take over who may be given work, close what is withdrawn or old, call back reads that wait in vain."""
        others_serve = any(shelf.serving and shelf.total and shelf.name in candidates.serving for shelf in self._all())
        for shelf in self._all():
            was_candidate, was_suspect = shelf.is_candidate, shelf.suspect
            shelf.serving = shelf.name in candidates.serving
            shelf.reserve = shelf.name in candidates.reserve
            shelf.suspect = shelf.name in candidates.suspect
            shelf.untried = shelf.name in candidates.untried
            if shelf.is_candidate and not was_candidate:
                shelf.admit(on_trial=others_serve and not was_suspect)
        self.sharing.arrange([self._shelves[name] for name in candidates.serving])
        for view in views:
            self._look_at(view)
        self._clear(now)
        self.sharing.weigh(is_full=not self.empty)

    def _look_at(self, view: EndpointView) -> None:
        shelf = self._shelves[view.name]
        was_gone = shelf.is_gone
        shelf.is_gone = view.state is EndpointState.OUT and view.reason in _HOPELESS
        if shelf.is_gone and not was_gone:
            for slot in self._slots_of(shelf):
                if slot.state is LEASED:
                    slot.connection.abandon()
        if view.addresses != shelf.addresses:
            shelf.addresses = view.addresses
            for slot in self._slots_of(shelf):
                self._retire_if_elsewhere(slot, shelf)

    def _slots_of(self, shelf: Shelf[C]) -> list[Slot[C]]:
        return [slot for slot in self._slots if slot.endpoint == shelf.name]

    def _retire_if_elsewhere(self, slot: Slot[C], shelf: Shelf[C]) -> None:
        address = slot.connection.address
        if address and shelf.addresses and address not in shelf.addresses:
            slot.retire_at = -inf

    def _clear(self, now: float) -> None:
        for shelf in self._all():
            for slot in [slot for slot in shelf.idle if not shelf.keeps or now >= slot.retire_at]:
                self.remove(slot)

    def _all(self) -> Iterable[Shelf[C]]:
        return self._shelves.values()

    # --- wants -------------------------------------------------------------------------------------------------

    def _is_open(self, shelf: Shelf[C], want: Want) -> bool:
        """Whether its state lets it be given this work, or be tried for it."""
        return shelf.serving or shelf.untried or (shelf.reserve and want.only is not None)

    def usable(self, want: Want) -> Sequence[Shelf[C]]:
        """The shelves that may serve this want now: those to be avoided only if there is no other."""
        if want is ANY:
            return self.sharing.serving
        shelves = [
            shelf
            for shelf in self._all()
            if want.allows(shelf.name) and (shelf.serving or (shelf.reserve and want.only is not None))
        ]
        return [shelf for shelf in shelves if shelf.name not in want.avoid] or shelves

    def may_use(self, shelf: Shelf[C], want: Want) -> bool:
        """Whether a connection to be opened there would be one for this want."""
        return shelf in self.usable(want) or (shelf.untried and want.allows(shelf.name))

    def suits(self, slot: Slot[C], want: Want) -> bool:
        """Whether the connection in this slot is one for this want."""
        shelf = self._shelves[slot.endpoint]
        return shelf.serving if want is ANY else shelf in self.usable(want)

    def is_starving(self, want: Want, now: float) -> bool:
        """Whether no connection there is, nor one on its way, is for this want, though one could be opened."""
        has_none = not any(shelf.total for shelf in self.usable(want))
        return has_none and isinstance(self.next_to_connect(now, want), Shelf)

    # --- leases ------------------------------------------------------------------------------------------------

    def take(self, want: Want = ANY) -> tuple[Slot[C] | None, Shelf[C] | None]:
        """Lease an idle slot, if there is one, from the endpoint whose turn it is among those with something idle.

        The second value is the endpoint whose turn it really was, if it has nothing idle and fewer connections
        than the one that stood in for it: it wants another connection.
        """
        turns: Turns[C]
        if want is ANY:
            shelf, turns = self.sharing.sole, self.sharing.turns
        else:
            usable = self.usable(want)
            shelf, turns = (usable[0] if len(usable) == 1 else None), [usable]
        behind = None
        if shelf is None and turns:
            shelf, behind = self.sharing.pick(turns)
        if shelf is None or not shelf.idle:
            return None, None
        slot = shelf.idle.pop()
        slot.move(LEASED)
        shelf.leased += 1
        return slot, behind

    def is_welcome(self, slot: Slot[C], now: float) -> bool:
        """Whether the connection in this leased slot may be kept: endpoint, role, address and age."""
        return self._is_at_home(slot, self._shelves[slot.endpoint], now)

    def _is_at_home(self, slot: Slot[C], shelf: Shelf[C], now: float) -> bool:
        keeps = shelf.serving or shelf.keeps
        return keeps and now < slot.retire_at and (not self._access_write or slot.role is Role.PRIMARY)

    def put_back(self, slot: Slot[C], now: float, *, clean: bool, wanted: bool) -> bool:
        """A request lets go of its slot; True if it may be kept, and rests unless somebody might want it."""
        shelf = self._shelves[slot.endpoint]
        shelf.leased -= 1
        if not clean:
            return False
        shelf.on_trial = False
        if not self._is_at_home(slot, shelf, now):
            return False
        if not wanted:
            slot.rested_at = now
            slot.move(IDLE)
            shelf.idle.append(slot)
        return True

    def pass_on(self, slot: Slot[C]) -> None:
        """Lease a leased slot to the next in the queue."""
        slot.move(LEASED)
        self._shelves[slot.endpoint].leased += 1

    def rest(self, slot: Slot[C]) -> None:
        """Put a leased slot back on its shelf."""
        slot.move(IDLE)
        self._shelves[slot.endpoint].idle.append(slot)

    def vacate(self, slot: Slot[C]) -> None:
        """Empty a slot, leased or taken from its shelf; its connection, if there is one, is dropped."""
        self._empty_out(slot, self._shelves[slot.endpoint])

    def _empty_out(self, slot: Slot[C], shelf: Shelf[C]) -> None:
        connection = slot.vacate()
        self.empty.append(slot)
        self._count(shelf, -1)
        if connection is not None:
            self._drop(connection)

    def remove(self, slot: Slot[C]) -> None:
        """Empty an idle slot."""
        self._shelves[slot.endpoint].idle.remove(slot)
        self.vacate(slot)

    @property
    def free(self) -> int:
        """Slots that are empty, or could be made so."""
        return len(self.empty) + sum(len(shelf.idle) for shelf in self._all())

    def make_room(self) -> bool:
        """Empty the oldest idle slot where most are idle, unless one is empty; False if all are leased.

        To be called for those who wait, when whatever is idle is of no use to any of them.
        """
        if not self.empty:
            shelf = max(self._all(), key=_idle)
            if not shelf.idle:
                return False
            self.remove(shelf.idle[0])
        return True

    # --- connecting --------------------------------------------------------------------------------------------

    def next_to_connect(self, now: float, want: Want = ANY) -> Shelf[C] | float | None:
        """Where the next connection is to be opened: what serves before what is untried, fewest connections first.

        A number: not now, but in so many seconds. None: nowhere, or a connect in flight has to end first.
        """
        waits = []
        serving = self.sharing.order if want is ANY else self.usable(want)
        for tier in (serving, [shelf for shelf in self._all() if shelf.untried and want.allows(shelf.name)]):
            ready = [shelf for shelf in tier if shelf.may_connect(now)]
            if ready:
                return min(ready, key=_total)
            waits += [wait for shelf in tier if (wait := shelf.next_try(now)) is not None]
        return min(waits, default=None)

    def claim(self, shelf: Shelf[C]) -> Slot[C]:
        """Lease an empty slot to a connector, for a connection to this endpoint."""
        slot = self.empty.pop()
        slot.move(LEASED)
        shelf.connecting += 1
        shelf.road.connecting += 1
        self._count(shelf, 1)
        return slot

    def fill(self, slot: Slot[C], shelf: Shelf[C], connection: C, *, now: float, retire_at: float) -> None:
        """A connector has a connection for its slot, which stays LEASED."""
        self._arrive(shelf)
        slot.fill(connection, endpoint=shelf.name, now=now, retire_at=retire_at)
        self._retire_if_elsewhere(slot, shelf)
        if shelf.is_catching_up:
            others = (other.total for other in self.sharing.serving if other is not shelf)
            shelf.is_catching_up = shelf.total < min(others, default=0)

    def _count(self, shelf: Shelf[C], change: int) -> None:
        shelf.total += change
        self.sharing.changed(shelf)
        self.sharing.weigh(is_full=not self.empty)

    def unclaim(self, slot: Slot[C], shelf: Shelf[C]) -> None:
        """A connector gives its slot back empty."""
        self._arrive(shelf)
        self._empty_out(slot, shelf)

    def _arrive(self, shelf: Shelf[C]) -> None:
        shelf.connecting -= 1
        shelf.road.connecting -= 1

    # --- all of them -------------------------------------------------------------------------------------------

    def count(self) -> tuple[int, int, int]:
        """How many slots are leased, idle, empty; adds up even while somebody changes them."""
        states = [slot.state for slot in self._slots]
        return states.count(LEASED), states.count(IDLE), states.count(EMPTY)

    def leases(self) -> dict[str, int]:
        """Leases of requests in flight, by endpoint."""
        return {shelf.name: shelf.leased for shelf in self._all()}

    def part_with(self, count: int, *, leased: bool) -> None:
        """Empty so many idle slots, the longest unused first; with ``leased``, where none is, let one be the last."""
        idle = sorted((slot for shelf in self._all() for slot in shelf.idle), key=_rested)
        for slot in idle[:count]:
            self.remove(slot)
        if leased and not idle:
            out = [slot for slot in self._slots if slot.state is LEASED and slot.is_filled]
            if out and all(slot.retire_at > 0 for slot in out):
                out[0].retire_at = -inf

    def forget(self) -> None:
        """Drop every connection without closing it: after a fork they are the parent's."""
        for slot in self._slots:
            if slot.state is not EMPTY:
                slot.vacate()


def _total(shelf: Shelf[C]) -> int:
    return shelf.total


def _idle(shelf: Shelf[C]) -> int:
    return len(shelf.idle)


def _rested(slot: Slot[C]) -> float:
    return slot.rested_at
