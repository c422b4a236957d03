"""What runs beside requests runs again and again, until it is closed."""

from threading import Event as Signal

import pytest

from gateway.events import BugFound, Event, ignore
from gateway.node import tasks
from gateway.node.tasks import Task, every


def test_a_turn_that_fails_is_reported_and_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AFTER_BUG", 0.0)
    observed: list[Event] = []
    turns: list[int] = []
    enough = Signal()

    def fail() -> float:
        turns.append(1)
        if len(turns) == 3:
            enough.set()
        raise ZeroDivisionError

    task = Task("the counting", fail, observe=observed.append)
    task.start()
    assert enough.wait(10)
    assert task.close()
    assert {(type(event), getattr(event, "where", "")) for event in observed} == {(BugFound, "the counting")}


def test_a_task_that_is_woken_does_not_rest() -> None:
    again = Signal()
    task = Task("the resting", every(3600, again.set), observe=ignore)
    task.start()
    assert again.wait(10)
    again.clear()
    task.wake()
    assert again.wait(10)
    assert task.close()


def test_what_wakes_a_task_in_its_turn_gives_it_another() -> None:
    turns: list[int] = []
    enough = Signal()

    def turn() -> None:
        turns.append(1)
        if len(turns) == 1:
            task.wake()
        else:
            enough.set()

    task = Task("the waking", turn, observe=ignore)
    task.start()
    assert enough.wait(10)
    assert task.close()


def test_closing_waits_for_the_turn_in_progress() -> None:
    begun, go_on = Signal(), Signal()

    def turn() -> None:
        begun.set()
        go_on.wait(10)

    task = Task("the long turn", turn, observe=ignore)
    task.start()
    assert begun.wait(10)
    assert not task.close(patience=0.01)
    assert task.is_closing
    go_on.set()
    assert task.close()


def test_a_task_that_never_began_is_closed_at_once() -> None:
    assert Task("nothing", lambda: None, observe=ignore).close()
