"""How many connectors a group has, and what each of them is to do next.

A connector opens connections, one after the other, for requests that wait. It runs in a thread of its own, whose steps
are in ``connecting``.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple

from gateway.pool.endpoint_slots import EndpointSlots
from gateway.pool.group_slots import GroupSlots
from gateway.pool.lease import ANY
from gateway.pool.queue import Queue
from gateway.pool.slot import C, Slot
from gateway.waiting import Gate

CONNECTORS = 4
"""How many connections a group opens at the same time."""
LONGEST_PAUSE = 0.1
RETIRE_AFTER = 3600.0
"""Seconds for which a connection is used, plus or minus a tenth."""


class Order(NamedTuple, Generic[C]):
    """One connection to be opened."""

    slot: Slot[C]
    """Where the connection is to be put; LEASED."""
    endpoint: EndpointSlots[C]


class Pause(NamedTuple):
    """What a connector is to do instead of opening a connection: wait, then ask again."""

    gate: Gate
    """Opened early when the endpoints that may be used change."""
    seconds: float


class Connector(Generic[C]):
    """The state of one connector."""

    __slots__ = ("gate", "order", "pause", "took", "watched_from", "written_off")

    def __init__(self) -> None:
        self.order: Order[C] | None = None
        """What it is opening; None between two connections."""
        self.written_off = False
        """Its endpoint was withdrawn while it connects: it is not counted any more."""
        self.took = 0.0
        """Seconds the last connect took."""
        self.pause = 0.0
        """Seconds for which to observe the queue before another connection is opened."""
        self.watched_from: int | None = None
        """How many slots the queue had been granted when the pause began."""
        self.gate: Gate | None = None
        """What it waits at during a pause."""


class Connectors(Generic[C]):
    """The connectors of a group: at most four, and no more than there are waiters without one."""

    def __init__(self, slots: GroupSlots[C], *, jitter: Callable[[], float]) -> None:
        self._slots = slots
        self._jitter = jitter
        self._connectors: set[Connector[C]] = set()
        self.last_error: tuple[str, str] | None = None
        """Endpoint and message of the last connect that failed, until one to that endpoint succeeds."""

    @property
    def opening(self) -> int:
        """How many connections are being opened."""
        return sum(connector.order is not None for connector in self._connectors)

    @property
    def _counted(self) -> list[Connector[C]]:
        """The connectors from which a connection can be expected."""
        return [connector for connector in self._connectors if not connector.written_off]

    @property
    def active(self) -> int:
        """From how many connectors a connection can be expected."""
        return len(self._counted)

    def grow(self, queue: Queue[C], now: float) -> list[Connector[C]]:
        """Add connectors for waiters without one, as far as there are slots and endpoints. They are to be started.

        To be called only when no idle connection satisfies any waiter: it may close some to make room.
        """
        added: list[Connector[C]] = []
        while True:
            where = self._where(queue, now)
            if isinstance(where, EndpointSlots) and self._slots.make_room():
                added.append(self._add(where))
                continue
            if isinstance(where, float) and all(connector.order is not None for connector in self._counted):
                added.append(self._add(None))  # waits until the backoff is over
            return added

    def _where(
        self, queue: Queue[C], now: float, *, without: Connector[C] | None = None
    ) -> EndpointSlots[C] | float | None:
        """Return where the next connection is to be opened for the waiters, as ``GroupSlots.next_to_connect`` does.

        None also if there is a connector for each of them, or four in all.
        """
        connectors = [connector for connector in self._counted if connector is not without]
        if not queue.selective:
            enough = len(connectors) >= min(len(queue), CONNECTORS)
            return None if enough else self._slots.next_to_connect(now)
        coming = [connector.order.endpoint for connector in connectors if connector.order is not None]
        pausing = len(connectors) - len(coming)
        covered = 0
        waits = []
        for waiter in queue.waiters:
            mine = next((endpoint for endpoint in coming if self._slots.may_use(endpoint, waiter.request)), None)
            if mine is not None:
                coming.remove(mine)
                covered += 1
            elif waiter.request is ANY and pausing:
                pausing -= 1
                covered += 1
            else:
                where = self._slots.next_to_connect(now, waiter.request)
                if isinstance(where, EndpointSlots):
                    return where
                if where is not None:
                    waits.append(where)
            if covered == CONNECTORS:
                break
        return min(waits, default=None)

    def even_out(self, endpoint: EndpointSlots[C], now: float) -> list[Connector[C]]:
        """Add a connector for an endpoint that was passed over for want of a connection, though nobody waits for it."""
        is_possible = self._slots.empty and self.active < CONNECTORS and not endpoint.connecting
        return [self._add(endpoint)] if is_possible and endpoint.may_connect(now) else []

    def _add(self, endpoint: EndpointSlots[C] | None) -> Connector[C]:
        connector = Connector[C]()
        if endpoint is not None:
            connector.order = Order(self._slots.claim(endpoint), endpoint)
        self._connectors.add(connector)
        return connector

    def candidates_changed(self) -> None:
        """Stop counting connectors whose endpoint was withdrawn (their slots come back when they end); end pauses."""
        for connector in self._connectors:
            if connector.order is not None and not connector.order.endpoint.is_candidate:
                connector.written_off = True
            gate, connector.gate = connector.gate, None
            if gate is not None:
                gate.open()

    def next(self, me: Connector[C], queue: Queue[C], now: float) -> float | None:
        """Give a connector its next order, or remove it if there is none; a number: ask again in so many seconds.

        After each connection it observes the queue for a quarter of the time the connect took. It opens no other as
        long as the queue, at the rate observed, will be empty before another connection could be open. So fifty
        simultaneous requests, with connects of 150 ms and queries of 2 ms, end with four connections and not with
        fifty.
        """
        if me.order is not None:
            return None
        where = self._where(queue, now, without=me)
        if me.written_off or where is None or not self._slots.has_free:
            self._connectors.discard(me)
            return None
        if me.pause:
            watched_from, me.watched_from = me.watched_from, queue.granted
            if watched_from is None or len(queue) * me.pause <= (queue.granted - watched_from) * me.took:
                return me.pause
            me.pause = 0.0
        if isinstance(where, EndpointSlots):
            self._slots.make_room()
            me.order = Order(self._slots.claim(where), where)
            return None
        return where

    def succeeded(self, me: Connector[C], order: Order[C], connection: C, *, took: float, now: float) -> bool:
        """Fill the slot. False if the group cannot use the connection: its role, or its endpoint's standing now."""
        slot, endpoint = order
        me.order = None
        retire_at = now + RETIRE_AFTER * (0.9 + 0.2 * self._jitter())
        self._slots.fill(slot, endpoint, connection, now=now, retire_at=retire_at)
        endpoint.connected(now)
        if not self._slots.is_to_be_kept(slot, now):
            endpoint.turned_away(now, self._jitter())
            return False
        if self.last_error is not None and self.last_error[0] == endpoint.name:
            self.last_error = None
        me.took = took
        me.pause = min(took / 4, LONGEST_PAUSE)
        me.watched_from = None
        return True

    def failed(self, me: Connector[C], message: str, now: float, *, cap_reached: bool = False) -> None:
        """Take the slot of an order back, and delay the next connect to its endpoint.

        ``cap_reached``: the endpoint was not asked, because the node may have no further connection; the delay is
        short.
        """
        if me.order is None:
            return
        slot, endpoint = me.order
        me.order = None
        self._slots.unclaim(slot, endpoint)
        (endpoint.cap_reached if cap_reached else endpoint.backoff.failed)(now, self._jitter())
        self.last_error = (endpoint.name, message)

    def dismiss(self, me: Connector[C], message: str, now: float) -> None:
        """Remove a connector whose thread ends, or could not be started."""
        self._connectors.discard(me)
        self.failed(me, message, now)
