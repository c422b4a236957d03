"""Who opens connections, how many at once, where, and when one may rest.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group that owns it.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple

from gateway.pool.shelf import Shelf
from gateway.pool.slot import C, Slot
from gateway.pool.stock import Stock

if TYPE_CHECKING:
    from gateway.pool.queue import Gate

CONNECTORS = 4
"""How many connections a group opens at once."""
LONGEST_PAUSE = 0.1
RETIRE_AFTER = 3600.0
"""Seconds a connection is used for, give or take a tenth."""


def start_thread(work: Callable[[], None]) -> None:
    """Run a connector in a daemon thread."""
    threading.Thread(target=work, name="gateway-connector", daemon=True).start()


class Order(NamedTuple, Generic[C]):
    """One connection to be opened."""

    slot: Slot[C]
    """Where it goes; LEASED."""
    target: Shelf[C]


class Connector(Generic[C]):
    """Opens connections, one after the other, as long as they are wanted."""

    __slots__ = ("gate", "order", "pause", "took", "watched_from", "written_off")

    def __init__(self) -> None:
        self.order: Order[C] | None = None
        """What it is at; None between two connections."""
        self.written_off = False
        """Its endpoint was withdrawn while it connects: nobody should count on it any more."""
        self.took = 0.0
        """Seconds the last connect took."""
        self.pause = 0.0
        """Seconds to watch the queue for, before another connection is opened."""
        self.watched_from: int | None = None
        """How many slots the queue had been granted when the pause began."""
        self.gate: Gate | None = None
        """Where it pauses."""


class Growth(Generic[C]):
    """The connectors of a group: at most four, and no more than there are waiters not covered by one."""

    def __init__(self, stock: Stock[C], *, jitter: Callable[[], float]) -> None:
        self._stock = stock
        self._jitter = jitter
        self._connectors: set[Connector[C]] = set()
        self.last_error: tuple[str, str] | None = None
        """Endpoint and message of the last connect that failed, until one to that endpoint succeeds."""

    @property
    def opening(self) -> int:
        """Slots in which a connection is being opened."""
        return sum(connector.order is not None for connector in self._connectors)

    @property
    def active(self) -> int:
        """Connectors that can be counted on."""
        return sum(not connector.written_off for connector in self._connectors)

    def grow(self, waiting: int, now: float) -> list[Connector[C]]:
        """Enlist as many connectors as there are waiters without one, slots and endpoints; they are to be started."""
        enlisted: list[Connector[C]] = []
        while self._stock.empty and self.active < min(waiting, CONNECTORS):
            where = self._stock.next_to_connect(now)
            if isinstance(where, Shelf):
                enlisted.append(self._enlist(where))
                continue
            if where is not None and not self.active:
                enlisted.append(self._enlist(None))  # sits out the backoff
            break
        return enlisted

    def even_out(self, shelf: Shelf[C], now: float) -> list[Connector[C]]:
        """Enlist one for an endpoint that missed its turn for want of a connection, though nobody waits for it."""
        if self._stock.empty and self.active < CONNECTORS and not shelf.connecting and shelf.may_connect(now):
            return [self._enlist(shelf)]
        return []

    def _enlist(self, target: Shelf[C] | None) -> Connector[C]:
        connector = Connector[C]()
        if target is not None:
            connector.order = Order(self._stock.claim(target), target)
        self._connectors.add(connector)
        return connector

    def write_off(self) -> None:
        """Stop counting on connectors whose endpoint was withdrawn; their slots come home when they do."""
        for connector in self._connectors:
            if connector.order is not None and not connector.order.target.is_candidate:
                connector.written_off = True

    def wake(self) -> None:
        """End every pause: something changed."""
        for connector in self._connectors:
            gate, connector.gate = connector.gate, None
            if gate is not None:
                gate.open()

    def next(self, me: Connector[C], *, waiting: int, granted: int, now: float) -> float | None:
        """Give a connector its next order, or forget it if there is none; a number: ask again in so many seconds.

        After a connection it watches the queue for a quarter of the time that took, and opens no other while the
        queue, at the speed seen, is gone before one could be there. So fifty requests at once, with connects of
        150 ms and queries of 2 ms, end with four connections and not with fifty.
        """
        if me.order is not None:
            return None
        where = self._stock.next_to_connect(now)
        if me.written_off or where is None or not self._stock.empty or waiting < self.active:
            self._connectors.discard(me)
            return None
        if me.pause:
            watched_from, me.watched_from = me.watched_from, granted
            if watched_from is None or waiting * me.pause <= (granted - watched_from) * me.took:
                return me.pause
            me.pause = 0.0
        if isinstance(where, Shelf):
            me.order = Order(self._stock.claim(where), where)
            return None
        return where

    def succeeded(self, me: Connector[C], order: Order[C], connection: C, *, took: float, now: float) -> bool:
        """Fill the slot; False if such a connection is not wanted (role, or endpoint withdrawn meanwhile)."""
        slot, target = order
        me.order = None
        retire_at = now + RETIRE_AFTER * (0.9 + 0.2 * self._jitter())
        self._stock.fill(slot, target, connection, now=now, retire_at=retire_at)
        if not self._stock.is_welcome(slot, now):
            target.connect_failed(now, self._jitter())
            return False
        target.connect_succeeded()
        if self.last_error is not None and self.last_error[0] == target.name:
            self.last_error = None
        me.took = took
        me.pause = min(took / 4, LONGEST_PAUSE)
        me.watched_from = None
        return True

    def failed(self, me: Connector[C], message: str, now: float) -> None:
        """Give the order back, if there is one, and leave its endpoint alone for a while."""
        if me.order is None:
            return
        slot, target = me.order
        me.order = None
        self._stock.unclaim(slot, target)
        target.connect_failed(now, self._jitter())
        self.last_error = (target.name, message)

    def dismiss(self, me: Connector[C], message: str, now: float) -> None:
        """Forget a connector that was thrown out of its work, if it was."""
        self._connectors.discard(me)
        self.failed(me, message, now)
