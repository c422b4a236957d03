"""The last five minutes of every endpoint."""

import os
import time
from collections.abc import Iterable
from math import isnan
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.events import Event, NodeNotShared
from gateway.node.samples import SECONDS, Samples
from gateway.rotation.endpoint import EndpointView
from tests.node.clock import Clock


class Taker:
    """A worker that takes samples of two endpoints."""

    def __init__(self, directory: Path | None, clock: Clock) -> None:
        self.events: list[Event] = []
        self.views = {
            "primary": EndpointView(name="primary", since=0, since_wall=0, ping_ok=True, ping_ms=0.3),
            "replica1": EndpointView(name="replica1", since=0, since_wall=0, ping_ok=True, ping_ms=0.4, lag_ms=4.0),
        }
        self.samples = Samples(
            directory,
            endpoints=self.views,
            views=self.all,
            serves=lambda view: bool(view.ping_ok),
            observe=self.events.append,
            wall=clock,
        )

    def all(self) -> Iterable[EndpointView]:
        return self.views.values()

    def change(self, name: str, **to: object) -> None:
        self.views[name] = replace(self.views[name], **to)

    def pings(self, since: float = 0.0) -> list[float]:
        return [sample.ping_ms for sample in self.samples.since(since)["replica1"]]


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.5)


@pytest.mark.parametrize("is_shared", [True, False])
def test_there_is_one_a_second_and_none_is_older_than_five_minutes(
    tmp_path: Path, clock: Clock, is_shared: bool
) -> None:
    taker = Taker(tmp_path if is_shared else None, clock)
    for number in range(2 * SECONDS):
        taker.change("replica1", ping_ms=float(number))
        taker.samples.take()
        taker.change("replica1", ping_ms=-1.0)
        taker.samples.take()
        clock.sleep(1.0)
    assert taker.pings() == [float(number) for number in range(SECONDS + 1, 2 * SECONDS)]
    assert taker.pings(clock() - 3) == [2 * SECONDS - 2, 2 * SECONDS - 1]
    clock.sleep(SECONDS)
    assert taker.pings() == []


def test_what_one_worker_takes_another_sees_and_goes_on_with(tmp_path: Path, clock: Clock) -> None:
    one, other = Taker(tmp_path, clock), Taker(tmp_path, clock)
    one.samples.take()
    one.samples.close()
    clock.sleep(1.0)
    other.change("replica1", ping_ms=0.5)
    other.samples.take()
    assert other.pings() == [0.4, 0.5]


def test_an_endpoint_that_does_not_answer_has_no_figures(tmp_path: Path, clock: Clock) -> None:
    taker = Taker(tmp_path, clock)
    taker.change("replica1", ping_ok=False)
    taker.samples.take()
    taken = taker.samples.since(0.0)
    (out,), (serving,) = taken["replica1"], taken["primary"]
    assert (isnan(out.ping_ms), isnan(out.lag_ms), out.serves) == (True, True, False)
    assert (serving.ping_ms, isnan(serving.lag_ms), serving.serves) == (0.3, True, True)


def test_without_room_for_files_a_worker_shows_what_it_has_seen_itself(tmp_path: Path, clock: Clock) -> None:
    taker = Taker(tmp_path / "missing", clock)
    taker.samples.take()
    assert taker.pings() == [0.4]
    assert [type(event) for event in taker.events] == [NodeNotShared]


def test_the_file_of_an_endpoint_that_nobody_has_any_more_is_removed(tmp_path: Path) -> None:
    clock = Clock(time.time())
    Taker(tmp_path, clock).samples.take()
    used = set(tmp_path.iterdir())
    for name, age in (("samples-of-another-generation", SECONDS / 2), ("samples-of-nobody", SECONDS + 60)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (clock() - age, clock() - age))
    assert Taker(tmp_path, clock).pings() == [0.4]
    assert set(tmp_path.iterdir()) == {*used, tmp_path / "samples-of-another-generation"}
