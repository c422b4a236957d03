"""Two hands on one file are two processes here: the locks belong to whoever opened it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from gateway.node.places import AFTER_CLOSE, AFTER_CUT, FRESH, Places
from gateway.node.rows import Claim
from tests.node.clock import Clock

HOLDER = """
import sys
from collections.abc import Iterator
from pathlib import Path
from gateway.node.places import Places
places = Places(Path(sys.argv[1]), size=3, share=1)
print([places.take().number, places.take().number], flush=True)
input()
"""


def take(places: Places, count: int, **how: bool) -> list[Claim]:
    """So many, which there must be."""
    found = [place for _ in range(count) if (place := places.take(**how)) is not None]
    assert len(found) == count
    return found


def taken(*places: Claim | None) -> list[int | None]:
    """The rows of what was taken."""
    return [None if place is None else place.number for place in places]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hands(tmp_path: Path, clock: Clock) -> Iterator[tuple[Places, Places]]:
    one, two = (Places(tmp_path / "places", size=3, share=1, clock=clock) for _ in range(2))
    yield one, two
    one.close()
    two.close()


def test_there_are_so_many_places_whoever_takes_them(hands: tuple[Places, Places]) -> None:
    one, two = hands
    assert taken(one.take(), two.take(), one.take()) == [2, 1, 0]
    assert (one.take(), two.take()) == (None, None)
    assert (one.mine, two.mine, one.free()) == (2, 1, 0)


def test_a_place_is_free_again_when_the_server_has_forgotten_the_connection(
    hands: tuple[Places, Places], clock: Clock
) -> None:
    one, two = hands
    last, second, _ = take(one, 3)
    one.release(second, after=AFTER_CLOSE)
    one.release(last, after=AFTER_CUT)
    assert (two.take(), one.free()) == (None, 0)
    clock.now += AFTER_CLOSE
    assert taken(two.take()) == [1]
    assert two.take() is None
    clock.now += AFTER_CUT - AFTER_CLOSE + FRESH
    assert taken(two.take()) == [2]


def test_places_of_a_dead_process_are_free_some_time_after_its_death_was_noticed(
    hands: tuple[Places, Places], clock: Clock
) -> None:
    one, two = hands
    assert taken(one.take(), one.take(), one.take()) == [2, 1, 0]
    one.close()  # as the kernel does
    clock.now += 3600
    two.sweep()
    assert two.take() is None
    clock.now += AFTER_CUT
    assert taken(two.take()) == [2]


def test_places_of_a_stopped_process_stay_its_own_and_those_of_a_killed_one_do_not(tmp_path: Path) -> None:
    clock = Clock()
    places = Places(tmp_path / "places", size=3, share=1, clock=clock)
    package = str(Path(gateway.__file__).parents[1])
    holder = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", HOLDER, str(tmp_path / "places")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": package},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"[2, 1]\n"
    holder.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
    places.sweep()
    clock.now += 60
    assert taken(places.take(), places.take()) == [0, None]
    holder.kill()
    holder.communicate()
    places.sweep()
    clock.now += AFTER_CUT
    assert taken(places.take(), places.take()) == [2, 1]


def test_a_time_from_before_the_machine_started_anew_counts_for_nothing(tmp_path: Path, clock: Clock) -> None:
    before = Places(tmp_path / "places", size=1, share=1, clock=Clock(now=900_000.0))
    (place,) = take(before, 1)
    before.release(place, after=AFTER_CUT)
    before.close()
    assert taken(Places(tmp_path / "places", size=1, share=1, clock=clock).take()) == [0]


def test_a_process_without_a_place_says_so_and_the_others_take_no_more(
    hands: tuple[Places, Places], clock: Clock
) -> None:
    one, two = hands
    last, *_ = take(one, 3)
    assert two.take() is None
    assert two.wants_first()
    assert one.wants_first()
    one.release(last, after=0)
    assert one.take() is None
    assert taken(two.take()) == [2]
    clock.now += FRESH
    assert not one.wants_first()


def test_a_worker_below_its_share_goes_before_one_above(tmp_path: Path, clock: Clock) -> None:
    one, two = (Places(tmp_path / "places", size=4, share=2, clock=clock) for _ in range(2))
    last, *_ = [*take(one, 2), *take(two, 1), *take(one, 1)]
    assert two.take() is None
    assert (one.wants_share(), one.wants_first()) == (True, False)
    one.release(last, after=0)
    assert one.take() is None
    assert taken(two.take()) == [3]


def test_who_is_about_to_end_claims_no_share(tmp_path: Path, clock: Clock) -> None:
    one, two = (Places(tmp_path / "places", size=4, share=2, clock=clock) for _ in range(2))
    assert taken(one.take(), one.take(), one.take(), two.take()) == [3, 2, 1, 0]
    assert two.take(is_draining=True) is None
    assert not one.wants_share()


def test_what_is_borrowed_does_not_count_against_a_share(hands: tuple[Places, Places]) -> None:
    one, _ = hands
    (place,) = take(one, 1, is_borrowed=True)
    assert (one.mine, one.free()) == (0, 2)
    one.release(place, after=0)
    assert one.free() == 3


def test_generations_of_different_sizes_share_what_both_have(tmp_path: Path, clock: Clock) -> None:
    old = Places(tmp_path / "places", size=2, share=1, clock=clock)
    new = Places(tmp_path / "places", size=4, share=2, clock=clock)
    assert taken(new.take(), old.take(), new.take(), old.take(), new.take()) == [3, 1, 2, 0, None]


def test_what_a_smaller_generation_cannot_use_stays_open_to_a_larger_one_whatever_it_demands(
    tmp_path: Path, clock: Clock
) -> None:
    old, older = (Places(tmp_path / "places", size=4, share=2, clock=clock) for _ in range(2))
    new = Places(tmp_path / "places", size=2, share=1, clock=clock)
    first, *_ = take(old, 1)
    take(older, 3)
    old.release(first, after=0)
    assert new.take() is None
    assert older.wants_first()
    assert taken(older.take(), older.take()) == [3, None]


def test_a_larger_generation_moves_out_of_the_rows_that_a_smaller_one_demands(tmp_path: Path, clock: Clock) -> None:
    old = Places(tmp_path / "places", size=4, share=2, clock=clock)
    new = Places(tmp_path / "places", size=2, share=1, clock=clock)
    places = take(old, 4)
    assert new.take() is None
    assert not old.make_way()  # all are in use: it has to give one up
    old.release(places[0], after=0)
    assert old.make_way()
    assert taken(*places[1:]) == [2, 3, 0]
    assert taken(new.take(), new.take()) == [1, None]
    old.release(places[2], after=0)
    assert taken(old.take()) == [3]
