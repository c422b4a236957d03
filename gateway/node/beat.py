"""What a worker does for its node again and again: often while it has work or others need something, else rarely."""

from collections.abc import Callable
from math import inf
from time import monotonic

from gateway.events import Observer
from gateway.node.tasks import Task
from gateway.waiting import Waits

BEAT = 0.05
"""Seconds between two turns while the worker has work, or there is more to be done soon."""
REST = 0.5
"""Seconds between two turns otherwise."""

Duty = Callable[[], bool | None]
"""Does what is due; returns whether there will be more to do very soon."""


class Beat:
    """One task for all of it, so that a worker at rest wakes up for all of it together."""

    def __init__(self, *, waits: Waits, observe: Observer) -> None:
        """A request that comes after a rest ends it."""
        self._waits = waits
        self._duties: list[Duty] = []
        self._task = Task("what this worker does for the node", self._turn, observe=observe)
        self._due = inf
        self.late = 0.0
        """Seconds by which the turn in progress, or the last one, was late."""
        waits.on_busy(self._task.wake)

    def add(self, *duties: Duty) -> None:
        """Do this in every turn, from the next one on."""
        self._duties += duties

    def start(self) -> None:
        """Begin."""
        self._task.start()

    def close(self) -> None:
        """End after the turn in progress."""
        self._task.close()

    def wake(self) -> None:
        """Have a turn now: others need something, or are to know something."""
        self._task.wake()

    @property
    def is_busy(self) -> bool:
        """Whether the worker has work."""
        return self._waits.is_busy

    def _turn(self) -> float:
        self.late = max(0.0, monotonic() - self._due)
        has_more = False
        for duty in self._duties:
            has_more = bool(duty()) or has_more
        rest = BEAT if has_more or self._waits.is_busy else REST
        self._due = monotonic() + rest
        return rest
