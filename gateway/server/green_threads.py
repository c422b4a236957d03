"""Green threads that are used again: one exists for as long as a request is in flight, then waits for the next.

Starting a greenlet costs more than serving a small request from a waiting one. They are children of the hub, so they
may wait for anything that gevent waits for.
"""

import logging
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import getcurrent, greenlet

log = logging.getLogger("gateway.server")

KEPT = 256

switch = greenlet.switch
"""PERF: to the hub past gevent's own ``switch``, which looks for a hook that our green threads do not have."""


class GreenThreads:
    """Runs work in green threads. Only to be called from the loop (a watcher's callback)."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._idle: list[greenlet] = []

    def run(self, work: Callable[[], Any]) -> None:
        """Begin the work now; returns when it first waits, or is done. What it raises is logged."""
        worker = self._idle.pop() if self._idle else greenlet(self._live, self._hub)
        worker.switch(work)

    def _live(self, work: Callable[[], Any]) -> None:
        while True:
            try:
                work()
            except BaseException:  # from here it would end the loop, and with it all other requests
                log.exception("a green thread ended in a bug of ours")
            if len(self._idle) >= KEPT:
                return
            self._idle.append(getcurrent())
            work = switch(self._hub)
