"""Who waits for a connection, in the order of coming; bookkeeping without a wait, under the lock of its group."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol

from gateway.errors import GatewayError
from gateway.pool.slot import C, Slot


class Gate(Protocol):
    """What one request waits at, once."""

    def open(self) -> None:
        """Let the request through, now or when it comes."""

    def wait(self, seconds: float) -> None:
        """Wait until the gate opens, or for so long."""


class ThreadGate:
    """A gate for threads."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let the request through, now or when it comes."""
        self._lock.release()

    def wait(self, seconds: float) -> None:
        """Wait until the gate opens, or for so long."""
        self._lock.acquire(timeout=max(0.0, seconds))


class Waiter(Generic[C]):
    """A request in the queue; its gate opens when it has either a slot or an error."""

    __slots__ = ("error", "gate", "since", "slot", "ticket")

    def __init__(self, ticket: int, since: float, gate: Gate) -> None:
        self.ticket = ticket
        self.since = since
        self.slot: Slot[C] | None = None
        self.error: GatewayError | None = None
        self.gate = gate


class Queue(Generic[C]):
    """First come, first served, by ticket; a ticket is drawn when a request first asks."""

    def __init__(self, *, gate: Callable[[], Gate]) -> None:
        """``gate`` makes what a request waits at."""
        self._gate = gate
        self._waiters: deque[Waiter[C]] = deque()
        self._drawn = 0
        self.granted = 0
        """Slots given to waiters so far."""

    def __len__(self) -> int:
        return len(self._waiters)

    def draw(self) -> int:
        """The next ticket; the first is 1."""
        self._drawn += 1
        return self._drawn

    def join(self, ticket: int, now: float) -> Waiter[C]:
        """Stand where the ticket belongs: at the end, unless the request was served before and comes again."""
        waiter: Waiter[C] = Waiter(ticket, now, self._gate())
        if ticket == self._drawn:
            self._waiters.append(waiter)
        else:
            self._waiters.insert(sum(other.ticket < ticket for other in self._waiters), waiter)
        return waiter

    def grant(self, slot: Slot[C]) -> None:
        """Wake the first with a slot that is theirs already."""
        waiter = self._waiters.popleft()
        self.granted += 1
        waiter.slot = slot
        waiter.gate.open()

    def dismiss(self, reason: Callable[[], GatewayError]) -> None:
        """Wake everybody with an error of their own."""
        while self._waiters:
            waiter = self._waiters.popleft()
            waiter.error = reason()
            waiter.gate.open()

    def leave(self, waiter: Waiter[C]) -> None:
        """Step out, if still in it."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def longest_wait(self, now: float) -> float:
        """Seconds the first has waited; 0 if nobody waits."""
        return now - self._waiters[0].since if self._waiters else 0.0
