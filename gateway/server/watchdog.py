"""Reports what held the event loop, when something did."""

import sys
import traceback
from math import inf
from time import monotonic
from typing import Protocol

import gevent.monkey

from gateway.events import LoopHeld, Observer

LOOK_EVERY = 0.1
REST = 0.2
"""Seconds between two looks at a loop for which nobody waits."""


class Turning(Protocol):
    """The loop, as far as a watchdog looks at it."""

    turned_at: float
    """When it turned last; infinity while nobody waits for it to."""


class Watchdog:
    """A thread of the system's beside the loop.

    When the loop's last turn is too long ago it reports the stack of the thread that runs the loop, once.
    """

    def __init__(self, loop: Turning, *, stuck_after: float, observe: Observer) -> None:
        self._loop = loop
        self._stuck_after = stuck_after
        self._observe = observe
        self._told: float | None = None
        self._main = gevent.monkey.get_original("threading", "get_ident")()
        self._sleep = gevent.monkey.get_original("time", "sleep")
        gevent.monkey.get_original("_thread", "start_new_thread")(self._watch, ())

    def _watch(self) -> None:
        while True:
            self._sleep(REST if self._loop.turned_at == inf else LOOK_EVERY)
            turn = self._loop.turned_at
            if monotonic() - turn < self._stuck_after or turn == self._told:
                continue
            self._told = turn
            frame = sys._current_frames().get(self._main)  # noqa: SLF001 - documented, for just this
            stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
            self._observe(LoopHeld(ms=round((monotonic() - turn) * 1000), stack=stack.rstrip()))
