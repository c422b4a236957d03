"""Where the primary was when: what makes of a replica's position a lag in time.

A replica's lag is the time since the primary was where the replica is now. Taken from what was written when, it does
not grow while nothing is written; and one write after ten idle minutes makes it the time since that write, at most.
"""

import threading
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from gateway.postgres.probing import Look
from gateway.rotation.endpoint import EndpointView, Role

SAMPLES = 1200
"""Positions kept: ten minutes of a busy primary, probed twice a second."""


class Lag(NamedTuple):
    """How far a replica is behind, None where that is not known."""

    ms: float | None
    bytes: int | None


class _Sample:
    """A position, and when the primary was last seen there."""

    __slots__ = ("at", "position")

    def __init__(self, position: int, at: float) -> None:
        self.position = position
        self.at = at


class _Timeline:
    """The positions of a cluster's primary since it began this timeline."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples: deque[_Sample] = deque(maxlen=SAMPLES)
        self.clock_ahead: float | None = None
        """Seconds that the primary's clock is ahead of our ``time.monotonic``."""


class History:
    """The positions of every cluster's primary, as one process has seen them."""

    def __init__(self) -> None:
        self._timelines: dict[str | None, _Timeline] = {}
        self._lock = threading.Lock()

    def seed(self, views: Iterable[EndpointView]) -> None:
        """Begin with what another process saw last of the primaries."""
        for view in views:
            if view.role is Role.PRIMARY and view.ping_at is not None:
                self._note(view.system, view.timeline, view.position, at=view.ping_at)

    def note(self, system: str | None, seen: Look) -> None:
        """Remember where a primary was. One on an older timeline than is known is none."""
        timeline = self._note(system, seen.timeline, seen.position, at=seen.began)
        if timeline is not None:
            timeline.clock_ahead = seen.clock - (seen.began + seen.ended) / 2

    def lag(self, system: str | None, seen: Look) -> Lag:
        """How far a replica was behind when it was looked at."""
        position = seen.position
        if position is None:
            return Lag(seen.lag_ms, None)
        with self._lock:
            timeline = self._timelines.get(system)
            if timeline is None or seen.timeline not in (None, timeline.number):
                return _as_the_replica_says(seen, position)
            behind = max(0, timeline.samples[-1].position - position)
            if not behind:
                return Lag(0.0, 0)
            passed = next((sample for sample in reversed(timeline.samples) if sample.position <= position), None)
            # What the replica replayed last was committed that long ago, so it lacks nothing older. By the primary's
            # clock, as far as we know it: those of two machines need not agree.
            age = _age(seen, timeline.clock_ahead)
            if passed is not None:
                since = seen.ended - passed.at
                return Lag(_milliseconds(since if age is None else min(since, age)), behind)
            # We do not know of the time when the primary was there: it was longer ago than we look at it.
            return Lag(_milliseconds(seen.ended - timeline.samples[0].at if age is None else age), behind)

    def _note(self, system: str | None, number: int | None, position: int | None, *, at: float) -> _Timeline | None:
        if number is None or position is None:
            return None
        with self._lock:
            timeline = self._timelines.get(system)
            if timeline is None or number > timeline.number:
                timeline = self._timelines[system] = _Timeline(number)
            elif number < timeline.number:
                return None
            samples = timeline.samples
            while samples and samples[-1].position > position and samples[-1].at < at:
                samples.pop()  # the server crashed before that was on its disk
            if not samples or position > samples[-1].position:
                samples.append(_Sample(position, at))
            elif position == samples[-1].position:
                samples[-1].at = max(samples[-1].at, at)
            return timeline


def _as_the_replica_says(seen: Look, position: int) -> Lag:
    """Without a primary to compare with: a replica that has replayed all that it heard of is not behind."""
    behind = None if seen.received is None else max(0, seen.received - position)
    if behind == 0 and seen.streaming:
        return Lag(0.0, 0)
    age = _age(seen, None)
    return Lag(None if age is None else _milliseconds(age), behind)


def _age(seen: Look, clock_ahead: float | None) -> float | None:
    """Seconds since the last transaction that a replica has replayed was committed."""
    if seen.replayed_at is None:
        return None
    now = seen.clock if clock_ahead is None else seen.ended + clock_ahead
    return max(0.0, now - seen.replayed_at)


def _milliseconds(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 1)
