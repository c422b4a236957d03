"""Connections with one purpose: one rotation, one queue. A request's way through them is here.

The rules, and where they are kept:

* State changes under one lock, which nobody holds for longer than that takes; the network is spoken to outside it
  (``exchange``). Whoever connects, pings or settles a connection has its slot LEASED.
* A slot changes owner when the decision is made: a waiting request wakes up already holding it
  (``Exchange.hand_over``).
* First come, first served, no barging, among those whom a slot suits: what is idle suits nobody who waits, so who
  comes later and wants the same finds nothing and stands at the end. Only a request whose connection turned out dead
  takes its old place again.
* While anybody waits, either every slot is taken, or no endpoint that they want is to be had, or a connector is at
  work or will be when its backoff ends (``Exchange.grow``, called wherever that could cease to hold).

Requests wait for leases, never for a connect: connections are opened by connectors, in threads of their own
(``opening``), and whichever is there first, a returned connection or a new one, goes to the first whom it suits.
"""

import os
import random
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic

import msgspec

from gateway.errors import Draining, NoEndpoint, PoolTimeout, QueueFull
from gateway.pool.driver import ConnectionBroken, Driver
from gateway.pool.exchange import Exchange
from gateway.pool.growth import Connector, Growth, start_thread
from gateway.pool.lease import Lease
from gateway.pool.opening import Opening
from gateway.pool.queue import Queue, Waiter
from gateway.pool.road import Roads
from gateway.pool.sharing import Balance
from gateway.pool.slot import EMPTY, IDLE, C, Slot
from gateway.pool.stock import Stock
from gateway.pool.want import ANY, Want
from gateway.rotation.choosing import Candidates, Fallback, Needs
from gateway.rotation.endpoint import EndpointView, Reason
from gateway.rotation.moves import Connected, Lost, Silent
from gateway.rotation.rotation import Rotation
from gateway.waiting import Client, Waits

PING_AFTER = 30.0
"""Seconds of idleness after which a look at the socket is not enough."""
PING_TIMEOUT = 1.0
SETTLE_TIMEOUT = 0.05
"""Seconds a connection gets to become clean when the request's deadline is over already."""


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


class Group(Generic[C]):
    """Slots, a queue, and leases on connections to the endpoints of one purpose.

    ``fallback`` says whether reads may go to a primary when no replica is in the rotation. ``queue_limit`` bounds
    the requests that wait beyond those for which a connection can be opened. ``waits``: how this process
    waits, ``jitter`` gives numbers in [0, 1). ``roads`` are shared by all groups of a process.
    """

    def __init__(
        self,
        *,
        name: str,
        access_write: bool,
        endpoints: Sequence[str],
        size: int,
        queue_limit: int,
        driver: Driver[C],
        rotation: Rotation,
        waits: Waits,
        fallback: Fallback = "primary",
        balance: Balance = "least_busy",
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        spawn: Callable[[Callable[[], None]], None] = start_thread,
        jitter: Callable[[], float] = random.random,
        roads: Roads | None = None,
    ) -> None:
        if size < 1 or queue_limit < 0 or not endpoints:
            raise ValueError(f"group {name}: needs an endpoint, a size of at least 1 and no negative queue")
        self.name = name
        self.access_write = access_write
        self.endpoints = tuple(endpoints)
        self.size = size
        self.queue_limit = queue_limit
        self._needs = Needs(name, access_write, fallback)
        self._balance: Balance = balance
        self._rotation = rotation
        self._clock = clock
        self._waits = waits
        self._jitter = jitter
        self._roads = roads or Roads()
        self._opening = Opening(
            driver=driver,
            rotation=rotation,
            connect_timeout=connect_timeout,
            clock=clock,
            spawn=spawn,
            waits=waits,
            equip=self._equip,
        )
        self._closed = False
        self._start_afresh()
        rotation.subscribe(self.refresh)
        forked = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def _start_afresh(self) -> None:
        self._lock = self._waits.lock()
        errands = deque[Callable[[], None]]()
        self._stock = Stock[C](
            self.endpoints,
            size=self.size,
            balance=self._balance,
            access_write=self.access_write,
            drop=lambda connection: errands.append(connection.close),
            roads=self._roads,
            turn=int(self._jitter() * len(self.endpoints)),
        )
        self._queue = self._new_queue()
        self._growth = Growth[C](self._stock, jitter=self._jitter)
        self._exchange = Exchange(
            lock=self._lock,
            stock=self._stock,
            queue=self._queue,
            growth=self._growth,
            errands=errands,
            start=self._start,
        )
        self._errands = errands
        self.refresh()

    def _new_queue(self) -> Queue[C]:
        return Queue(gate=self._waits.gate)

    def _start(self, connector: Connector[C]) -> None:
        self._opening.start(self._exchange, connector)

    def _forked(self) -> None:
        """In the child of a fork: nothing of the parent's connections, queue and lock is ours."""
        self._stock.forget()
        self._start_afresh()

    # --- what others ask ---------------------------------------------------------------------------------------

    def lease(self, deadline: float, want: Want = ANY, client: Client | None = None) -> Lease[C]:
        """A connection for the length of a ``with``; entering waits for it, until ``deadline`` at most.

        On leaving, the driver settles the connection, whatever happened inside. Entering raises PoolTimeout
        (nothing came free, or the deadline is over), QueueFull, NoEndpoint (reads, when no endpoint that the want
        allows may answer), ClientGone (``client`` hung up while its request waited) or Draining.
        """
        return Lease(self, deadline, want, client)

    def view(self, endpoint: str) -> EndpointView:
        """The newest view of an endpoint."""
        return self._rotation.view(endpoint)

    def objection(self, endpoint: str) -> Reason | None:
        """Why one of its endpoints may not be given work of this group now; None: it may."""
        return self._rotation.objection(endpoint, self.endpoints, self._needs)

    def leases(self) -> dict[str, int]:
        """How many requests have a connection now, by endpoint."""
        with self._lock:
            return self._stock.leases()

    def part_with(self, count: int, *, leased: bool) -> None:
        """Close so many idle connections; with ``leased``, where none is idle, one more when it comes home."""
        with self._lock:
            self._stock.part_with(count, leased=leased)
        self._exchange.run_errands()

    @property
    def candidates(self) -> Candidates:
        """The endpoints that may be given work of this group now, and those kept in reserve."""
        return self._rotation.candidates(self.endpoints, self._needs)

    @property
    def serving(self) -> tuple[str, ...]:
        """The endpoints that may be given work of this group now."""
        return self._stock.serving

    def stats(self) -> GroupStats:
        """Counts at this moment."""
        with self._lock:
            wait = self._queue.longest_wait(self._clock())
            return GroupStats(self.size, *self._stock.count(), len(self._queue), wait)

    def __repr__(self) -> str:
        leased, idle, empty = self._stock.count()
        slots = f"{self.size} slots: {leased} leased, {idle} idle, {empty} empty"
        return f"<Group {self.name} [{slots} | {len(self._queue)} waiting]>"

    def refresh(self) -> None:
        """Look at the rotation again: close what is withdrawn or old, and see that who waits is served."""
        with self._lock:
            if not self._closed:
                now = self._clock()
                views = [self._rotation.view(name) for name in self.endpoints]
                self._stock.arrange(self._rotation.candidates(self.endpoints, self._needs), now, views)
                self._growth.look_around()
                for waiter in tuple(self._queue.waiters):
                    if self._is_hopeless(waiter.want, now):
                        self._queue.refuse(waiter, NoEndpoint(self._tell_endpoints()))
                self._exchange.serve(now)
        self._exchange.run_errands()

    def close(self) -> None:
        """Refuse new work, wake who waits with Draining, close what is idle; leased connections close on return."""
        with self._lock:
            self._closed = True
            self._stock.arrange(Candidates(), self._clock())
            self._growth.look_around()
            for waiter in tuple(self._queue.waiters):
                self._queue.refuse(waiter, self._draining())
        self._exchange.run_errands()

    # --- the way of a request ----------------------------------------------------------------------------------

    def check_out(self, deadline: float, want: Want, client: Client | None) -> tuple[Slot[C], float]:
        """For Lease: a slot with a usable connection, LEASED to the caller, and the seconds spent in the queue.

        PERF: written out for what nearly always happens: something is idle, was used lately and is in order.
        """
        began = now = self._clock()
        queued = 0.0
        ticket = 0
        while True:
            waiter = None
            with self._lock:
                if self._closed:
                    raise self._draining()
                if now >= deadline:
                    raise PoolTimeout(self._tell())
                slot, behind = self._stock.take(want)  # nothing, if anybody waits whom it would suit
                if slot is None:
                    waiter = self._enqueue(ticket, want, now)
                    ticket = waiter.ticket
                elif not ticket:
                    ticket = self._queue.draw()
                if behind is not None:
                    self._exchange.enlist(self._growth.even_out(behind, now))
            if self._errands:
                self._exchange.run_errands()
            if waiter is not None:
                slot = self._wait(waiter, deadline, client)
                now = self._clock()
                queued = now - began
            if slot is not None and self._is_fit(slot, want, now, deadline):
                return slot, queued
            now = self._clock()

    def check_in(self, slot: Slot[C], deadline: float) -> None:
        """For Lease: take a slot back; its connection is settled and kept, or closed."""
        if slot.state is EMPTY:
            return  # the process was forked while the lease was held: the connection is the parent's
        now = self._clock()
        keep = False
        try:
            keep = slot.connection.settle(max(deadline, now + SETTLE_TIMEOUT))
        finally:
            self._put_back(slot, now if keep else self._clock(), keep=keep)

    def _put_back(self, slot: Slot[C], now: float, *, keep: bool) -> None:
        """Take a slot back, and pass on what its connection says of its server. No lock held."""
        connection = slot.connection
        if connection.role is not slot.role:
            self._learn_role(slot)
        if not keep and connection.lost is not None:
            self._rotation.apply(slot.endpoint, Lost(connection.lost, slot.opened_at))
        with self._lock:
            self._exchange.put_back(slot, now, keep=keep)
        if self._errands:
            self._exchange.run_errands()

    def _is_fit(self, slot: Slot[C], want: Want, now: float, deadline: float) -> bool:
        """Look at a connection before work is put on it; if it is dead, give up the slot. No lock held."""
        fit = False
        try:
            fit = slot.connection.is_usable()
            if fit and (slot.rested_at < now - PING_AFTER or slot.rested_at < want.answered_since):
                fit = self._answers(slot, min(deadline, now + PING_TIMEOUT))
        finally:
            if not fit:
                self._put_back(slot, self._clock(), keep=False)
        return fit

    def _answers(self, slot: Slot[C], deadline: float) -> bool:
        try:
            slot.connection.ping(deadline)
        except ConnectionBroken:
            if slot.connection.lost is None:
                self._rotation.apply(slot.endpoint, Silent())
            return False
        if slot.connection.role is slot.role:
            return True
        self._learn_role(slot)
        with self._lock:
            return self._stock.is_welcome(slot, self._clock())

    def _learn_role(self, slot: Slot[C]) -> None:
        """Tell the rotation what a connection found out about its server. No lock held."""
        slot.role = slot.connection.role
        self._rotation.apply(slot.endpoint, Connected(slot.role))

    # --- what a connection tells by itself ---------------------------------------------------------------------

    def _equip(self, slot: Slot[C]) -> None:
        """Have a new connection call us when its server goes or falls silent."""
        connection, endpoint, opened_at = slot.connection, slot.endpoint, slot.opened_at
        connection.on_silent = partial(self._silent, endpoint)
        connection.on_lost = partial(self._lost, slot, connection, endpoint, opened_at)

    def _silent(self, endpoint: str) -> None:
        """A read has had no answer for a while. No lock held."""
        self._rotation.apply(endpoint, Silent())

    def _lost(self, slot: Slot[C], connection: C, endpoint: str, opened_at: float) -> None:
        """The server closed an idle connection. No lock held."""
        with self._lock:
            if slot.state is IDLE and slot.connection is connection:
                self._stock.remove(slot)
        message = connection.lost or "the server closed an idle connection"
        self._rotation.apply(endpoint, Lost(message, opened_at))
        self._exchange.run_errands()

    # --- the queue ---------------------------------------------------------------------------------------------

    def _enqueue(self, ticket: int, want: Want, now: float) -> Waiter[C]:
        """Stand in line: at the end, or with a ticket where it belongs. Lock held."""
        if self._is_hopeless(want, now):
            raise NoEndpoint(self._tell_endpoints())
        places = self.queue_limit + self._stock.free + self._growth.opening
        if not ticket and len(self._queue) >= places:
            raise QueueFull(self._tell())
        waiter = self._queue.join(ticket or self._queue.draw(), now, want)
        self._exchange.grow(now)
        return waiter

    def _wait(self, waiter: Waiter[C], deadline: float, client: Client | None) -> Slot[C]:
        """Wait for the gate to open; the slot behind it is the caller's. No lock held."""
        try:
            waiter.gate.wait(deadline - self._clock(), client)
        except BaseException:
            self._step_out(waiter)
            raise
        if waiter.slot is None or self._clock() >= deadline:
            late = PoolTimeout(self._tell())
            self._step_out(waiter)
            raise waiter.error or late
        return waiter.slot

    def _step_out(self, waiter: Waiter[C]) -> None:
        """Leave the queue; what was given in the very last moment goes on to the next. No lock held."""
        with self._lock:
            self._queue.leave(waiter)
        if waiter.slot is not None:
            self._put_back(waiter.slot, self._clock(), keep=True)

    def _is_hopeless(self, want: Want, now: float) -> bool:
        """Whether waiting is of no use: reads fail at once when nobody may answer, writes wait for a primary."""
        return not (self.access_write or self._stock.is_promising(want) or self._rotation.is_back_soon(now))

    def _draining(self) -> Draining:
        return Draining(f"group {self.name} is closed")

    def _tell(self) -> str:
        """Why there is no connection, in one line."""
        leased, idle, empty = self._stock.count()
        told = f"group {self.name}: {leased} leased, {idle} idle, {empty} empty, {len(self._queue)} waiting"
        if self._growth.last_error is not None:
            told += "; last connect error: {}: {}".format(*self._growth.last_error)
        return told if self._stock.is_promising(ANY) else f"{told}; {self._tell_endpoints()}"

    def _tell_endpoints(self) -> str:
        views = "; ".join(str(self._rotation.view(name)) for name in self.endpoints)
        return f"no endpoint for group {self.name}: {views}"
