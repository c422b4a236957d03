"""Reports what held the event loop, when something did."""

import sys
import traceback
from time import monotonic

import gevent.monkey

from gateway.events import LoopHeld, Observer

LOOK_EVERY = 0.05


class Watchdog:
    """A thread of the system's beside the loop, which sets ``turn`` at every sweep.

    When that is too long ago it reports the stack of the thread that runs the loop, once.
    """

    def __init__(self, *, stuck_after: float, observe: Observer) -> None:
        self.turn = monotonic()
        self._stuck_after = stuck_after
        self._observe = observe
        self._told: float | None = None
        self._main = gevent.monkey.get_original("threading", "get_ident")()
        self._sleep = gevent.monkey.get_original("time", "sleep")
        gevent.monkey.get_original("_thread", "start_new_thread")(self._watch, ())

    def _watch(self) -> None:
        while True:
            self._sleep(LOOK_EVERY)
            turn = self.turn
            if monotonic() - turn < self._stuck_after or turn == self._told:
                continue
            self._told = turn
            frame = sys._current_frames().get(self._main)  # noqa: SLF001 - documented, for just this
            stack = "".join(traceback.format_stack(frame)) if frame else "(no stack)"
            self._observe(LoopHeld(ms=round((monotonic() - turn) * 1000), stack=stack.rstrip()))
