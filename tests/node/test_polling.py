"""Taking over what others have learnt, in threads and on a loop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from gateway.events import ignore
from gateway.node.polling import Polling
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits, Waits


@contextmanager
def polling(rotation: Rotation, waits: Waits | None = None) -> Iterator[Polling]:
    poll = Polling(rotation=rotation, waits=waits or ThreadWaits(), observe=ignore)
    poll.start()
    try:
        yield poll
    finally:
        poll.close()


class Sweeps(ThreadWaits):
    """Keeps what a loop would call; a test is the loop."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def on_sweep(self, call: Callable[[], None]) -> bool:
        self.calls.append(call)
        return True


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


def test_on_a_loop_the_sweep_only_says_that_there_is_news() -> None:
    sweeps = Sweeps()
    shared = LocalViews(["r"])
    mine = Rotation(views=shared)
    told_by: list[int] = []
    told = threading.Event()
    mine.subscribe(lambda: told_by.append(threading.get_ident()))
    mine.subscribe(told.set)
    with polling(mine, sweeps):
        (sweep,) = sweeps.calls
        sweep()
        assert not told.wait(0.05)
        Rotation(views=shared).apply("r", ProbeFailed(Reason.LOST, "gone"))
        sweep()
        assert told.wait(5)
    assert told_by[0] != threading.get_ident()


def test_a_process_that_stood_still_knows_it() -> None:
    sweeps = Sweeps()
    with polling(Rotation(views=LocalViews(["r"])), sweeps) as poll:
        (sweep,) = sweeps.calls
        sweep()
        before = monotonic()
        assert not poll.stood_still_since(before)
        threading.Event().wait(0.15)  # the loop is held
        assert poll.stood_still_since(before)
        sweep()
        assert poll.stood_still_since(before)
        assert not poll.stood_still_since(monotonic())
