"""Where slots and waiting requests meet: all that a group has, under its one lock.

What must follow a change (closing a connection, starting a connector) is noted as an errand under the lock, and run
after it by whoever comes to ``run_errands`` first.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Generic

from gateway.pool.growth import Connector, Growth
from gateway.pool.queue import Queue
from gateway.pool.rotation import Candidates
from gateway.pool.slot import C, Slot
from gateway.pool.stock import Stock

Lock = AbstractContextManager[Any]
"""Held for microseconds, by code that never waits and never switches to another green thread."""


class Exchange(Generic[C]):
    """Slots, queue and connectors of a group. Every method but ``run_errands`` is called with ``lock`` held."""

    def __init__(
        self,
        *,
        lock: Lock,
        stock: Stock[C],
        queue: Queue[C],
        growth: Growth[C],
        start: Callable[[Connector[C]], None],
    ) -> None:
        """``start`` sets a connector to work; it is called without the lock."""
        self.lock = lock
        self.stock = stock
        self.queue = queue
        self.growth = growth
        self.errands: deque[Callable[[], None]] = deque()
        self._start = start

    def arrange(self, candidates: Candidates, now: float) -> None:
        """Take over who may be given work."""
        self.errands += [connection.close for connection in self.stock.arrange(candidates, now)]
        self.growth.write_off()
        self.growth.wake()

    def hand_over(self, slot: Slot[C], now: float) -> None:
        """Give a good connection to the first in the queue, else let it rest."""
        slot.rested_at = now
        if self.queue:
            self.stock.pass_on(slot)
            self.queue.grant(slot)
        else:
            self.stock.rest(slot)

    def discard(self, slot: Slot[C], now: float) -> None:
        """Close a connection, and see that another is opened if somebody waits."""
        self.errands.append(self.stock.vacate(slot).close)
        self.grow(now)

    def grow(self, now: float) -> None:
        """See that connections are opened for those who wait."""
        if self.queue and self.stock.empty:
            self.enlist(self.growth.grow(len(self.queue), now))

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
