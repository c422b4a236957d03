"""Workers' counts are added up, and never go back."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.events import Event, NodeNotShared
from gateway.metrics import LOOP_LAG, MEMORY, REQUESTS, WORKERS, Metrics
from gateway.node.metering import PUBLISH_AT_REST, PUBLISH_EVERY, WINDOW, Lateness, Metering
from tests.node.clock import Clock

ONE = ("q", "200")


class Pace:
    """How a worker is kept going."""

    late = 0.0
    is_busy = True


class Worker:
    """What a worker counts with."""

    def __init__(self, directory: Path | None) -> None:
        self.events: list[Event] = []
        self.metrics = Metrics()
        self.metering = Metering(self.metrics, directory=directory, beat=Pace(), observe=self.events.append)

    def count(self, number: int) -> None:
        self.metrics.counter(REQUESTS, *ONE).value += number

    @property
    def shown(self) -> float:
        return self.metering.all()[REQUESTS].get(ONE, [0.0])[0]


@contextmanager
def killed(directory: Path, number: int) -> Iterator[int]:
    """A process that counts, publishes, counts on and is killed; whatever is in the ``with`` runs before that."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        worker = Worker(directory)
        worker.count(number)
        worker.metering.publish()
        worker.count(1000)
        os.write(tell, bytes([worker.metering.slot]))
        signal.pause()
    slot = os.read(ready, 1)[0]
    os.close(ready)
    os.close(tell)
    try:
        yield slot
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_any_worker_tells_what_all_have_counted(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    mine.count(2)
    with killed(tmp_path, 3) as slot:
        assert (mine.metering.slot, slot) == (0, 1)
        assert mine.shown == 5
        assert mine.metering.all()[WORKERS] == {(): [2.0]}
        assert mine.metering.all()[MEMORY].keys() == {("0",), ("1",)}


def test_what_a_killed_worker_has_counted_stays_but_its_state_does_not(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    with killed(tmp_path, 3):
        pass
    assert mine.shown == 3
    assert mine.metering.all()[WORKERS] == {(): [1.0]}
    assert mine.metering.all()[LOOP_LAG].keys() == {("0",)}


def test_whoever_takes_over_a_slot_goes_on_from_there(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    mine.count(2)
    with killed(tmp_path, 3) as slot:
        pass
    successor = Worker(tmp_path)
    assert successor.metering.slot == slot
    successor.count(4)
    successor.metering.publish()
    mine.metering.publish()
    assert successor.shown == mine.shown == 9


def test_a_worker_that_ends_leaves_its_last_count(tmp_path: Path) -> None:
    mine, other = Worker(tmp_path), Worker(tmp_path)
    other.count(7)
    other.metering.close()
    assert mine.shown == 7
    assert Worker(tmp_path).shown == 7


def test_what_is_shown_is_published_before(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    mine.count(5)
    assert mine.shown == 5
    mine.metering._slots = None  # as if it were killed now
    assert Worker(tmp_path).shown >= 5


def test_without_a_directory_a_worker_is_all_there_is() -> None:
    mine = Worker(None)
    mine.count(1)
    assert mine.shown == 1
    mine.metering.close()


def test_a_directory_that_cannot_be_used_is_told_once(tmp_path: Path) -> None:
    mine = Worker(tmp_path / "nowhere")
    mine.count(1)
    assert mine.shown == mine.shown == 1
    assert [type(event) for event in mine.events] == [NodeNotShared]


def test_what_another_version_wrote_is_left_out(tmp_path: Path) -> None:
    mine = Worker(tmp_path)
    (tmp_path / "metrics-1").write_bytes(b"\xc1")
    (tmp_path / "metrics-2.9.draft").write_bytes(b"")
    mine.count(1)
    assert mine.shown == 1
    assert Worker(tmp_path).metering.slot == 1


def test_it_is_published_four_times_a_second(tmp_path: Path) -> None:
    clock = Clock()
    metrics = Metrics()
    metering = Metering(metrics, directory=tmp_path, beat=Pace(), clock=clock)
    metering.tend()
    file = tmp_path / "metrics-0"
    before = file.stat().st_ino
    metering.tend()
    assert file.stat().st_ino == before
    clock.now += PUBLISH_EVERY
    metering.tend()
    assert file.stat().st_ino != before


def test_at_rest_it_is_published_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    pace = Pace()
    metering = Metering(Metrics(), directory=tmp_path, beat=pace, clock=clock)
    metering.tend()
    file = tmp_path / "metrics-0"
    before = file.stat().st_ino
    pace.is_busy = False
    clock.now += PUBLISH_EVERY
    metering.tend()
    assert file.stat().st_ino == before
    clock.now += PUBLISH_AT_REST
    metering.tend()
    assert file.stat().st_ino != before


def test_the_greatest_lag_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    lateness = Lateness(clock)
    lateness.note(0.3)
    assert lateness.greatest == 0.3
    for _ in range(2):
        clock.now += WINDOW / 2
        lateness.note(0.0)
    assert lateness.greatest == 0.0
