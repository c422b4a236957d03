"""What a worker does for its node, as often as it has to."""

import threading
from collections.abc import Callable

import pytest

from gateway.events import ignore
from gateway.node import beat as beats
from gateway.node.beat import Beat
from gateway.waiting import ThreadWaits


class Waits(ThreadWaits):
    """A worker that rests until a test has it work."""

    def __init__(self) -> None:
        self.works = False
        self.begin: Callable[[], None] = lambda: None

    @property
    def is_busy(self) -> bool:
        return self.works

    def on_busy(self, call: Callable[[], None]) -> None:
        self.begin = call


@pytest.fixture(autouse=True)
def _no_turn_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beats, "REST", 3600.0)


class Duty:
    """Something to be done."""

    def __init__(self, has_more: int = 0) -> None:
        self.done = threading.Semaphore(0)
        self.has_more = has_more

    def __call__(self) -> bool:
        self.done.release()
        self.has_more -= 1
        return self.has_more >= 0

    def was_done(self, seconds: float = 5.0) -> bool:
        return self.done.acquire(timeout=seconds)


def test_at_rest_it_has_a_turn_when_it_is_woken_and_when_a_request_comes() -> None:
    waits, duty = Waits(), Duty()
    beat = Beat(waits=waits, observe=ignore)
    beat.add(duty)
    beat.start()
    assert duty.was_done()
    assert not duty.was_done(0.1)
    beat.wake()
    assert duty.was_done()
    waits.works = True
    waits.begin()
    for _ in range(3):
        assert duty.was_done()
    waits.works = False
    beat.close()


def test_while_a_duty_has_more_to_do_it_goes_on() -> None:
    duty, other = Duty(has_more=3), Duty()
    beat = Beat(waits=Waits(), observe=ignore)
    beat.add(duty, other)
    beat.start()
    for _ in range(4):
        assert duty.was_done()
        assert other.was_done()
    assert not duty.was_done(0.1)
    beat.close()


def test_it_knows_by_how_much_a_turn_was_late() -> None:
    held = threading.Event()
    late: list[float] = []
    beat = Beat(waits=ThreadWaits(), observe=ignore)
    beat.add(lambda: late.append(beat.late))
    beat._turn()
    assert not held.wait(beats.BEAT + 0.1)  # nobody calls it
    beat._turn()
    beat._turn()
    assert late[0] == late[2] == 0.0
    assert late[1] >= 0.1
