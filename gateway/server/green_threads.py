"""Green threads that are used again: one exists for as long as a request is in flight, then waits for the next.

Starting a greenlet costs more than serving a small request from a waiting one. They are children of the hub, so they
may wait for anything that gevent waits for.
"""

from collections.abc import Callable
from typing import Any, Protocol

import gevent
from greenlet import getcurrent, greenlet

from gateway.events import BugFound, Observer

KEPT = 256

switch = greenlet.switch
"""PERF: to the hub past gevent's own ``switch``, which looks for a hook that our green threads do not have."""


class Pulse(Protocol):
    """What knows whether there is work to do."""

    is_busy: bool

    def begin(self) -> None:
        """Take note that work has come after a rest."""


class GreenThreads:
    """Runs work in green threads. Only to be called from the loop (a watcher's callback)."""

    def __init__(self, waits: Pulse, observe: Observer) -> None:
        """``waits`` is told of work that comes after a rest."""
        self._waits = waits
        self._observe = observe
        self._hub = gevent.get_hub()
        self._idle: list[greenlet] = []

    def run(self, work: Callable[[], Any]) -> None:
        """Begin the work now; returns when it first waits, or is done. What it raises is reported."""
        if not self._waits.is_busy:
            self._waits.begin()
        worker = self._idle.pop() if self._idle else greenlet(self._live, self._hub)
        worker.switch(work)

    def _live(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - from here it would end the loop, and with it all other requests
                self._observe(BugFound(where="a green thread", error=error))
            if len(self._idle) >= KEPT:
                return
            self._idle.append(getcurrent())
            work = switch(self._hub)
