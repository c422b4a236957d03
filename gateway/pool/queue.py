"""Who waits for a connection, in the order of coming; bookkeeping without a wait, under the lock of its group."""

from collections import deque
from collections.abc import Callable
from typing import Generic

from gateway.errors import GatewayError
from gateway.pool.slot import C, Slot
from gateway.pool.want import ANY, Want
from gateway.waiting import Gate


class Waiter(Generic[C]):
    """A request in the queue; its gate opens when it has either a slot or an error."""

    __slots__ = ("error", "gate", "since", "slot", "ticket", "want")

    def __init__(self, ticket: int, since: float, want: Want, gate: Gate) -> None:
        self.ticket = ticket
        self.want = want
        self.since = since
        self.slot: Slot[C] | None = None
        self.error: GatewayError | None = None
        self.gate = gate


class Queue(Generic[C]):
    """First come, first served among those whom a slot suits, by ticket, which is drawn when a request first asks."""

    def __init__(self, *, gate: Callable[[], Gate]) -> None:
        """``gate`` makes what a request waits at."""
        self._gate = gate
        self.waiters: deque[Waiter[C]] = deque()
        """In their order; changed by the methods below. PERF: whether it is empty is asked for every lease."""
        self.drawn = 0
        """The newest ticket."""
        self.picky = 0
        """How many of those who wait do not take any endpoint that serves."""
        self.granted = 0
        """Slots given to waiters so far."""

    def __len__(self) -> int:
        return len(self.waiters)

    def draw(self) -> int:
        """The next ticket; the first is 1."""
        self.drawn += 1
        return self.drawn

    def join(self, ticket: int, now: float, want: Want = ANY) -> Waiter[C]:
        """Stand where the ticket belongs: at the end, unless the request was served before and comes again."""
        waiter: Waiter[C] = Waiter(ticket, now, want, self._gate())
        if ticket == self.drawn:
            self.waiters.append(waiter)
        else:
            self.waiters.insert(sum(other.ticket < ticket for other in self.waiters), waiter)
        self.picky += want is not ANY
        return waiter

    def grant(self, waiter: Waiter[C], slot: Slot[C]) -> None:
        """Wake a waiter with a slot that is theirs already."""
        self.leave(waiter)
        self.granted += 1
        waiter.slot = slot
        waiter.gate.open()

    def refuse(self, waiter: Waiter[C], error: GatewayError) -> None:
        """Wake a waiter with an error."""
        self.leave(waiter)
        waiter.error = error
        waiter.gate.open()

    def leave(self, waiter: Waiter[C]) -> None:
        """Step out, if still in it."""
        if self.waiters and self.waiters[0] is waiter:
            self.waiters.popleft()
        elif waiter in self.waiters:
            self.waiters.remove(waiter)
        else:
            return
        self.picky -= waiter.want is not ANY

    def longest_wait(self, now: float) -> float:
        """Seconds the first has waited; 0 if nobody waits."""
        return now - self.waiters[0].since if self.waiters else 0.0
