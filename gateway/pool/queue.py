"""The requests of a group that wait for a connection, in the order in which they first asked for one.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from collections import deque
from collections.abc import Callable
from typing import Generic

from gateway.errors import GatewayError
from gateway.pool.lease import ANY, LeaseRequest
from gateway.pool.slot import C, Slot
from gateway.waiting import Gate


class Waiter(Generic[C]):
    """A request in the queue. Its gate opens when it has either a slot or an error."""

    __slots__ = ("error", "gate", "request", "since", "slot", "ticket")

    def __init__(self, ticket: int, since: float, request: LeaseRequest, gate: Gate) -> None:
        self.ticket = ticket
        self.request = request
        self.since = since
        self.slot: Slot[C] | None = None
        self.error: GatewayError | None = None
        self.gate = gate


class Queue(Generic[C]):
    """Waiters by ticket. A request draws its ticket when it first asks, and keeps it if it has to wait again."""

    def __init__(self, *, gate: Callable[[], Gate]) -> None:
        """``gate`` makes what a request waits at."""
        self._gate = gate
        self.waiters: deque[Waiter[C]] = deque()
        """In order of ticket; changed by the methods below. PERF: whether it is empty is read for every lease."""
        self.drawn = 0
        """The newest ticket."""
        self.selective = 0
        """How many waiters are not satisfied by every endpoint that serves."""
        self.granted = 0
        """Slots given to waiters so far."""

    def __len__(self) -> int:
        return len(self.waiters)

    def draw(self) -> int:
        """Return the next ticket; the first is 1."""
        self.drawn += 1
        return self.drawn

    def join(self, ticket: int, now: float, request: LeaseRequest = ANY) -> Waiter[C]:
        """Add a waiter where its ticket belongs: at the end, unless the request was served before and asks again."""
        waiter: Waiter[C] = Waiter(ticket, now, request, self._gate())
        if ticket == self.drawn:
            self.waiters.append(waiter)
        else:
            self.waiters.insert(sum(other.ticket < ticket for other in self.waiters), waiter)
        self.selective += request is not ANY
        return waiter

    def grant(self, waiter: Waiter[C], slot: Slot[C]) -> None:
        """Wake a waiter with a slot, which has been leased to it before."""
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
        """Remove a waiter, if it is still in the queue."""
        if self.waiters and self.waiters[0] is waiter:
            self.waiters.popleft()
        elif waiter in self.waiters:
            self.waiters.remove(waiter)
        else:
            return
        self.selective -= waiter.request is not ANY

    def longest_wait(self, now: float) -> float:
        """Return the seconds the first has waited; 0 if the queue is empty."""
        return now - self.waiters[0].since if self.waiters else 0.0
