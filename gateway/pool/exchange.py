"""Where slots and waiting requests meet: all that a group has, under its one lock.

What must follow a change (closing a connection, starting a connector) is noted as an errand under the lock, and run
after it by whoever comes to ``run_errands`` first.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic

from gateway.pool.growth import Connector, Growth
from gateway.pool.queue import Queue
from gateway.pool.slot import C, Slot
from gateway.pool.stock import Stock
from gateway.waiting import Lock


class Exchange(Generic[C]):
    """Slots, queue and connectors of a group. Every method but ``run_errands`` is called with ``lock`` held."""

    def __init__(
        self,
        *,
        lock: Lock,
        stock: Stock[C],
        queue: Queue[C],
        growth: Growth[C],
        errands: deque[Callable[[], None]],
        start: Callable[[Connector[C]], None],
    ) -> None:
        """``start`` sets a connector to work; it is called without the lock."""
        self.lock = lock
        self.stock = stock
        self.queue = queue
        self.growth = growth
        self.errands = errands
        self._start = start

    def put_back(self, slot: Slot[C], now: float, *, keep: bool) -> None:
        """Take a slot back from a request; ``keep`` if its connection came back clean."""
        stock = self.stock
        wanted = bool(self.queue.waiters)
        poorer = None
        if stock.sharing.richest is not None and not self.queue.picky:
            poorer = stock.sharing.to_shift(slot, now, busy=wanted)
        if poorer is not None:
            stock.put_back(slot, now, clean=False, wanted=True)
            stock.vacate(slot)
            self.enlist(self.growth.even_out(poorer, now))
            self.grow(now)
        elif not stock.put_back(slot, now, clean=keep, wanted=wanted):
            self.discard(slot, now)
        elif wanted:
            self.hand_over(slot, now)

    def hand_over(self, slot: Slot[C], now: float) -> None:
        """Give a good connection to the first in the queue whom it suits, else let it rest.

        Where it would pass by somebody for whom there is no connection at all, it makes room for one: else they
        might wait for ever while others come and go.
        """
        slot.rested_at = now
        for waiter in self.queue.waiters:
            if self.stock.suits(slot, waiter.want):
                self.stock.pass_on(slot)
                self.queue.grant(waiter, slot)
                return
            if not self.stock.empty and self.stock.is_starving(waiter.want, now):
                self.discard(slot, now)
                return
        self.stock.rest(slot)
        if self.queue.waiters:
            self.grow(now)

    def discard(self, slot: Slot[C], now: float) -> None:
        """Close a connection, and see that another is opened if somebody waits."""
        self.stock.vacate(slot)
        self.grow(now)

    def serve(self, now: float) -> None:
        """Give those who wait what is idle, as far as it has come to suit them, and see to the rest."""
        for waiter in tuple(self.queue.waiters):
            slot, _ = self.stock.take(waiter.want)
            if slot is not None:
                self.queue.grant(waiter, slot)
        self.grow(now)

    def grow(self, now: float) -> None:
        """See that connections are opened for those who wait; nothing idle may be of use to any of them."""
        if self.queue.waiters and self.stock.free:
            self.enlist(self.growth.grow(self.queue, now))

    def enlist(self, connectors: Iterable[Connector[C]]) -> None:
        """Have these connectors set to work."""
        self.errands += [partial(self._start, connector) for connector in connectors]

    def run_errands(self) -> None:
        """Do what was noted under the lock, by this thread or another. Lock not held."""
        while self.errands:
            try:
                errand = self.errands.popleft()
            except IndexError:
                return
            errand()
