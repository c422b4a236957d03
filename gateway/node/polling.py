"""Takes over, 50 times a second, what other processes of the node have learnt of endpoints."""

import logging
import threading
from time import monotonic

from gateway.node.spawning import Spawn, spawn_thread
from gateway.rotation.rotation import Rotation
from gateway.waiting import Waits

log = logging.getLogger("gateway.node")

EVERY = 0.02
"""Seconds between two looks at the views that the node shares."""
LATE = 0.1
"""Seconds after its time at which a look is late: this process was stopped, or had no processor."""


class Polling:
    """One thread (a green one on a loop) that polls a rotation. It also knows when the process itself stood still."""

    def __init__(self, *, rotation: Rotation, waits: Waits, spawn: Spawn = spawn_thread) -> None:
        self._waits = waits
        self._rotation = rotation
        self._spawn = spawn
        self._stopped = threading.Event()
        self._news = threading.Event()
        self._turned_at = monotonic()
        self._stood_until = 0.0

    def start(self) -> None:
        """Begin."""
        self._turned_at = monotonic()
        self._spawn(self._wait_for_news if self._waits.on_sweep(self._turn) else self._turn_by_turn)

    def close(self) -> None:
        """End after the poll under way."""
        self._stopped.set()
        self._news.set()

    def stood_still_since(self, moment: float) -> bool:
        """Whether this process stood still at some time since then: its clocks ran out while nobody could act."""
        return self._stood_until >= moment or self._is_late(monotonic())

    def _turn_by_turn(self) -> None:
        """As threads do it."""
        while not self._stopped.wait(EVERY):
            self._turn()
            self._poll()

    def _wait_for_news(self) -> None:
        """As a loop does it: listeners may wait for a lock, which its own callbacks must not."""
        while not self._stopped.is_set():
            self._news.wait()
            self._news.clear()
            self._poll()

    def _turn(self) -> None:
        now = monotonic()
        if self._is_late(now):
            self._stood_until = now
        self._turned_at = now
        if self._rotation.has_news:
            self._news.set()

    def _poll(self) -> None:
        try:
            self._rotation.poll()
        except Exception:  # a bug of ours: without polls this process would know nothing new for ever
            log.exception("what the node knows of endpoints could not be taken over, by a bug of ours")

    def _is_late(self, now: float) -> bool:
        return now - self._turned_at > EVERY + LATE
