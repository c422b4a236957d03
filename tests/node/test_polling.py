"""Taking over what others have learnt, in threads and on a loop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.node.polling import Polling
from gateway.postgres import waiting
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import LocalViews, Rotation


@contextmanager
def polling(rotation: Rotation) -> Iterator[Polling]:
    poll = Polling(rotation=rotation)
    poll.start()
    try:
        yield poll
    finally:
        poll.stop()


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What a loop would call; this test is the loop."""
    calls: list[Callable[[], None]] = []
    monkeypatch.setattr(waiting, "_on_sweep", calls.append)
    return calls


def test_a_thread_takes_over_what_others_learn() -> None:
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told = threading.Event()
    mine.subscribe(told.set)
    with polling(mine):
        Rotation(views=shared).apply("r", Probed(role=Role.REPLICA, ping_ms=0.1))
        assert told.wait(5)
        assert mine.view("r").state is EndpointState.IN


def test_a_listener_that_fails_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told = threading.Event()

    def fail() -> None:
        told.set()
        raise ZeroDivisionError

    mine.subscribe(fail)
    with polling(mine):
        for _ in range(3):
            Rotation(views=shared).apply("r", Probed(role=Role.REPLICA, ping_ms=0.1))
            assert told.wait(5)
            told.clear()
    assert "ZeroDivisionError" in caplog.text


def test_on_a_loop_the_sweep_only_says_that_there_is_news(sweeps: list[Callable[[], None]]) -> None:
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told_by: list[int] = []
    told = threading.Event()
    mine.subscribe(lambda: told_by.append(threading.get_ident()))
    mine.subscribe(told.set)
    with polling(mine):
        (sweep,) = sweeps
        sweep()
        assert not told.wait(0.05)
        Rotation(views=shared).apply("r", ProbeFailed(Reason.LOST, "gone"))
        sweep()
        assert told.wait(5)
    assert told_by[0] != threading.get_ident()


def test_a_process_that_stood_still_knows_it(sweeps: list[Callable[[], None]]) -> None:
    with polling(Rotation(views=LocalViews(["r"]))) as poll:
        (sweep,) = sweeps
        sweep()
        before = monotonic()
        assert not poll.stood_still_since(before)
        threading.Event().wait(0.15)  # the loop is held
        assert poll.stood_still_since(before)
        sweep()
        assert poll.stood_still_since(before)
        assert not poll.stood_still_since(monotonic())
