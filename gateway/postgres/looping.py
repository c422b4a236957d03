"""psycopg2's wait in gevent's loop: a green thread sleeps until the server, the deadline or the client wakes it.

A connection keeps one started watcher for its whole life (starting one a wait costs about half the throughput). While
nobody waits for it, a readable socket means that the server closed it or said something unasked: that is noted, and
the connection is not used again. Deadlines and hang-ups are looked at by one sweep over all that wait, not by a timer
each. The sweep runs while somebody waits, and for a moment longer: a process that has nothing to do costs nothing.
"""

import weakref
from collections.abc import Callable
from functools import partial
from math import inf
from select import POLLRDHUP
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
SWEEP = 0.02
"""Seconds between two looks at deadlines of waits and at clients that hung up."""
LINGER = 0.25
"""Seconds for which the sweep goes on after the last request, and the process counts as busy."""
LATE = 0.1
"""Seconds after its time at which a sweep is late: the process was stopped, or had no processor."""
LAST_MESSAGE = 0.02
"""Seconds between a server's last message and the end of its connection."""

switch = greenlet.switch
"""PERF: to the hub past gevent's own ``switch``, which looks for a hook that our green threads do not have."""


class SocketWatcher:
    """A started watcher of the loop on one connection's socket, for the connection's whole life."""

    __slots__ = ("_all", "_hub", "_owner", "_run", "_watcher", "data_arrived", "waits")

    def __init__(self, owner: Waiting, all_waits: "LoopWaits") -> None:
        """``owner``: whose socket it is."""
        self.waits: greenlet | None = None
        """The green thread that waits for the server."""
        self.data_arrived = False
        """The server closed the idle connection, or sent something unasked."""
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(owner.fileno(), _READ)
        self._owner = weakref.ref(owner)
        self._run = owner.run
        self._watcher.start(self._on_readable)
        self._all = all_waits
        all_waits.watchers.add(self)

    def wait(self) -> None:
        """Wait until the socket is readable."""
        if self.data_arrived:
            self.data_arrived = False
            self._watcher.start(self._on_readable)
        if not self._all.is_sweeping:
            self._all.start_sweeping()
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
        self._all.watchers.discard(self)

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
    # Not gevent's, which knows no POLLRDHUP: it never waits here.
    poller = gevent.monkey.get_original("select", "poll")()
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
            self._waits.hub.loop.run_callback(self._resume)

    def wait(self, seconds: float, client: Client | None = None) -> None:
        """Wait until the gate opens, or for so long; raises ClientGone if the client hangs up meanwhile."""
        if self._is_open or seconds <= 0:
            return
        self.client = client
        self.deadline = monotonic() + seconds
        self._thread = me = getcurrent()
        waits = self._waits
        if not waits.is_sweeping:
            waits.start_sweeping()
        waits.waiting[me] = self
        try:
            switch(waits.hub)
        except DeadlinePassed:
            return
        except ClientLeft as error:
            raise ClientGone("the client hung up while its request waited for a connection") from error
        finally:
            self._thread = None
            del waits.waiting[me]

    def gives_up(self, _now: float, _call: Callable[[Callable[[], None]], object]) -> bool:
        """Return False: the gate's deadline and client are all that end the wait."""
        return False

    def _resume(self) -> None:
        if self._thread is not None:
            self._thread.switch()


class LoopWaits:
    """All waits of green threads in this process, and the sweep over them. Satisfies ``waiting.Loop``.

    Made in the process whose loop it is.
    """

    def __init__(self) -> None:
        self.hub = gevent.get_hub()
        self.gate: Callable[[], LoopGate] = partial(LoopGate, self)
        """Gives a closed gate."""
        self.waiting: dict[greenlet, Limited] = {}
        """Who waits for their turn, or for a server while connecting, and until when."""
        self.watchers: set[SocketWatcher] = set()
        """PERF: all that are open, waited at or not, so that a wait for an answer is not entered anywhere."""
        self._timer = gevent.get_hub().loop.timer(SWEEP, SWEEP)
        self.is_sweeping = False
        """PERF: looked at by each wait, which starts the sweep if it has to."""
        self.is_busy = False
        self.turned_at = inf
        """When the loop turned last; infinity while it does not sweep, because nobody waits."""
        self._stood_until = -inf
        self._worked_at = -inf
        """When a sweep found somebody waiting."""
        self._sweepers: list[Callable[[float], bool]] = []
        self._on_busy: list[Callable[[], None]] = []

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call this once, in the loop, after so many seconds."""
        timer = gevent.get_hub().loop.timer(seconds)

        def due() -> None:
            timer.close()
            call()

        timer.start(due)

    def on_busy(self, call: Callable[[], None]) -> None:
        """Call this when a request comes after a rest."""
        self._on_busy.append(call)

    def on_sweep(self, call: Callable[[float], bool]) -> None:
        """Call this with the time in every sweep, first; the sweep goes on while it returns True."""
        self._sweepers.append(call)

    def stood_still_since(self, moment: float) -> bool:
        """Whether the loop stood still at some time since then, while somebody waited."""
        return self._stood_until >= moment or self._is_late(monotonic())

    def begin(self) -> None:
        """Take note that a request has come after a rest."""
        self.is_busy = True
        self._worked_at = monotonic()
        self.start_sweeping()
        for call in self._on_busy:
            call()

    def start_sweeping(self) -> None:
        """Sweep until nobody waits any more."""
        if not self.is_sweeping:
            self.is_sweeping = True
            self.turned_at = monotonic()
            self._timer.again(self.sweep)

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

    def park(self, connection: Waiting, event: int) -> None:
        """Wait for ``event`` on the connection's socket; raises what ``postgres.waiting`` says."""
        watcher = connection.watcher
        if watcher is None or event != READABLE:
            if event != READABLE or not connection.is_established:
                self._park_for_once(connection, event)
                return
            watcher = connection.watcher = SocketWatcher(connection, self)
        watcher.wait()

    def _park_for_once(self, connection: Waiting, event: int) -> None:
        """Wait with a fresh watcher: while connecting libpq may open another socket under the same number."""
        me = getcurrent()
        self.start_sweeping()
        self.waiting[me] = connection.run
        watcher = gevent.get_hub().loop.io(connection.fileno(), _READ if event == READABLE else _WRITE)
        try:
            gevent.get_hub().wait(watcher)
        finally:
            watcher.close()
            del self.waiting[me]

    def sweep(self) -> None:
        """Wake whose deadline has passed or whose client has left. Called in the loop."""
        now = monotonic()
        if self._is_late(now):
            self._stood_until = now
        self.turned_at = now
        is_wanted = False
        for call in self._sweepers:
            is_wanted = call(now) or is_wanted
        for watcher in tuple(self.watchers):
            if watcher.waits is not None:
                is_wanted = True
                watcher.look(now)
        for thread, limits in tuple(self.waiting.items()):
            if thread in self.waiting:
                is_wanted = True
                _wake_if_over(thread, limits, now)
        if is_wanted:
            self._worked_at = now
        elif not self.is_busy or now - self._worked_at >= LINGER:
            self.is_sweeping = self.is_busy = False
            self.turned_at = inf
            self._timer.stop()

    def _is_late(self, now: float) -> bool:
        return now - self.turned_at > SWEEP + LATE


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
