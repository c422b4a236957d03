"""Green threads: used again, and none of them can end the loop."""

from collections.abc import Callable

import gevent
import pytest
from greenlet import getcurrent

from gateway.events import BugFound, Event, ignore
from gateway.server.green_threads import KEPT, GreenThreads


class Pulse:
    """Counts when work comes after a rest."""

    def __init__(self) -> None:
        self.is_busy = False
        self.begun = 0

    def begin(self) -> None:
        self.is_busy = True
        self.begun += 1


def in_loop(work: Callable[[], None]) -> None:
    """Do it as a watcher's callback does, and see it done."""
    done = gevent.event.Event()

    def call() -> None:
        work()
        done.set()

    gevent.get_hub().loop.run_callback(call)
    assert done.wait(5)


def test_a_green_thread_is_used_again() -> None:
    threads, seen = GreenThreads(Pulse(), ignore), []
    for _ in range(3):
        in_loop(lambda: threads.run(lambda: seen.append(getcurrent())))
    assert len(seen) == 3
    assert len(set(map(id, seen))) == 1


def test_work_that_comes_after_a_rest_is_told_of() -> None:
    pulse = Pulse()
    threads = GreenThreads(pulse, ignore)
    for _ in range(3):
        in_loop(lambda: threads.run(lambda: None))
    assert pulse.begun == 1
    pulse.is_busy = False
    in_loop(lambda: threads.run(lambda: None))
    assert pulse.begun == 2


def test_as_many_run_at_once_as_there_is_work() -> None:
    threads, gate, ended = GreenThreads(Pulse(), ignore), gevent.event.Event(), []

    def wait() -> None:
        gate.wait()
        ended.append(getcurrent())

    for _ in range(KEPT + 10):
        in_loop(lambda: threads.run(wait))
    assert not ended
    gate.set()
    gevent.sleep(0.01)
    assert len(set(map(id, ended))) == KEPT + 10
    assert len(threads._idle) == KEPT


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), SystemExit(1), KeyboardInterrupt()])
def test_what_work_raises_is_reported_and_ends_nothing(bug: BaseException) -> None:
    told: list[Event] = []
    threads, seen = GreenThreads(Pulse(), told.append), []

    def fail() -> None:
        raise bug

    in_loop(lambda: threads.run(fail))
    (event,) = told
    assert isinstance(event, BugFound)
    assert event.error is bug
    in_loop(lambda: threads.run(lambda: seen.append(1)))
    assert seen == [1]
