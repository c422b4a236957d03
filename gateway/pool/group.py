"""Connections for one purpose, and a request's way to one of them.

A request waits for a connection, never for a connect: connectors open connections in threads of their own
(``connecting``), and a returned connection or a new one, whichever is there first, goes to the first request it
satisfies. The state behind this, and its rules, are in ``exchange``.
"""

import os
import random
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Generic

from gateway.errors import PoolTimeout
from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.configuration import GroupConfig
from gateway.pool.connecting import Connecting, start_thread
from gateway.pool.connectors import Connector
from gateway.pool.driver import ConnectionBroken, Driver
from gateway.pool.exchange import Exchange, GroupStats
from gateway.pool.lease import ANY, Lease, LeaseRequest
from gateway.pool.queue import Waiter
from gateway.pool.slot import EMPTY, C, Slot
from gateway.rotation.choosing import Candidates
from gateway.rotation.endpoint import EndpointView, Reason
from gateway.rotation.moves import Connected, Lost, Silent
from gateway.rotation.rotation import Rotation
from gateway.waiting import Client, Waits

PING_AFTER = 30.0
"""Seconds of idleness after which a look at the socket is not enough, and the connection is pinged."""
PING_TIMEOUT = 1.0
CLEAN_AFTER, CLEAN_TIMEOUT = 0.02, 1.0
"""Seconds for which an idle connection may keep what its last use has left, and which a reset may take."""
SETTLE_TIMEOUT = 0.05
"""Seconds a connection is given to become clean when the request's deadline has passed."""


class Group(Generic[C]):
    """Slots, a queue, and leases on connections to the endpoints of one purpose."""

    def __init__(
        self,
        config: GroupConfig,
        *,
        driver: Driver[C],
        rotation: Rotation,
        waits: Waits,
        backoffs: ConnectBackoffs | None = None,
        clock: Callable[[], float] = time.monotonic,
        spawn: Callable[[Callable[[], None]], None] = start_thread,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``backoffs`` are shared by all groups of a process; ``jitter`` gives numbers in [0, 1)."""
        self.name = config.name
        self.access_write = config.access_write
        self.endpoints = config.endpoints
        self.size = config.size
        self._config = config
        self._needs = config.needs
        self._rotation = rotation
        self._waits = waits
        self._backoffs = backoffs or ConnectBackoffs()
        self._clock = clock
        self._jitter = jitter
        self._spawn = spawn
        self._connecting = Connecting(
            driver=driver, rotation=rotation, timeout=config.connect_timeout, clock=clock, spawn=spawn
        )
        self.exchange = self._new_exchange()
        self.refresh()
        rotation.subscribe(self.refresh)
        forked = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: (method := forked()) and method())

    def _new_exchange(self) -> Exchange[C]:
        return Exchange(
            self._config,
            rotation=self._rotation,
            waits=self._waits,
            backoffs=self._backoffs,
            clock=self._clock,
            jitter=self._jitter,
            start=self._start,
            equip=self._equip,
        )

    def _start(self, connector: Connector[C]) -> None:
        self._connecting.start(self.exchange, connector)

    def _forked(self) -> None:
        """In the child of a fork: nothing of the parent's connections, queue and lock is ours."""
        self.exchange.slots.forget()
        self.exchange = self._new_exchange()
        self.refresh()

    # --- what others ask ---------------------------------------------------------------------------------------

    def lease(self, deadline: float, request: LeaseRequest = ANY, client: Client | None = None) -> Lease[C]:
        """Return a lease; entering it waits for a connection, until ``deadline`` at most.

        On leaving, the driver settles the connection, whatever happened inside. Entering raises PoolTimeout
        (no connection became available before the deadline), QueueFull (none can be expected to), NoEndpoint (for
        reads, when no endpoint that the request allows may answer), ClientGone (``client`` hung up while its request
        waited) or Draining.
        """
        return Lease(self, deadline, request, client)

    def view(self, endpoint: str) -> EndpointView:
        """Return the newest view of an endpoint."""
        return self._rotation.view(endpoint)

    def objection(self, endpoint: str) -> Reason | None:
        """Return why one of its endpoints may not be given work of this group now; None: it may."""
        return self._rotation.objection(endpoint, self.endpoints, self._needs)

    def leases(self) -> dict[str, int]:
        """Return how many requests have a connection, by endpoint."""
        return self.exchange.leases()

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        """Close so many idle connections; ``or_leased``: if none is idle, one more when it is returned."""
        self.exchange.close_idle(count, or_leased=or_leased)

    def retire_all(self) -> None:
        """Close every connection, idle ones now and leased ones when they are returned: new ones take their places."""
        self.exchange.retire_all()

    @property
    def candidates(self) -> Candidates:
        """The endpoints that may be given work of this group now, and those kept in reserve."""
        return self._rotation.candidates(self.endpoints, self._needs)

    @property
    def serving(self) -> tuple[str, ...]:
        """The endpoints that may be given work of this group now."""
        return self.exchange.slots.serving

    def stats(self) -> GroupStats:
        """Return the counts at this moment."""
        return self.exchange.stats()

    def __repr__(self) -> str:
        return f"<Group {self.name} [{self.exchange!r}]>"

    def clean_idle(self) -> None:
        """Reset the session state that uses have left on connections which became idle and were not used again.

        On a connection that is used again at once the reset is in front of the first message, and costs no round
        trip. But an idle connection must not keep what its last user has left, locks above all.
        """
        for slot in self.exchange.take_unclean(CLEAN_AFTER):
            try:
                self._spawn(partial(self._clean, slot))
            except RuntimeError:  # there can be no more threads
                self._put_back(slot, self._clock(), keep=False)

    def refresh(self) -> None:
        """Look at the rotation again: close connections to endpoints that were withdrawn, and serve waiters."""
        self.exchange.refresh()

    def close(self) -> None:
        """Refuse new requests, wake those that wait with Draining, close what is idle.

        Leased connections are closed when they are returned.
        """
        self.exchange.close()

    # --- the way of a request ----------------------------------------------------------------------------------

    def check_out(self, deadline: float, request: LeaseRequest, client: Client | None) -> tuple[Slot[C], float]:
        """For Lease: return a slot with a usable connection, leased to the caller, and the seconds in the queue.

        PERF: written for what nearly always happens: a connection is idle, was used lately and is in order.
        """
        began = now = self._clock()
        queued = 0.0
        ticket = 0
        while True:
            slot, waiter, ticket = self.exchange.check_out(request, deadline, now, ticket)
            if waiter is not None:
                slot = self._wait(waiter, deadline, client)
                now = self._clock()
                queued = now - began
            if slot is not None and self._is_fit(slot, request, now, deadline):
                return slot, queued
            now = self._clock()

    def check_in(self, slot: Slot[C], deadline: float) -> None:
        """For Lease: take a slot back; its connection is settled and kept, or closed."""
        if slot.state is EMPTY:
            return  # the process was forked while the lease was held: the connection is the parent's
        now = self._clock()
        connection = slot.connection
        keep = False
        try:
            keep = connection.settle(max(deadline, now + SETTLE_TIMEOUT))
        finally:
            if keep and connection.role is slot.role:
                self.exchange.put_back(slot, now, keep=True)  # PERF: past _put_back, which has nothing to report
            else:
                self._put_back(slot, self._clock(), keep=keep)

    def _clean(self, slot: Slot[C]) -> None:
        keep = False
        try:
            keep = slot.connection.clean(self._clock() + CLEAN_TIMEOUT)
        finally:
            self._put_back(slot, self._clock(), keep=keep)

    def _put_back(self, slot: Slot[C], now: float, *, keep: bool) -> None:
        """Take a slot back, after reporting what its connection found out about the server."""
        connection = slot.connection
        if connection.role is not slot.role:
            self._report_role(slot)
        if not keep and connection.lost is not None:
            self._rotation.apply(slot.endpoint, Lost(connection.lost, slot.opened_at))
        self.exchange.put_back(slot, now, keep=keep)

    def _is_fit(self, slot: Slot[C], request: LeaseRequest, now: float, deadline: float) -> bool:
        """Look at a connection before it is used; if it is dead, put the slot back."""
        fit = False
        try:
            fit = slot.connection.is_usable()
            if fit and (slot.rested_at < now - PING_AFTER or slot.rested_at < request.answered_since):
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
        self._report_role(slot)
        return self.exchange.is_to_be_kept(slot)

    def _report_role(self, slot: Slot[C]) -> None:
        """Report to the rotation what a connection found out about the role of its server."""
        slot.role = slot.connection.role
        self._rotation.apply(slot.endpoint, Connected(slot.role))

    def _wait(self, waiter: Waiter[C], deadline: float, client: Client | None) -> Slot[C]:
        """Wait for the gate to open; the slot behind it is the caller's.

        The slot may be granted after the wait has ended and before the waiter has left the queue: ``_give_up`` then
        passes it on.
        """
        try:
            waiter.gate.wait(deadline - self._clock(), client)
        except BaseException:
            self._give_up(waiter)
            raise
        if waiter.slot is None or self._clock() >= deadline:
            late = PoolTimeout(self.exchange.explain())
            self._give_up(waiter)
            raise waiter.error or late
        return waiter.slot

    def _give_up(self, waiter: Waiter[C]) -> None:
        self.exchange.leave(waiter)
        if waiter.slot is not None:
            self._put_back(waiter.slot, self._clock(), keep=True)

    # --- what a connection reports by itself -------------------------------------------------------------------

    def _equip(self, slot: Slot[C]) -> None:
        """Have a new connection report when its server closes it, or is silent for long."""
        connection, endpoint, opened_at = slot.connection, slot.endpoint, slot.opened_at
        connection.on_silent = partial(self._silent, endpoint)
        connection.on_lost = partial(self._lost, slot, connection, endpoint, opened_at)

    def _silent(self, endpoint: str) -> None:
        """A read has had no answer for a while."""
        self._rotation.apply(endpoint, Silent())

    def _lost(self, slot: Slot[C], connection: C, endpoint: str, opened_at: float) -> None:
        """The server closed an idle connection."""
        self.exchange.remove_idle(slot, connection)
        message = connection.lost or "the server closed an idle connection"
        self._rotation.apply(endpoint, Lost(message, opened_at))
