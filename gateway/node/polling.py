"""Takes over, 50 times a second, what other processes of the node have learnt of endpoints."""

from time import monotonic

from gateway.events import Observer
from gateway.node.tasks import Task
from gateway.rotation.rotation import Rotation
from gateway.waiting import Waits

EVERY = 0.02
"""Seconds between two looks at the views that the node shares."""
LATE = 0.1
"""Seconds after its time at which a look is late: this process was stopped, or had no processor."""


class Polling:
    """One thread (a green one on a loop) that polls a rotation. It also knows when the process itself stood still."""

    def __init__(self, *, rotation: Rotation, waits: Waits, observe: Observer) -> None:
        self._waits = waits
        self._rotation = rotation
        self._task = Task("the taking over of what the node knows of endpoints", self._poll, observe=observe)
        self._is_swept = False
        """Whether a loop looks for news in its sweeps: its callbacks must not wait for a lock, as listeners may."""
        self._turned_at = monotonic()
        self._stood_until = 0.0

    def start(self) -> None:
        """Begin."""
        self._turned_at = monotonic()
        self._is_swept = self._waits.on_sweep(self._turn)
        self._task.start()

    def close(self) -> None:
        """End after the poll in progress."""
        self._task.close()

    def stood_still_since(self, moment: float) -> bool:
        """Whether this process stood still at some time since then: its clocks ran out while nobody could act."""
        return self._stood_until >= moment or self._is_late(monotonic())

    def _poll(self) -> float | None:
        if not self._is_swept:
            self._turn()
        self._rotation.poll()
        return None if self._is_swept else EVERY

    def _turn(self) -> None:
        now = monotonic()
        if self._is_late(now):
            self._stood_until = now
        self._turned_at = now
        if self._is_swept and self._rotation.has_news:
            self._task.wake()

    def _is_late(self, now: float) -> bool:
        return now - self._turned_at > EVERY + LATE
