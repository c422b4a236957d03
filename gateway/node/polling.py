"""Takes over what other processes of the node have learnt of endpoints: when told of it, and now and then unasked."""

from math import inf
from time import monotonic

from gateway.events import Observer
from gateway.node.tasks import Task
from gateway.rotation.rotation import Rotation
from gateway.waiting import Waits

EVERY = 0.5
"""Seconds between two looks at the views that the node shares, where nobody tells of a change."""
IN_THREADS = 0.1
"""Seconds between two looks without a loop, where nothing else notices that the process stood still."""
UNTOLD = 0.02
"""Seconds between two looks in a process that nobody can tell of a change."""
LATE = 0.1
"""Seconds after its time at which a look is late: this process was stopped, or had no processor."""


class Polling:
    """One thread (a green one on a loop) that polls a rotation. It also knows when the process itself stood still."""

    def __init__(self, *, rotation: Rotation, waits: Waits, observe: Observer, is_told: bool = False) -> None:
        """``is_told``: whether ``notice`` is called after changes by other processes, or there are none."""
        self._waits = waits
        self._rotation = rotation
        self._task = Task("the taking over of what the node knows of endpoints", self._poll, observe=observe)
        has_loop = waits.stood_still_since(inf) is not None
        self._every = UNTOLD if not is_told else EVERY if has_loop else IN_THREADS
        self._due = inf
        """When the next look begins at the latest."""
        self._stood_until = -inf

    def start(self) -> None:
        """Begin."""
        self._task.start()

    def close(self) -> None:
        """End after the poll in progress."""
        self._task.close()

    def notice(self) -> None:
        """Look now."""
        self._task.wake()

    def stood_still_since(self, moment: float) -> bool:
        """Whether this process stood still at some time since then: its clocks ran out while nobody could act."""
        if self._stood_until >= moment or self._is_late(monotonic()):
            return True
        return bool(self._waits.stood_still_since(moment))

    def _poll(self) -> float:
        now = monotonic()
        if self._is_late(now):
            self._stood_until = now
        self._rotation.poll()
        self._due = monotonic() + self._every
        return self._every

    def _is_late(self, now: float) -> bool:
        return now > self._due + LATE
