"""How a process waits: gates, locks and pauses, handed to whoever needs them by the root that composes the process.

``ThreadWaits`` is for processes whose requests run in threads; ``postgres.looping`` has the form for an event loop.
"""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from select import poll  # NOTE: at import, before gevent's poll, which switches, can take its place
from time import monotonic
from typing import Any, Protocol, runtime_checkable

from gateway.errors import ClientGone

HALF_CLOSE_GRACE = 0.3
"""Seconds in which an answer still goes to a client that has shut down its sending side."""

LOOK = 0.1
"""Seconds between two looks at what a wait in a thread is not woken by."""

TURN = 0.005
"""Seconds for which long work goes on before others get their turn."""

HANG_UP = select.POLLRDHUP
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL

Lock = AbstractContextManager[Any]
"""Held for microseconds, by code that never waits and never switches to another green thread."""


class Client(Protocol):
    """Whoever waits for the answer."""

    @property
    def gone_at(self) -> float | None:
        """When its request is given up, if it has hung up."""

    def end(self) -> None:
        """Have its request given up now, as if it had hung up; it may be told why."""


class Gate(Protocol):
    """What one request waits at, once."""

    def open(self) -> None:
        """Let the request through, now or when it comes."""

    def wait(self, seconds: float, client: Client | None = None) -> None:
        """Wait until the gate opens, or for so long; raises ClientGone if the client hangs up meanwhile."""


class Waits(Protocol):
    """How this process waits."""

    def gate(self) -> Gate:
        """Return a closed gate."""

    def lock(self) -> Lock:
        """Return a lock that is free."""

    def pause(self, seconds: float, client: Client | None = None) -> None:
        """Wait for so long; raises ClientGone if the client hangs up meanwhile."""

    @property
    def is_busy(self) -> bool:
        """Whether requests are served, or were a moment ago. Always where there is no loop to know it."""

    def on_busy(self, call: Callable[[], None]) -> None:
        """Have a loop call this when a request comes after a rest. ``call`` takes microseconds, and does not raise."""

    def stood_still_since(self, moment: float) -> bool | None:
        """Whether the loop stood still at some time since then, its waits over time included; None: there is no loop.

        It knows that of times only in which somebody waited.
        """


@runtime_checkable
class Loop(Waits, Protocol):
    """How a process waits in which one loop runs all requests: others have their turn only where one waits."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call this once, in the loop, after so many seconds; it takes microseconds, does not wait and does not raise.

        PERF: a timer for each call, so rather not one for each request.
        """


class Turns:
    """Gives other requests their turn between the parts of one request's long work, where one thread runs them all.

    One for the whole process: what counts is for how long nobody else could run, whoever has been running.
    """

    __slots__ = ("_ends", "_waits")

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._ends = 0.0

    def __call__(self) -> None:
        """Pause, if the last pause is longer ago than a turn may take; cheap enough to be called every millisecond."""
        if monotonic() >= self._ends:
            self._waits.pause(0.0)
            self._ends = monotonic() + TURN


def hung_up_at(fd: int) -> float | None:
    """When whoever is at the other end of a socket, and has hung up, is given up; None: it has not. Never waits.

    A reset is gone at once, a plain end may be a half-close and gets some grace.
    """
    poller = poll()
    poller.register(fd, HANG_UP)
    for _, what in poller.poll(0):
        return monotonic() + (0.0 if what & _GONE else HALF_CLOSE_GRACE)
    return None


class ClientSocket:
    """The socket of a client whose request runs in a thread, looked at between waits."""

    __slots__ = ("fd", "gone_at")

    def __init__(self, client: socket.socket) -> None:
        self.fd = client.fileno()
        self.gone_at: float | None = None

    def hung_up(self, what: int) -> bool:
        """Judge a poll result: a reset is gone at once, a plain end may be a half-close and gets some grace."""
        if what & _GONE:
            return True
        if self.gone_at is None:
            self.gone_at = monotonic() + HALF_CLOSE_GRACE
        return monotonic() >= self.gone_at

    def look(self) -> None:
        """Notice a hang-up while no server is waited for on its behalf. Raises ClientGone if it is to be obeyed."""
        if self.gone_at is None:
            self.gone_at = hung_up_at(self.fd)
        if self.gone_at is not None and monotonic() >= self.gone_at:
            raise ClientGone("the client hung up while its request waited for a connection")

    def end(self) -> None:
        """Have its request given up at the next look."""
        self.gone_at = monotonic()


class ThreadGate:
    """A gate for threads. It sees the hang-up of a ``ClientSocket`` only, as nobody else looks at those."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Let the request through, now or when it comes."""
        self._lock.release()

    def wait(self, seconds: float, client: Client | None = None) -> None:
        """Wait until the gate opens, or for so long; raises ClientGone if the client hangs up meanwhile."""
        if not isinstance(client, ClientSocket):
            self._lock.acquire(timeout=max(0.0, seconds))
            return
        until = monotonic() + seconds
        while not self._lock.acquire(timeout=max(0.0, min(LOOK / 2, until - monotonic()))):
            client.look()
            if monotonic() >= until:
                return


class ThreadWaits:
    """Waits as threads do."""

    def gate(self) -> Gate:
        """Return a closed gate."""
        return ThreadGate()

    def lock(self) -> Lock:
        """Return a lock that is free."""
        return threading.Lock()

    def pause(self, seconds: float, client: Client | None = None) -> None:
        """Wait for so long; raises ClientGone if the client hangs up meanwhile."""
        ThreadGate().wait(seconds, client)

    @property
    def is_busy(self) -> bool:
        """Return True: there is no loop to know it."""
        return True

    def on_busy(self, call: Callable[[], None]) -> None:
        """Do nothing: there is no loop."""

    def stood_still_since(self, moment: float) -> bool | None:  # noqa: ARG002 -- there is no loop
        """Return None: there is no loop."""
        return None
