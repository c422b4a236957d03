"""What runs beside requests: functions that are called again and again, each in a thread of its own.

The threads are daemon threads, which are green where an event loop made them so.
"""

import threading
import time
from collections.abc import Callable

from gateway.events import BugFound, Observer

Spawn = Callable[[Callable[[], None]], object]
"""Runs a function beside the caller."""
Turn = Callable[[], float | None]
"""Does what is to be done now; returns the seconds until it is to be called again, None: not before ``wake``."""

AFTER_BUG = 1.0
"""Seconds between a turn that raised and the next one."""
PATIENCE = 2.0
"""Seconds for which ``close`` waits for the turn in progress."""


def spawn_thread(run: Callable[[], None]) -> None:
    """Run it in a daemon thread."""
    threading.Thread(target=run, daemon=True, name="gateway-node").start()


def every(seconds: float, work: Callable[[], None]) -> Turn:
    """Return a turn that does this work, and is called again so many seconds later."""

    def turn() -> float:
        work()
        return seconds

    return turn


class Task:
    """One such function. An exception of a turn is reported, and is never the end of the task."""

    def __init__(self, name: str, turn: Turn, *, observe: Observer, spawn: Spawn = spawn_thread) -> None:
        """``name``: a phrase for reports, such as ``the probe of endpoint replica1``."""
        self.name = name
        self._turn = turn
        self._observe = observe
        self._spawn = spawn
        self._wake_up = threading.Event()
        self._ended = threading.Event()
        self._is_closing = False
        self._is_started = False

    @property
    def is_closing(self) -> bool:
        """Whether a turn in progress is to end soon."""
        return self._is_closing

    def start(self, *, after: float | None = 0.0) -> None:
        """Begin; ``after``: seconds until the first turn, None: not before ``wake``."""
        self._is_started = True
        self._spawn(lambda: self._run(after))

    def wake(self) -> None:
        """Have the next turn at once, after the one in progress."""
        self._wake_up.set()

    def close(self, patience: float = PATIENCE) -> bool:
        """End after the turn in progress, and wait for that; returns whether it has ended. Harmless when repeated."""
        self._is_closing = True
        self._wake_up.set()
        return not self._is_started or self._ended.wait(patience)

    def _run(self, rest: float | None) -> None:
        try:
            while not self._is_closing:
                if rest == 0.0:
                    time.sleep(0)  # others have their turn on a loop, which a wait of no time would not give them
                else:
                    self._wake_up.wait(rest)
                # NOTE: cleared before the turn, so that whatever wakes the task during it is seen by the next one.
                self._wake_up.clear()
                if not self._is_closing:
                    rest = self._turn_observed()
        finally:
            self._ended.set()

    def _turn_observed(self) -> float | None:
        try:
            return self._turn()
        except Exception as error:  # noqa: BLE001 -- whatever it is, the task goes on
            self._observe(BugFound(where=self.name, error=error))
            return AFTER_BUG
