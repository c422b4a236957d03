"""Token buckets that several processes share."""

import os
import signal
from pathlib import Path
from time import monotonic_ns

import pytest

from gateway.events import Event, NodeNotShared, ignore
from gateway.node.cells import CELLS, Cells
from tests.node.boards import process

SECOND = 1_000_000_000


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cells(tmp_path: Path, clock: Clock) -> Cells:
    return Cells(tmp_path, observe=ignore, clock=clock)


def takes(cells: Cells, name: str = "a", *, cost: int = SECOND // 10, depth: int = SECOND) -> bool:
    return cells.bucket(name).take(cost, depth) >= 0


def test_a_bucket_gives_what_it_holds_at_once_and_then_what_flows_in(cells: Cells, clock: Clock) -> None:
    assert [takes(cells) for _ in range(11)] == [True] * 10 + [False]
    clock.now += SECOND // 10
    assert [takes(cells) for _ in range(2)] == [True, False]
    clock.now += 60 * SECOND
    assert [takes(cells) for _ in range(11)] == [True] * 10 + [False]


def test_what_a_taking_returns_is_when_the_bucket_is_full_or_when_to_come_again(cells: Cells, clock: Clock) -> None:
    assert cells.bucket("a").take(300, 1000) == 300
    assert cells.bucket("a").take(700, 1000) == 1000
    assert cells.bucket("a").take(500, 1000) == -500
    clock.now += 499
    assert cells.bucket("a").take(500, 1000) == -1
    clock.now += 1
    assert cells.bucket("a").take(500, 1000) == 1000


def test_what_is_refused_costs_nothing(cells: Cells, clock: Clock) -> None:
    assert takes(cells, cost=SECOND)
    assert not any(takes(cells) for _ in range(100))
    clock.now += SECOND // 10
    assert takes(cells)


def test_what_is_given_back_can_be_taken_again(cells: Cells) -> None:
    assert takes(cells, cost=SECOND)
    cells.bucket("a").give_back(SECOND // 10)
    assert [takes(cells) for _ in range(2)] == [True, False]
    cells.bucket("b").give_back(SECOND)
    assert [takes(cells, "b") for _ in range(11)] == [True] * 10 + [False]


def test_buckets_of_other_names_are_others(cells: Cells) -> None:
    assert takes(cells, "a", cost=SECOND)
    assert takes(cells, "b", cost=SECOND)
    assert not takes(cells, "a")


def test_another_process_finds_what_was_taken(tmp_path: Path, clock: Clock) -> None:
    first, second = (Cells(tmp_path, observe=ignore, clock=clock) for _ in range(2))
    assert [takes(cells) for cells in (first, second) * 6] == [True] * 10 + [False] * 2


def test_memory_is_the_same_however_many_callers_come(tmp_path: Path, clock: Clock) -> None:
    cells = Cells(tmp_path, observe=ignore, clock=clock)
    size = (tmp_path / "cells").stat().st_size
    assert takes(cells, "greedy", cost=SECOND)
    for number in range(CELLS // 4):
        assert takes(cells, f"caller {number}")
    assert (tmp_path / "cells").stat().st_size == size
    assert not takes(cells, "greedy")


def test_a_time_of_before_the_machine_was_started_again_is_no_time(cells: Cells, clock: Clock) -> None:
    assert takes(cells, cost=SECOND)
    clock.now = SECOND
    assert takes(cells, cost=SECOND)


def test_a_file_that_cannot_be_used_leaves_the_process_its_own_buckets(tmp_path: Path) -> None:
    events: list[Event] = []
    (tmp_path / "cells").mkdir()
    cells = Cells(tmp_path, observe=events.append, clock=lambda: SECOND)
    assert [takes(cells) for _ in range(11)] == [True] * 10 + [False]
    assert [type(event) for event in events] == [NodeNotShared]


def test_processes_together_take_as_much_as_flows_in(tmp_path: Path) -> None:
    """Each asks as often as a worker can be asked: much more than may be taken, on a busy machine too."""
    rate, burst, seconds = 200, 100, 2
    begins = monotonic_ns() + SECOND // 2
    ends = begins + seconds * SECOND
    readers = [_ask(tmp_path, SECOND // rate, burst, begins, ends) for _ in range(4)]
    taken = sum(int(os.read(reader, 64)) for reader in readers)
    assert taken == pytest.approx(rate * seconds + burst, rel=0.05)


def _ask(directory: Path, cost: int, burst: int, begins: int, ends: int) -> int:
    """Fork a process that takes all it can between two times, and writes how much that was; returns where."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            bucket = Cells(directory, observe=ignore).bucket("shared")
            while monotonic_ns() < begins:
                pass
            taken = 0
            while monotonic_ns() < ends:
                taken += bucket.take(cost, burst * cost) >= 0
                signal.sigtimedwait((), 100e-6)  # what else there is to do for a request
            os.write(writer, b"%d" % taken)
        finally:
            os._exit(0)
    os.close(writer)
    return reader


def test_killed_processes_leave_buckets_that_work(tmp_path: Path) -> None:
    def take() -> None:
        theirs = Cells(tmp_path, observe=ignore)
        while True:
            theirs.bucket("shared").take(1000, 1_000_000)

    cells = Cells(tmp_path, observe=ignore)
    for _ in range(20):
        with process(take), process(take):
            pass  # they are killed at the end
    assert cells.bucket("shared").take(1000, SECOND) >= 0
    assert [takes(cells, "new") for _ in range(11)] == [True] * 10 + [False]
