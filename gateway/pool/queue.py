"""The requests of a group that wait for a connection, in the order in which they first asked for one.

NOTE: nothing here locks or waits. Everything is read and changed under the lock of the group's ``exchange``.
"""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Generic

from gateway.errors import GatewayError
from gateway.pool.lease import ANY, LeaseRequest
from gateway.pool.slot import C, Slot
from gateway.waiting import Gate

SMOOTHING = 1 / 32
"""Part that each use of a connection has in the average of how long they take."""
MOST_TIMES = 5.0
"""Times the average, and SHORT, that one use counts as at most: a process that stood still makes a few look long."""
SHORT = 0.001
"""Seconds."""
RECENT = 10.0
"""Seconds for which the average says something of the uses to come."""
SPARE = 0.3
"""Part of the time left that no wait may be expected to take: a request served just before its deadline is cut short,
and its work was for nothing."""


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
        self._busy_since = inf
        """When the queue was empty last."""
        self._use = 0.0
        """Seconds that waiters keep a slot, on average."""
        self._measured_at = -inf

    def __len__(self) -> int:
        return len(self.waiters)

    def draw(self) -> int:
        """Return the next ticket; the first is 1."""
        self.drawn += 1
        return self.drawn

    def join(self, ticket: int, now: float, request: LeaseRequest = ANY) -> Waiter[C]:
        """Add a waiter where its ticket belongs: at the end, unless the request was served before and asks again."""
        if not self.waiters:
            self._busy_since = now
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

    def note_use(self, since: float, now: float) -> None:
        """Note that a slot was returned which was leased at ``since``, if that was to a waiter of this queue.

        A slot that was idle has rested since before the queue began: when it was leased is not known.
        """
        if since < self._busy_since:
            return
        used = now - since
        if now - self._measured_at > RECENT:
            self._use = used
        else:
            self._use += (min(used, self._use * MOST_TIMES + SHORT) - self._use) * SMOOTHING
        self._measured_at = now

    def has_chance(self, seconds: float, slots: int, now: float) -> bool:
        """Whether a request that joins now can be expected to be done in time, with so many slots for all of them.

        Where nothing was measured lately it may try.
        """
        if not self.waiters or now - self._measured_at > RECENT:
            return True
        return (len(self.waiters) / max(slots, 1) + 1) * self._use <= seconds * (1 - SPARE)

    def longest_wait(self, now: float) -> float:
        """Return the seconds the first has waited; 0 if the queue is empty."""
        return now - self.waiters[0].since if self.waiters else 0.0
