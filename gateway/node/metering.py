"""What the workers of a node have counted, added up, so that any of them can answer a scrape for all.

Each worker has a number, its slot: the lowest that no living worker has. Its counts are in a file of that slot, which
is replaced as a whole four times a second and before each answer to a scrape. A worker that takes over a slot goes on
from what its predecessor has left there, and files of slots that nobody has are still counted: what was once shown
never goes back, whoever is killed, and across reloads. A worker that is killed loses what it counted since it last
wrote, which nobody has seen.
"""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.events import NodeNotShared, Observer, ignore
from gateway.metrics import LOOP_LAG, MEMORY, WORKERS, Merged, Metrics, Reading, merged
from gateway.node.files import replace
from gateway.node.processes import is_alive, my_start
from gateway.node.rows import Rows

PUBLISH_EVERY = 0.25
PUBLISH_AT_REST = 1.0
"""Seconds between two times that a worker writes what it has counted: while it has work, and at rest."""
SHARE = 0.01
"""Of a worker's time that publishing may take at most: with thousands of queries it is done less often."""
READ_EVERY = 0.1
"""Seconds for which what the others have published is used again: many scrapes at once read it once."""
WINDOW = 10.0
"""Seconds of which the greatest lag of the loop is shown."""
MOST = 4096
"""Slots: more than there can be workers, those of a generation that ends included."""

_PREFIX = "metrics-"
_ROW = struct.Struct("=Q")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Published(msgspec.Struct, frozen=True):
    """What is in a slot's file."""

    pid: int
    started: int
    """When the process started, in clock ticks since the machine did."""
    reading: Reading


class Lateness:
    """By how much something was late at most, in the last seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._now = self._before = 0.0

    def note(self, late: float) -> None:
        """Take note of by how much it was late this time."""
        now = self._clock()
        if now - self._began >= WINDOW / 2:
            self._began, self._before, self._now = now, self._now, 0.0
        self._now = max(self._now, late)

    @property
    def greatest(self) -> float:
        """Return the most, in seconds."""
        return max(self._now, self._before)


class Pace(Protocol):
    """What calls ``Metering.tend``: a ``node.beat.Beat``."""

    late: float
    """Seconds by which this call is late."""

    @property
    def is_busy(self) -> bool:
        """Whether there is work that may be counted."""


class Metering:
    """Publishes what this worker has counted and adds up that of all. Without a directory it is all there is."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        directory: Path | None,
        beat: Pace,
        observe: Observer = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a slot, and go on from what is in its file. ``beat`` calls ``tend``."""
        self._metrics = metrics
        self._directory = directory
        self._observe = observe
        self._clock = clock
        self._id = (os.getpid(), my_start())
        self._slots: Rows | None = None
        self._published_at = self._read_at = float("-inf")
        self._others: tuple[list[Reading], list[Reading]] = ([], [])
        self._publish_every = PUBLISH_EVERY
        self._is_failing = False
        self._beat = beat
        self._lateness = Lateness(clock)
        self.slot = self._take_slot()
        """This worker's number, from 0."""
        metrics.gauge(WORKERS, lambda: {(): 1.0})
        metrics.gauge(MEMORY, lambda: {(str(self.slot),): float(_resident_bytes())})
        metrics.gauge(LOOP_LAG, lambda: {(str(self.slot),): self._lateness.greatest})

    def tend(self) -> None:
        """Publish when it is time."""
        self._lateness.note(self._beat.late)
        now = self._clock()
        if now - self._published_at >= (self._publish_every if self._beat.is_busy else PUBLISH_AT_REST):
            self.publish()
            self._publish_every = max(PUBLISH_EVERY, (self._clock() - now) / SHARE)

    def publish(self) -> Reading:
        """Let the others see what was counted, now."""
        reading = self._metrics.read()
        self._published_at = self._clock()
        if self._directory is not None and self._slots is not None:
            try:
                replace(self._file(self.slot), msgspec.msgpack.encode(Published(*self._id, reading)))
            except OSError as error:
                self._fail(error)
            else:
                self._is_failing = False
        return reading

    def all(self) -> Merged:
        """Return what all workers have counted, and their state.

        This one's is published first: what is shown must not be lost if it is killed.
        """
        now = self._clock()
        mine = self.publish()
        if now - self._read_at >= READ_EVERY:
            self._read_at = now
            self._others = self._read()
        return merged(mine, *self._others)

    def close(self) -> None:
        """Publish for the last time, and leave the slot to somebody else."""
        self.publish()
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _take_slot(self) -> int:
        if self._directory is None:
            return 0
        try:
            self._slots = Rows(self._directory / "slots", _ROW, count=MOST)
            slot = next(slot for slot in range(MOST) if self._slots.try_lock(slot))
        except (OSError, StopIteration) as error:
            self._slots = None
            self._fail(error)
            return 0
        left = _decoded(self._file(slot))
        if left is not None:
            self._metrics.resume(left.reading.counts)
        return slot

    def _read(self) -> tuple[list[Reading], list[Reading]]:
        """Read what the living and the dead have published, without this worker."""
        living: list[Reading] = []
        dead: list[Reading] = []
        if self._directory is None or self._slots is None:
            return living, dead
        for file in self._directory.glob(f"{_PREFIX}*"):
            if not file.name.removeprefix(_PREFIX).isdigit() or file == self._file(self.slot):
                continue
            published = _decoded(file)
            if published is not None:
                into = living if is_alive(published.pid, published.started) else dead
                into.append(published.reading)
        return living, dead

    def _file(self, slot: int) -> Path:
        return (self._directory or Path()) / f"{_PREFIX}{slot}"

    def _fail(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._observe(NodeNotShared(what="metrics of this worker are not added to the node's", detail=str(error)))


def _decoded(file: Path) -> Published | None:
    """Return what a slot's file holds; None if there is none, or another version of the gateway has written it."""
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=Published)
    except (OSError, msgspec.MsgspecError):
        return None


def _resident_bytes() -> int:
    try:
        fields = Path("/proc/self/statm").read_bytes().split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE
