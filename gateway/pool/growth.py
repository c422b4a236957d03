"""Who opens connections, how many at once, where, and when one may rest.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group that owns it.
"""

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple

from gateway.pool.queue import Queue
from gateway.pool.shelf import Shelf
from gateway.pool.slot import C, Slot
from gateway.pool.stock import Stock
from gateway.pool.want import ANY
from gateway.waiting import Gate

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

    gate: Gate | None
    """Where it pauses."""

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
        self.gate = None


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
    def _counted(self) -> list[Connector[C]]:
        """Connectors that can be counted on."""
        return [connector for connector in self._connectors if not connector.written_off]

    @property
    def active(self) -> int:
        """How many connectors can be counted on."""
        return len(self._counted)

    def grow(self, queue: Queue[C], now: float) -> list[Connector[C]]:
        """Enlist as many connectors as there are waiters without one, slots and endpoints; they are to be started.

        To be called when nothing idle is of use to any who waits: it may have to make room.
        """
        enlisted: list[Connector[C]] = []
        while True:
            where = self._where(queue, now)
            if isinstance(where, Shelf) and self._stock.make_room():
                enlisted.append(self._enlist(where))
                continue
            if isinstance(where, float) and all(connector.order is not None for connector in self._counted):
                enlisted.append(self._enlist(None))  # sits out the backoff
            return enlisted

    def _where(self, queue: Queue[C], now: float, *, without: Connector[C] | None = None) -> Shelf[C] | float | None:
        """Where the next connection is to be opened for those who wait, as in ``Stock.next_to_connect``.

        None also if a connector is at work for each of them, or four in all.
        """
        connectors = [connector for connector in self._counted if connector is not without]
        if not queue.picky:
            enough = len(connectors) >= min(len(queue), CONNECTORS)
            return None if enough else self._stock.next_to_connect(now)
        coming = [connector.order.target for connector in connectors if connector.order is not None]
        pausing = len(connectors) - len(coming)
        covered = 0
        waits = []
        for waiter in queue.waiters:
            mine = next((target for target in coming if self._stock.may_use(target, waiter.want)), None)
            if mine is not None:
                coming.remove(mine)
                covered += 1
            elif waiter.want is ANY and pausing:
                pausing -= 1
                covered += 1
            else:
                where = self._stock.next_to_connect(now, waiter.want)
                if isinstance(where, Shelf):
                    return where
                if where is not None:
                    waits.append(where)
            if covered == CONNECTORS:
                break
        return min(waits, default=None)

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

    def look_around(self) -> None:
        """Stop counting on connectors whose endpoint was withdrawn (their slots come home when they do); end pauses."""
        for connector in self._connectors:
            if connector.order is not None and not connector.order.target.is_candidate:
                connector.written_off = True
            gate, connector.gate = connector.gate, None
            if gate is not None:
                gate.open()

    def next(self, me: Connector[C], queue: Queue[C], now: float) -> float | None:
        """Give a connector its next order, or forget it if there is none; a number: ask again in so many seconds.

        After a connection it watches the queue for a quarter of the time that took, and opens no other while the
        queue, at the speed seen, is gone before one could be there. So fifty requests at once, with connects of
        150 ms and queries of 2 ms, end with four connections and not with fifty.
        """
        if me.order is not None:
            return None
        where = self._where(queue, now, without=me)
        if me.written_off or where is None or not self._stock.free:
            self._connectors.discard(me)
            return None
        if me.pause:
            watched_from, me.watched_from = me.watched_from, queue.granted
            if watched_from is None or len(queue) * me.pause <= (queue.granted - watched_from) * me.took:
                return me.pause
            me.pause = 0.0
        if isinstance(where, Shelf):
            self._stock.make_room()
            me.order = Order(self._stock.claim(where), where)
            return None
        return where

    def succeeded(self, me: Connector[C], order: Order[C], connection: C, *, took: float, now: float) -> bool:
        """Fill the slot; False if such a connection is not wanted (role, or endpoint withdrawn meanwhile)."""
        slot, target = order
        me.order = None
        retire_at = now + RETIRE_AFTER * (0.9 + 0.2 * self._jitter())
        self._stock.fill(slot, target, connection, now=now, retire_at=retire_at)
        target.opened(now)
        if not self._stock.is_welcome(slot, now):
            target.turned_away(now, self._jitter())
            return False
        if self.last_error is not None and self.last_error[0] == target.name:
            self.last_error = None
        me.took = took
        me.pause = min(took / 4, LONGEST_PAUSE)
        me.watched_from = None
        return True

    def failed(self, me: Connector[C], message: str, now: float, *, full: bool = False) -> None:
        """Give the order back, if there is one, and leave its endpoint alone for a while.

        ``full``: this group has no place for it, and one may come free any moment: the while is short.
        """
        if me.order is None:
            return
        slot, target = me.order
        me.order = None
        self._stock.unclaim(slot, target)
        (target.full if full else target.road.failed)(now, self._jitter())
        self.last_error = (target.name, message)

    def dismiss(self, me: Connector[C], message: str, now: float) -> None:
        """Forget a connector that was thrown out of its work, if it was."""
        self._connectors.discard(me)
        self.failed(me, message, now)
