"""Where slots and waiting requests of a group meet, under one lock: a monitor.

The lock
========

All state of a group (slots, queue, connectors) is read and changed with ``Exchange._lock`` held, and the lock is
acquired nowhere but in this file: public methods of ``Exchange`` acquire it, private ones are called with it held.

It is held for microseconds. Under it nothing waits, does input or output, calls the driver, reports to the rotation,
or switches to another green thread; it is not reentrant. The rotation calls its subscribers without a lock, and
they come to ``refresh``: reporting to it under this lock would deadlock. Two foreign methods are called under the lock,
because they do no more than leave a note: ``Connection.abandon`` and ``Gate.open``.

What a change requires to be done without the lock (closing a connection, starting a connector) is appended to
``_deferred`` while the lock is held. Each method runs the deferred calls after releasing the lock, before it returns.
Another thread may come between the release and that: it then runs our deferred calls together with its own. This is
harmless because each is popped once, and none depends on the thread or on state that may have changed since.

Three reads take no lock, because a value that is a moment old does no harm: ``serving``, ``__repr__`` and the counts
in error messages.

Rules that hold whenever the lock is free
=========================================

* Whoever opens, pings, uses or settles a connection has its slot LEASED: nobody else touches that connection.
* A slot changes hands when that is decided: a waiter wakes up already owning its slot.
* First come, first served among the requests that a slot satisfies. An idle connection satisfies no waiter, so that a
  later request that it satisfies takes it without overtaking anybody; a later one that it does not satisfy finds
  nothing and joins at the end. A request whose connection turned out to be dead keeps its place.
* While a request waits, every slot is leased, or no endpoint that it allows can be connected to, or a connector is at
  work or waits for the end of a backoff. ``_grow`` sees to it, and is called by whatever could end this state.
"""

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic

import msgspec

from gateway.errors import Draining, NoEndpoint, PoolTimeout, QueueFull
from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.configuration import GroupConfig
from gateway.pool.connectors import Connector, Connectors, Order, Pause
from gateway.pool.endpoint_slots import EndpointSlots
from gateway.pool.group_slots import GroupSlots
from gateway.pool.lease import ANY, LeaseRequest
from gateway.pool.queue import Queue, Waiter
from gateway.pool.slot import IDLE, C, Slot
from gateway.rotation.choosing import Candidates, candidates
from gateway.rotation.rotation import Rotation
from gateway.waiting import Waits


class GroupStats(msgspec.Struct, frozen=True):
    """Counts at one moment; leased, idle and empty add up to the size."""

    size: int
    leased: int
    """Slots in which a connection is being opened included."""
    idle: int
    empty: int
    waiting: int
    max_wait: float
    """Seconds the first in the queue has waited so far."""


class Exchange(Generic[C]):
    """The state of a group. Its public methods may be called by any thread that does not hold the lock."""

    def __init__(
        self,
        config: GroupConfig,
        *,
        rotation: Rotation,
        waits: Waits,
        backoffs: ConnectBackoffs,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        start: Callable[[Connector[C]], None],
        equip: Callable[[Slot[C]], None],
    ) -> None:
        """``start`` runs a connector in a thread of its own; ``equip`` prepares each new connection before its use."""
        self._config = config
        self._needs = config.needs
        self._rotation = rotation
        self._clock = clock
        self._start = start
        self._equip = equip
        self._gate = waits.gate
        self._lock = waits.lock()
        self._deferred = deque[Callable[[], None]]()
        self._is_closed = False
        self.slots = GroupSlots[C](
            config.endpoints,
            size=config.size,
            balance=config.balance,
            access_write=config.access_write,
            close_later=lambda connection: self._deferred.append(connection.close),
            backoffs=backoffs,
            turn=int(jitter() * len(config.endpoints)),
        )
        self.queue = Queue[C](gate=waits.gate)
        self.connectors = Connectors[C](self.slots, jitter=jitter)

    # --- requests ----------------------------------------------------------------------------------------------

    def check_out(
        self, request: LeaseRequest, deadline: float, now: float, ticket: int
    ) -> tuple[Slot[C] | None, Waiter[C] | None, int]:
        """Lease an idle connection, or join the queue: either a slot or a waiter, and the ticket.

        ``ticket`` is 0 when the request asks for the first time, later the one it was given.

        Raises Draining, PoolTimeout (the deadline has passed), QueueFull (as many wait as may, or so many that it
        could not be served in time), or NoEndpoint for reads that no endpoint may answer.
        """
        waiter = None
        with self._lock:
            if self._is_closed:
                raise self._draining()
            if now >= deadline:
                raise PoolTimeout(self.explain())
            slot, behind = self.slots.take(request)
            if slot is None:
                waiter = self._join(request, deadline, now, ticket)
                ticket = waiter.ticket
            elif not ticket:
                self.queue.drawn = ticket = self.queue.drawn + 1  # PERF: as draw() does, without the call
            if behind is not None:
                self._enlist(self.connectors.even_out(behind, now))
        if self._deferred:
            self._run_deferred()
        return slot, waiter, ticket

    def put_back(self, slot: Slot[C], now: float, *, keep: bool) -> None:
        """Take a slot back from a request; ``keep`` if its connection is clean.

        The connection goes to the first waiter it satisfies, or becomes idle. It is closed instead if it is not to be
        used again, or if its place is needed for an endpoint that has too few connections.
        """
        slots = self.slots
        with self._lock:
            wanted = bool(self.queue.waiters)
            poorer = None
            if slots.balancer.richest is not None and not self.queue.selective:
                poorer = slots.balancer.to_shift(slot, now, busy=wanted)
            if poorer is not None:
                self._shift(slot, poorer, now)
            elif not slots.put_back(slot, now, clean=keep, wanted=wanted):
                self._discard(slot, now)
            elif wanted:
                self.queue.note_use(slot.rested_at, now)
                self._hand_over(slot, now)
        if self._deferred:
            self._run_deferred()

    def take_unclean(self, rested_for: float) -> list[Slot[C]]:
        """Lease what has been idle for so many seconds with session state that is still to be reset."""
        with self._lock:
            return self.slots.take_unclean(self._clock() - rested_for)

    def leave(self, waiter: Waiter[C]) -> None:
        """Remove a waiter that gives up from the queue. Afterwards nobody gives it a slot any more.

        Its slot, if it was given one before the lock was acquired here, is the caller's to put back.
        """
        with self._lock:
            self.queue.leave(waiter)

    def is_to_be_kept(self, slot: Slot[C]) -> bool:
        """Whether the connection in this leased slot may still be used: its endpoint, role, address and age."""
        with self._lock:
            return self.slots.is_to_be_kept(slot, self._clock())

    def remove_idle(self, slot: Slot[C], connection: C) -> None:
        """Close a connection that the server has closed, if it is idle.

        By the time the lock is held it may have been leased: then whoever uses it finds out by itself. The slot may
        even hold another connection.
        """
        with self._lock:
            if slot.state is IDLE and slot.connection is connection:
                self.slots.remove(slot)
        self._run_deferred()

    # --- connectors --------------------------------------------------------------------------------------------

    def next_order(self, connector: Connector[C]) -> Order[C] | Pause | None:
        """Return what a connector is to do next; None: it is not needed any more, and has been removed.

        The gate of a pause is made before the lock is released: whoever changes the candidates after that opens it.
        """
        with self._lock:
            connector.gate = None
            seconds = self.connectors.next(connector, self.queue, self._clock())
            if seconds is not None:
                connector.gate = self._gate()
                return Pause(connector.gate, seconds)
            order = connector.order
        self._run_deferred()  # a connection may have been closed to make room
        return order

    def connected(self, connector: Connector[C], order: Order[C], connection: C, took: float) -> None:
        """Take over a new connection: it goes to the first waiter it satisfies, or becomes idle, or is closed."""
        now = self._clock()
        with self._lock:
            if self.connectors.succeeded(connector, order, connection, took=took, now=now):
                self._equip(order.slot)
                self._hand_over(order.slot, now)
                self._grow(now)
            else:
                self._discard(order.slot, now)
        self._run_deferred()

    def connect_failed(self, connector: Connector[C], message: str, *, cap_reached: bool) -> None:
        """Take a slot back in which no connection could be opened."""
        with self._lock:
            self.connectors.failed(connector, message, self._clock(), cap_reached=cap_reached)

    def dismiss(self, connector: Connector[C], message: str) -> None:
        """Remove a connector whose thread ends or could not be started; ``message`` says why, should it have an order.

        No other is started for those who wait: the next returned connection or request does.
        """
        with self._lock:
            self.connectors.dismiss(connector, message, self._clock())

    # --- all of it ---------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at the rotation again: close connections to endpoints that were withdrawn, and serve waiters.

        The rotation is read with the lock held: of two threads that refresh at the same time, the one that acquires
        the lock later must not arrange the slots by views it has read earlier.
        """
        with self._lock:
            if not self._is_closed:
                now = self._clock()
                views = [self._rotation.view(name) for name in self._config.endpoints]
                self.slots.arrange(candidates(views, self._needs), now, views)
                self.connectors.candidates_changed()
                for waiter in tuple(self.queue.waiters):
                    if self._is_hopeless(waiter.request, now):
                        self.queue.refuse(waiter, NoEndpoint(self._explain_endpoints()))
                self._serve(now)
        self._run_deferred()

    def close(self) -> None:
        """Refuse all requests from now on, those that wait included, and close what is idle."""
        with self._lock:
            self._is_closed = True
            self.slots.arrange(Candidates(), self._clock())
            self.connectors.candidates_changed()
            for waiter in tuple(self.queue.waiters):
                self.queue.refuse(waiter, self._draining())
        self._run_deferred()

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        """Close so many idle connections; ``or_leased``: if none is idle, one more when it is returned."""
        with self._lock:
            self.slots.close_idle(count, or_leased=or_leased)
        self._run_deferred()

    def retire_all(self) -> None:
        """Close every connection: idle ones now, leased ones when they are returned."""
        with self._lock:
            self.slots.retire_all()
        self._run_deferred()

    def leases(self) -> dict[str, int]:
        """Return how many requests have a connection, by endpoint."""
        with self._lock:
            return self.slots.leases()

    def leased(self) -> list[tuple[str, C]]:
        """Return every leased connection, and the endpoint it goes to. They are their users' to speak with."""
        with self._lock:
            return self.slots.leased()

    def connections(self) -> dict[tuple[str, str], float]:
        """Return the number of connections by endpoint and state."""
        with self._lock:
            return self.slots.connections()

    def stats(self) -> GroupStats:
        """Return the counts at this moment."""
        with self._lock:
            wait = self.queue.longest_wait(self._clock())
            return GroupStats(self._config.size, *self.slots.count(), len(self.queue), wait)

    def explain(self) -> str:
        """Return in one line why a request has no connection."""
        leased, idle, empty = self.slots.count()
        counts = f"group {self._config.name}: {leased} leased, {idle} idle, {empty} empty, {len(self.queue)} waiting"
        if self.connectors.last_error is not None:
            counts += "; last connect error: {}: {}".format(*self.connectors.last_error)
        return counts if self.slots.is_promising(ANY) else f"{counts}; {self._explain_endpoints()}"

    def __repr__(self) -> str:
        leased, idle, empty = self.slots.count()
        return f"{self._config.size} slots: {leased} leased, {idle} idle, {empty} empty | {len(self.queue)} waiting"

    # --- with the lock held ------------------------------------------------------------------------------------

    def _join(self, request: LeaseRequest, deadline: float, now: float, ticket: int) -> Waiter[C]:
        """Join the queue, at the end or where the ticket belongs."""
        if self._is_hopeless(request, now):
            raise NoEndpoint(self._explain_endpoints())
        if not ticket:
            beyond = len(self.queue.waiters) - self._config.queue_limit
            if beyond >= 0 and beyond >= self.slots.free + self.connectors.opening:
                raise QueueFull(self.explain())
            if not self.queue.has_chance(deadline - now, self._config.size - len(self.slots.empty), now):
                raise QueueFull(f"{self.explain()}; at their recent pace its turn would come too late")
        waiter = self.queue.join(ticket or self.queue.draw(), now, request)
        self._grow(now)
        return waiter

    def _hand_over(self, slot: Slot[C], now: float) -> None:
        """Give a good connection to the first waiter whose request it satisfies; if there is none it becomes idle.

        A waiter before that one, for whom there is no connection at all, gets the slot to have one opened: otherwise
        it could wait for ever while the connection goes from one later request to the next.
        """
        slot.rested_at = now
        for waiter in self.queue.waiters:
            if self.slots.satisfies(slot, waiter.request):
                self.slots.pass_on(slot)
                self.queue.grant(waiter, slot)
                return
            if not self.slots.empty and self.slots.is_starving(waiter.request, now):
                self._discard(slot, now)
                return
        self.slots.rest(slot)
        if self.queue.waiters:
            self._grow(now)

    def _shift(self, slot: Slot[C], poorer: EndpointSlots[C], now: float) -> None:
        """Close a returned connection, and open one to an endpoint that has fewer."""
        self.slots.put_back(slot, now, clean=False, wanted=True)
        self.slots.vacate(slot)
        self._enlist(self.connectors.even_out(poorer, now))
        self._grow(now)

    def _discard(self, slot: Slot[C], now: float) -> None:
        """Close a connection, and see that another is opened if a request waits."""
        self.slots.vacate(slot)
        self._grow(now)

    def _serve(self, now: float) -> None:
        """Give idle connections to the waiters that they have come to satisfy, and open some for the rest."""
        for waiter in tuple(self.queue.waiters):
            slot, _ = self.slots.take(waiter.request)
            if slot is not None:
                self.queue.grant(waiter, slot)
        self._grow(now)

    def _grow(self, now: float) -> None:
        """See that connections are opened for waiters; no idle one may satisfy any of them."""
        if self.queue.waiters and self.slots.has_free:
            self._enlist(self.connectors.grow(self.queue, now))

    def _enlist(self, connectors: Iterable[Connector[C]]) -> None:
        self._deferred += [partial(self._start, connector) for connector in connectors]

    def _is_hopeless(self, request: LeaseRequest, now: float) -> bool:
        """Whether waiting is of no use: reads fail at once when no endpoint may answer, writes wait for a primary."""
        may_wait = self._config.access_write or self.slots.is_promising(request)
        return not (may_wait or self._rotation.is_back_soon(now))

    def _draining(self) -> Draining:
        return Draining(f"group {self._config.name} is closed")

    def _explain_endpoints(self) -> str:
        views = "; ".join(str(self._rotation.view(name)) for name in self._config.endpoints)
        return f"no endpoint for group {self._config.name}: {views}"

    # --- without the lock --------------------------------------------------------------------------------------

    def _run_deferred(self) -> None:
        """Run what was deferred until the lock is free, by this thread or by another."""
        while self._deferred:
            try:
                call = self._deferred.popleft()
            except IndexError:  # another thread took the last one since the look above
                return
            call()
