"""Taking over what others have learnt."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.events import ignore
from gateway.node.polling import Polling
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits


@contextmanager
def polling(rotation: Rotation, *, is_told: bool = False) -> Iterator[Polling]:
    poll = Polling(rotation=rotation, waits=ThreadWaits(), observe=ignore, is_told=is_told)
    poll.start()
    try:
        yield poll
    finally:
        poll.close()


def test_a_thread_takes_over_what_others_learn() -> None:
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told = threading.Event()
    mine.subscribe(told.set)
    with polling(mine):
        Rotation(views=shared).apply("r", Probed(role=Role.REPLICA, ping_ms=0.1))
        assert told.wait(5)
        assert mine.view("r").state is EndpointState.IN


def test_a_listener_that_fails_does_not_end_it() -> None:
    shared = LocalViews(["r"])
    events: list[str] = []
    mine = Rotation(views=shared, observe=lambda event: events.append(str(event)))
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
    assert len(events) == 3
    assert "ZeroDivisionError" in events[0]


def test_who_is_told_of_a_change_takes_it_over_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.node.polling.IN_THREADS", 3600.0)
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told = threading.Event()
    mine.subscribe(told.set)
    with polling(mine, is_told=True) as poll:
        assert not told.wait(0.05)
        Rotation(views=shared).apply("r", ProbeFailed(Reason.LOST, "gone"))
        assert not told.wait(0.05)
        poll.notice()
        assert told.wait(5)


def test_a_process_that_stood_still_knows_it() -> None:
    poll = Polling(rotation=Rotation(views=LocalViews(["r"])), waits=ThreadWaits(), observe=ignore)
    before = monotonic()
    poll._poll()
    assert not poll.stood_still_since(before)
    threading.Event().wait(0.15)  # nobody polls
    assert poll.stood_still_since(before)
    poll._poll()
    assert poll.stood_still_since(before)
    assert not poll.stood_still_since(monotonic())
