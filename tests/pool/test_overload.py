"""More requests than a group can serve: those that are refused learn it at once, and the others are in time."""

import pytest

from gateway.errors import QueueFull
from gateway.pool.queue import Queue
from gateway.waiting import ThreadWaits
from tests.pool.fake import FakeConnection
from tests.pool.simulation import Town


@pytest.mark.parametrize("timeout", [0.5, 1.0, 5.0])
def test_three_times_the_load_leaves_nine_tenths_of_the_answers_in_time(timeout: float) -> None:
    town = Town("ab", size=16, balance="least_busy", service=0.04, timeout=timeout)
    town.crowd(32)
    town.run(1)
    peak = town.run(2).went.total()
    town = Town("ab", size=16, balance="least_busy", service=0.04, timeout=timeout)
    town.load(3 * peak / 2)
    town.run(2)
    town.failed.clear()
    town.run(2)
    good = sum(took <= timeout for times in town.times.values() for took in times)
    assert good >= 0.9 * peak
    refused = [took for error, took in town.failed if isinstance(error, QueueFull)]
    assert len(refused) >= 0.95 * len(town.failed) > peak
    assert max(refused) == 0.0


def test_a_burst_waits_as_long_as_it_can_be_served_in_time() -> None:
    town = Town("ab", size=16, balance="least_busy", service=0.01, timeout=5.0)
    town.crowd(1000)
    town.run(2)
    assert not town.errors


def test_the_pace_of_slow_uses_is_forgotten_when_they_are_quick_again() -> None:
    town = Town("a", size=2, balance="least_busy", service=1.0, timeout=2.0)
    town.load(10)
    town.run(20)
    assert any(isinstance(error, QueueFull) for error in town.errors)
    town.service["a"] = 0.001
    town.run(20)
    town.errors.clear()
    town.run(5)
    assert not town.errors


def test_a_moment_in_which_everything_stood_still_refuses_nobody() -> None:
    queue = Queue[FakeConnection](gate=ThreadWaits().gate)
    queue.join(queue.draw(), 0.0)
    now = 0.0
    for _ in range(100):
        queue.note_use(now, now + 0.005)
        now += 0.005
    for _ in range(14):  # all that were in use then
        queue.note_use(now, now + 2.0)
    for _ in range(999):
        queue.join(queue.draw(), now)
    assert queue.has_chance(5.0, 14, now)
