"""How many calls of a query run at once on a node."""

import os
from pathlib import Path

from gateway.events import Event, NodeNotShared, ignore
from gateway.node.occupancy import Occupancy
from tests.live.gateways import wait_until
from tests.node.boards import process


def occupancy(directory: Path | None, limit: int = 2, *, workers: int = 2, name: str = "q") -> Occupancy:
    return Occupancy(name, limit, directory=directory, workers=workers, observe=ignore)


def test_no_more_enter_than_may_whichever_process_they_are_in(tmp_path: Path) -> None:
    first, second = occupancy(tmp_path), occupancy(tmp_path)
    assert [first.enter(), second.enter(), first.enter(), second.enter()] == [True, True, False, False]
    second.leave()
    assert [first.enter(), second.enter()] == [True, False]


def test_queries_are_counted_apart(tmp_path: Path) -> None:
    assert occupancy(tmp_path, 1, name="a").enter()
    assert occupancy(tmp_path, 1, name="b").enter()
    assert not occupancy(tmp_path, 1, name="a").enter()


def test_what_a_killed_process_had_running_is_forgotten(tmp_path: Path) -> None:
    mine = occupancy(tmp_path, 1)

    def occupy() -> None:
        theirs = occupancy(tmp_path, 1)
        assert theirs.enter()
        (tmp_path / "entered").touch()
        os.read(os.pipe()[0], 1)

    with process(occupy):
        wait_until((tmp_path / "entered").exists, "it has entered")
        assert not mine.enter()
    assert mine.enter()


def test_a_process_without_a_row_counts_for_itself_and_says_so(tmp_path: Path) -> None:
    events: list[Event] = []
    others = [occupancy(tmp_path, 1, workers=1) for _ in range(8)]
    late = Occupancy("q", 1, directory=tmp_path, workers=1, observe=events.append)
    assert [type(event) for event in events] == [NodeNotShared]
    assert others[0].enter()
    assert [late.enter(), late.enter()] == [True, False]


def test_without_a_directory_a_process_counts_for_itself() -> None:
    alone = occupancy(None)
    assert [alone.enter() for _ in range(3)] == [True, True, False]
    alone.leave()
    assert alone.enter()
