"""psycopg2's wait in gevent's loop: a green thread sleeps until the server, the deadline or the client wakes it.

A connection keeps one started watcher for its whole life (starting one a wait costs about half the throughput). While
nobody waits for it, a readable socket means that the server closed it or said something unasked: that is noted, and
the connection is not used again. Deadlines and hang-ups are looked at by one sweep over all that wait, not by a timer
each.
"""

import weakref
from collections.abc import Callable
from select import POLLRDHUP, poll  # NOTE: at import, before gevent's poll takes its place: it never waits here
from time import monotonic
from typing import Protocol

import gevent
import gevent.monkey
from greenlet import getcurrent, greenlet

from gateway.errors import ClientGone
from gateway.postgres import waiting
from gateway.postgres.waiting import READABLE, ClientLeft, DeadlinePassed, EndpointWithdrawn, Waiting
from gateway.waiting import Client, Lock

_READ, _WRITE = 1, 2
LAST_MESSAGE = 0.02
"""Seconds between a server's last message and the end of its connection."""

switch = greenlet.switch
"""PERF: to the hub past gevent's own ``switch``, which looks for a hook that our green threads do not have."""


class SocketWatcher:
    """A started watcher of the loop on one connection's socket, for the connection's whole life."""

    __slots__ = ("_hub", "_owner", "_run", "_watcher", "_watchers", "data_arrived", "waits")

    def __init__(self, owner: Waiting, watchers: "set[SocketWatcher]") -> None:
        """``owner``: whose socket it is. ``watchers``: all that are open, this one among them until it is closed."""
        self.waits: greenlet | None = None
        """The green thread that waits for the server."""
        self.data_arrived = False
        """The server closed the idle connection, or sent something unasked."""
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(owner.fileno(), _READ)
        self._owner = weakref.ref(owner)
        self._run = owner.run
        self._watcher.start(self._on_readable)
        self._watchers = watchers
        watchers.add(self)

    def wait(self) -> None:
        """Wait until the socket is readable."""
        if self.data_arrived:
            self.data_arrived = False
            self._watcher.start(self._on_readable)
        self.waits = getcurrent()
        try:
            switch(self._hub)
        finally:
            self.waits = None

    def end_wait(self) -> None:
        """End the wait with EndpointWithdrawn, in the loop's next turn."""
        self._hub.loop.run_callback_threadsafe(self._end_wait)

    def look(self, now: float) -> None:
        """End a wait that has lasted too long, or whose client has left."""
        if self.waits is not None:
            _wake_if_over(self.waits, self._run, now)

    def close(self) -> None:
        """Stop watching. To be called before the socket is closed: libpq and the kernel reuse its number at once."""
        self._watcher.stop()
        self._watcher.close()
        self._watchers.discard(self)

    def _end_wait(self) -> None:
        # NOTE: who waits now may have come after the call: a write, which goes on.
        if self.waits is not None and self._run.is_recalled:
            self.waits.throw(EndpointWithdrawn)

    def _on_readable(self) -> None:
        if self.waits is not None:
            self.waits.switch()
        else:
            self.data_arrived = True
            self._watcher.stop()
            gevent.spawn(self._report)

    def _report(self) -> None:
        """Report to the connection if the server has closed it, rather than only sent something unasked."""
        for pause in (0.0, LAST_MESSAGE):
            gevent.sleep(pause)
            owner = self._owner()
            if owner is None or owner.closed or not self.data_arrived:
                return
            if _has_ended(owner.fileno()):
                owner.report_lost()
                return


def _has_ended(fd: int) -> bool:
    poller = poll()
    poller.register(fd, POLLRDHUP)
    return bool(poller.poll(0))


class Limited(Protocol):
    """Why a green thread waits, and for how long at most: a connection's ``Run``, or a gate."""

    @property
    def deadline(self) -> float:
        """A point of ``time.monotonic``."""

    @property
    def client(self) -> Client | None:
        """Whose hanging up ends the wait."""

    def gives_up(self, now: float, call: Callable[[Callable[[], None]], object]) -> bool:
        """Return whether to stop; what is to be reported goes through ``call``."""


class LoopGate:
    """What a green thread waits at for its turn in a queue. Satisfies ``waiting.Gate``.

    PERF: the sweep watches the deadline; a lock of gevent's with a time-out costs twice as much, a timer included.
    """

    __slots__ = ("_is_open", "_thread", "_waits", "client", "deadline")

    def __init__(self, waits: "LoopWaits") -> None:
        self._waits = waits
        self._thread: greenlet | None = None
        self._is_open = False
        self.deadline = 0.0
        self.client: Client | None = None

    def open(self) -> None:
        """Let the request through, in the loop's next turn: never from one green thread straight into another."""
        self._is_open = True
        if self._thread is not None:
            gevent.get_hub().loop.run_callback(self._resume)

    def wait(self, seconds: float, client: Client | None = None) -> None:
        """Wait until the gate opens, or for so long; raises ClientGone if the client hangs up meanwhile."""
        if self._is_open or seconds <= 0:
            return
        self.client = client
        self.deadline = monotonic() + seconds
        self._thread = getcurrent()
        try:
            self._waits.wait(self._thread, self)
        except DeadlinePassed:
            return
        except ClientLeft as error:
            raise ClientGone("the client hung up while its request waited for a connection") from error
        finally:
            self._thread = None

    def gives_up(self, _now: float, _call: Callable[[Callable[[], None]], object]) -> bool:
        """Return False: the gate's deadline and client are all that end the wait."""
        return False

    def _resume(self) -> None:
        if self._thread is not None:
            self._thread.switch()


class LoopWaits:
    """All waits of green threads in this process, for servers and for their turn; the worker sweeps over them.

    Satisfies ``waiting.Loop``.
    """

    def __init__(self) -> None:
        self._waiting: dict[greenlet, Limited] = {}
        """Who waits for their turn, or for a server while connecting."""
        self._watchers: set[SocketWatcher] = set()
        """PERF: all of them, waited at or not, so that a wait for an answer is not entered anywhere."""
        self.calls: list[Callable[[], None]] = []
        """What is called in every sweep."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call this once, in the loop, after so many seconds."""
        timer = gevent.get_hub().loop.timer(seconds)

        def due() -> None:
            timer.close()
            call()

        timer.start(due)

    def on_sweep(self, call: Callable[[], None]) -> bool:
        """Call this too in every sweep."""
        self.calls.append(call)
        return True

    def gate(self) -> LoopGate:
        """Return a closed gate."""
        return LoopGate(self)

    def lock(self) -> Lock:
        """Return a lock that is free.

        PERF: it is never held by a green thread that waits, so that the plain one of the interpreter will do: it costs
        half of gevent's.
        """
        lock: Lock = gevent.monkey.get_original("_thread", "allocate_lock")()
        return lock

    def pause(self, seconds: float, client: Client | None = None) -> None:
        """Wait for so long; raises ClientGone if the client hangs up meanwhile.

        A timer of its own ends it: a sweep would come up to 20 ms late, and some pauses are much shorter than that.
        """
        gate = LoopGate(self)
        timer = gevent.get_hub().loop.timer(max(0.0, seconds))
        timer.start(gate.open)
        try:
            gate.wait(seconds + 1.0, client)
        finally:
            timer.close()

    def wait(self, me: greenlet, limits: Limited) -> None:
        """Wait until switched to; raises DeadlinePassed, ClientLeft or EndpointWithdrawn as the limits say."""
        self._waiting[me] = limits
        try:
            switch(gevent.get_hub())
        finally:
            del self._waiting[me]

    def park(self, connection: Waiting, event: int) -> None:
        """Wait for ``event`` on the connection's socket; raises what ``postgres.waiting`` says."""
        watcher = connection.watcher
        if watcher is None or event != READABLE:
            if event != READABLE or not connection.is_established:
                self._park_for_once(connection, event)
                return
            watcher = connection.watcher = SocketWatcher(connection, self._watchers)
        watcher.wait()

    def _park_for_once(self, connection: Waiting, event: int) -> None:
        """Wait with a fresh watcher: while connecting libpq may open another socket under the same number."""
        me = getcurrent()
        self._waiting[me] = connection.run
        watcher = gevent.get_hub().loop.io(connection.fileno(), _READ if event == READABLE else _WRITE)
        try:
            gevent.get_hub().wait(watcher)
        finally:
            watcher.close()
            del self._waiting[me]

    def sweep(self, now: float) -> None:
        """Wake whose deadline has passed or whose client has left. Called in the loop, a few times in 100 ms."""
        for watcher in tuple(self._watchers):
            watcher.look(now)
        for thread, limits in tuple(self._waiting.items()):
            if thread in self._waiting:
                _wake_if_over(thread, limits, now)
        for call in self.calls:
            call()


def _wake_if_over(thread: greenlet, limits: Limited, now: float) -> None:
    client = limits.client
    if now >= limits.deadline:
        thread.throw(DeadlinePassed)
    elif client is not None and client.gone_at is not None and now >= client.gone_at:
        thread.throw(ClientLeft)
    elif limits.gives_up(now, gevent.spawn):
        thread.throw(EndpointWithdrawn)


def install() -> LoopWaits:
    """Make psycopg2 wait in this process's loop."""
    waits = LoopWaits()
    waiting.install(waits.park)
    return waits
