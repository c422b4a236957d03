"""Who looks at the servers for the node."""

import os
import signal
from pathlib import Path
from time import monotonic

import pytest

from gateway.node.election import RANKS, Election
from tests.node.boards import process


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def candidate(directory: Path, clock: Clock, name: str = "x") -> Election:
    return Election(directory, name=name, stale_after=1.5, clock=clock)


def test_one_is_elected_and_stays_it(tmp_path: Path, clock: Clock) -> None:
    one, other = candidate(tmp_path, clock), candidate(tmp_path, clock)
    assert [one.is_elected(), other.is_elected(), one.is_elected()] == [True, False, True]


def test_boards_have_elections_of_their_own(tmp_path: Path, clock: Clock) -> None:
    one, other = candidate(tmp_path, clock), candidate(tmp_path, clock, "other")
    assert [one.is_elected(), other.is_elected()] == [True, True]


def test_without_a_directory_everybody_is_elected(clock: Clock) -> None:
    alone = Election(None, name="", stale_after=1.0, clock=clock)
    assert alone.is_elected()
    alone.stamp()
    alone.close()
    assert alone.is_elected()


def test_who_resigns_is_followed_at_once(tmp_path: Path, clock: Clock) -> None:
    one, other = candidate(tmp_path, clock), candidate(tmp_path, clock)
    assert one.is_elected()
    one.close()
    assert [other.is_elected(), one.is_elected()] == [True, False]


def test_one_that_does_not_look_any_more_is_stood_in_for_until_it_does(tmp_path: Path, clock: Clock) -> None:
    stopped, other, third = (candidate(tmp_path, clock) for _ in range(3))
    assert [stopped.is_elected(), other.is_elected()] == [True, False]
    clock.now += 1.4
    assert not other.is_elected()
    clock.now += 0.2
    assert [other.is_elected(), third.is_elected(), other.is_elected()] == [True, False, True]
    stopped.stamp()
    assert [other.is_elected(), third.is_elected(), stopped.is_elected()] == [False, False, True]


def test_a_stand_in_takes_the_place_of_one_that_ends(tmp_path: Path, clock: Clock) -> None:
    stopped, other, third = (candidate(tmp_path, clock) for _ in range(3))
    assert stopped.is_elected()
    clock.now += 2
    assert [other.is_elected(), third.is_elected()] == [True, False]
    stopped.close()
    assert [other.is_elected(), third.is_elected()] == [True, False]
    clock.now += 2
    assert [third.is_elected(), other.is_elected()] == [True, True]  # the other does not look either
    other.stamp()
    assert [third.is_elected(), other.is_elected()] == [False, True]


def test_when_all_that_may_stand_in_are_stuck_the_rest_leaves_it_at_that(tmp_path: Path, clock: Clock) -> None:
    for _ in range(RANKS):
        assert candidate(tmp_path, clock).is_elected()
        clock.now += 2
    assert not candidate(tmp_path, clock).is_elected()


def test_a_killed_one_is_followed_by_the_next_that_tries(tmp_path: Path) -> None:
    receiving, sending = os.pipe()

    def hold() -> None:
        mine = Election(tmp_path, name="x", stale_after=60.0)
        os.write(sending, b"1" if mine.is_elected() else b"0")
        signal.pause()

    other = Election(tmp_path, name="x", stale_after=60.0)
    with process(hold) as pid:
        assert os.read(receiving, 1) == b"1"
        assert not other.is_elected()
        os.kill(pid, signal.SIGKILL)
        began = monotonic()
        while not other.is_elected():
            assert monotonic() - began < 5
    os.close(receiving)
    os.close(sending)
