"""One thread beside the requests in which small things are done again and again."""

import logging
import threading
from collections.abc import Callable

from gateway.node.spawning import Spawn, spawn_thread

log = logging.getLogger("gateway.node")

BEAT = 0.05
"""Seconds."""


class Pulse:
    """Does its works every 50 ms, and at once when hurried."""

    def __init__(self, *works: Callable[[], None], beat: float = BEAT, spawn: Spawn = spawn_thread) -> None:
        self._works = works
        self._spawn = spawn
        self._beat = beat
        self._hurried = threading.Event()
        self._is_stopped = False

    def start(self) -> None:
        """Begin, in a daemon thread (a green one on a loop)."""
        self._spawn(self._run)

    def hurry(self) -> None:
        """Do not wait for the next beat."""
        self._hurried.set()

    def close(self) -> None:
        """End after the works under way."""
        self._is_stopped = True
        self._hurried.set()

    def _run(self) -> None:
        while not self._is_stopped:
            for work in self._works:
                try:
                    work()
                except Exception:  # a bug of ours must not end the others' work
                    log.exception("%r failed by a bug of ours", work)
            self._hurried.wait(self._beat)
            self._hurried.clear()
