from threading import Event

import pytest

from gateway.node.pulse import Pulse


def test_every_work_is_done_again_and_again_whatever_becomes_of_the_others(caplog: pytest.LogCaptureFixture) -> None:
    beats: list[int] = []
    enough = Event()

    def count() -> None:
        beats.append(1)
        if len(beats) == 3:
            enough.set()

    def fail() -> None:
        raise ZeroDivisionError

    pulse = Pulse(fail, count, beat=0.001)
    pulse.start()
    assert enough.wait(10)
    pulse.close()
    assert "failed by a bug of ours" in caplog.text


def test_who_is_in_a_hurry_does_not_wait_for_the_next_beat() -> None:
    beats: list[int] = []
    again = Event()

    def count() -> None:
        beats.append(1)
        again.set()

    pulse = Pulse(count, beat=3600)
    pulse.start()
    assert again.wait(10)
    again.clear()
    pulse.hurry()
    assert again.wait(10)
    pulse.close()
