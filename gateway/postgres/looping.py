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
from typing import Any

import gevent
import gevent.monkey
from greenlet import getcurrent, greenlet

from gateway.errors import ClientGone
from gateway.postgres import waiting
from gateway.postgres.waiting import READABLE, ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.waiting import Client, Lock

_READ, _WRITE = 1, 2
LAST_WORDS = 0.02
"""Seconds between a server's last message and the end of its connection."""

switch = greenlet.switch
"""PERF: to the hub past gevent's own ``switch``, which looks for a hook that our green threads do not have."""


class Watch:
    """The loop's eye on one connection's socket."""

    __slots__ = ("_hub", "_owner", "_watcher", "_watches", "connection", "sleeper", "spoke")

    def __init__(self, owner: Any, watches: "set[Watch]") -> None:
        """``owner``: whose socket it is. ``watches``: where it counts itself in for as long as it looks."""
        self.sleeper: greenlet | None = None
        """The green thread that waits for the server, on behalf of ``connection``."""
        self.connection: Any = None
        self.spoke = False
        """The server closed the idle connection, or said something unasked."""
        self._hub = gevent.get_hub()
        self._watcher = self._hub.loop.io(owner.fileno(), _READ)
        self._owner = weakref.ref(owner)
        self._watcher.start(self._on_readable)
        self._watches = watches
        watches.add(self)

    def sleep(self, connection: Any) -> None:
        """Wait until the socket is readable."""
        if self.spoke:
            self.spoke = False
            self._watcher.start(self._on_readable)
        self.connection = connection
        self.sleeper = getcurrent()
        try:
            switch(self._hub)
        finally:
            self.connection = self.sleeper = None

    def end_wait(self) -> None:
        """End the wait with EndpointWithdrawn, in the loop's next turn."""
        self._hub.loop.run_callback_threadsafe(self._end_wait)

    def _end_wait(self) -> None:
        # NOTE: who waits now may have come after the call: a write, which goes on.
        if self.sleeper is not None and self.connection.is_called_back:
            self.sleeper.throw(EndpointWithdrawn)

    def close(self) -> None:
        """Stop looking. To be called before the socket is closed: libpq and the kernel reuse its number at once."""
        self._watcher.stop()
        self._watcher.close()
        self._watches.discard(self)

    def _on_readable(self) -> None:
        if self.sleeper is not None:
            self.sleeper.switch()
        else:
            self.spoke = True
            self._watcher.stop()
            gevent.spawn(self._report)

    def _report(self) -> None:
        """Tell the connection if the server has closed it, and not only said something unasked."""
        for pause in (0.0, LAST_WORDS):
            gevent.sleep(pause)
            owner = self._owner()
            if owner is None or owner.closed or not self.spoke:
                return
            if _has_ended(owner.fileno()):
                owner.report_lost()
                return


def _has_ended(fd: int) -> bool:
    poller = poll()
    poller.register(fd, POLLRDHUP)
    return bool(poller.poll(0))


class LoopGate:
    """What a green thread waits at for its turn in a queue. Satisfies ``waiting.Gate``.

    PERF: the sweep watches the deadline; a lock of gevent's with a time-out costs twice as much, a timer included.
    """

    __slots__ = ("_is_open", "_sleeper", "_sleepers", "client", "deadline")

    def __init__(self, sleepers: "Sleepers") -> None:
        self._sleepers = sleepers
        self._sleeper: greenlet | None = None
        self._is_open = False
        self.deadline = 0.0
        self.client: Client | None = None

    def open(self) -> None:
        """Let the request through, in the loop's next turn: never from one green thread straight into another."""
        self._is_open = True
        if self._sleeper is not None:
            gevent.get_hub().loop.run_callback(self._resume)

    def wait(self, seconds: float, client: Client | None = None) -> None:
        """Wait until the gate opens, or for so long; raises ClientGone if the client hangs up meanwhile."""
        if self._is_open or seconds <= 0:
            return
        self.client = client
        self.deadline = monotonic() + seconds
        self._sleeper = getcurrent()
        try:
            self._sleepers.sleep(self._sleeper, self)
        except DeadlinePassed:
            return
        except ClientLeft as error:
            raise ClientGone("the client hung up while its request waited for a connection") from error
        finally:
            self._sleeper = None

    def _resume(self) -> None:
        if self._sleeper is not None:
            self._sleeper.switch()


class Sleepers:
    """Everybody in this process who waits for a server, or for their turn; the worker sweeps over them.

    Satisfies ``waiting.Waits``.
    """

    def __init__(self) -> None:
        self._asleep: dict[greenlet, Any] = {}
        """Who waits for their turn, or for a server while connecting."""
        self._watches: set[Watch] = set()
        """PERF: all of them, asleep or not, so that a wait for an answer is not entered anywhere."""
        self._calls: list[Callable[[], None]] = []

    def on_sweep(self, call: Callable[[], None]) -> bool:
        """Call this too in every sweep."""
        self._calls.append(call)
        return True

    def gate(self) -> LoopGate:
        """A closed gate."""
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

    def sleep(self, me: greenlet, cause: Any) -> None:
        """Sleep until switched to; raises DeadlinePassed at the cause's ``deadline``."""
        self._asleep[me] = cause
        try:
            switch(gevent.get_hub())
        finally:
            del self._asleep[me]

    def park(self, connection: Any, event: int) -> None:
        """Wait for ``event`` on the connection's socket; raises DeadlinePassed or ClientLeft (see ``waiting``)."""
        watch: Watch | None = getattr(connection, "watch", None)
        if watch is None or event != READABLE:
            if event != READABLE or not getattr(connection, "is_established", False):
                self._park_for_once(connection, event)
                return
            watch = connection.watch = Watch(connection, self._watches)
        watch.sleep(connection)

    def _park_for_once(self, connection: Any, event: int) -> None:
        """Wait with a fresh watcher: while connecting libpq may open another socket under the same number."""
        me = getcurrent()
        self._asleep[me] = connection
        watcher = gevent.get_hub().loop.io(connection.fileno(), _READ if event == READABLE else _WRITE)
        try:
            gevent.get_hub().wait(watcher)
        finally:
            watcher.close()
            del self._asleep[me]

    def sweep(self, now: float) -> None:
        """Wake whose deadline has passed or whose client has left. Called in the loop, a few times in 100 ms."""
        for watch in tuple(self._watches):
            if watch.sleeper is not None:
                _wake_if_over(watch.sleeper, watch.connection, now)
        for sleeper, cause in tuple(self._asleep.items()):
            if sleeper in self._asleep:
                _wake_if_over(sleeper, cause, now)
        for call in self._calls:
            call()


def _wake_if_over(sleeper: greenlet, cause: Any, now: float) -> None:
    deadline = getattr(cause, "deadline", None)
    client = getattr(cause, "client", None)
    if deadline is not None and now >= deadline:
        sleeper.throw(DeadlinePassed)
    elif client is not None and client.gone_at is not None and now >= client.gone_at:
        sleeper.throw(ClientLeft)
    elif (gives_up := getattr(cause, "gives_up", None)) is not None and gives_up(now, gevent.spawn):
        sleeper.throw(EndpointWithdrawn)


def install() -> Sleepers:
    """Make psycopg2 wait in this process's loop."""
    sleepers = Sleepers()
    waiting.install(sleepers.park)
    return sleepers
