"""Whoever asks gets an answer of every worker that lives and runs."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import DeadlineExceeded
from gateway.events import Event, NodeNotShared
from gateway.node.asking import Asking
from gateway.node.processes import my_start, start_of
from gateway.waiting import ThreadWaits


class Living:
    """As much of a snapshot as is looked at."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.started = start_of(pid)


def asking(directory: Path | None, *others: int, observe: Any = None) -> Asking:
    workers: Any = lambda: [Living(pid) for pid in (os.getpid(), *others) if start_of(pid)]  # noqa: E731
    responses = {"who": lambda details: [os.getpid(), details]}
    events: list[Event] = []
    return Asking(
        directory=directory,
        workers=workers,
        responses=responses,
        waits=ThreadWaits(),
        observe=observe or events.append,
    )


@contextmanager
def neighbour(directory: Path) -> Iterator[int]:
    """Another worker, which answers."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = asking(directory)
        os.write(tell, b".")
        while True:
            mine.tend()
            time.sleep(0.005)
    assert os.read(ready, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)


def test_every_worker_answers_the_one_that_asks_first(tmp_path: Path) -> None:
    with neighbour(tmp_path) as other:
        mine = asking(tmp_path, other)
        for details in ("a", "b"):
            assert mine.ask("who", details, patience=10) == [[os.getpid(), details], [other, details]]
        assert not list(tmp_path.glob("answer-*"))


def test_a_stopped_worker_is_not_waited_for_for_ever_and_a_dead_one_not_at_all(tmp_path: Path) -> None:
    with neighbour(tmp_path) as other:
        os.kill(other, signal.SIGSTOP)
        mine = asking(tmp_path, other)
        began = time.monotonic()
        assert mine.ask("who", patience=0.05) == [[os.getpid(), ""]]
        assert time.monotonic() - began < 5
    assert mine.ask("who", patience=60) == [[os.getpid(), ""]]


def test_without_a_directory_a_worker_asks_itself() -> None:
    assert asking(None).ask("who", "x") == [[os.getpid(), "x"]]
    asking(None).tend()


def test_a_question_of_before_is_not_answered(tmp_path: Path) -> None:
    assert asking(tmp_path).ask("who")
    late = asking(tmp_path)
    late.tend()
    assert not (tmp_path / f"answer-{os.getpid()}-{my_start()}").exists()


def test_while_a_question_is_open_another_one_waits_and_is_refused_in_the_end(tmp_path: Path) -> None:
    with neighbour(tmp_path) as other:
        os.kill(other, signal.SIGSTOP)
        first = asking(tmp_path, other)
        thread = threading.Thread(target=lambda: first.ask("who", patience=3))
        thread.start()
        while not (tmp_path / "question").exists():
            time.sleep(0.001)
        with pytest.raises(DeadlineExceeded):
            asking(tmp_path, other).ask("who")
        with pytest.raises(DeadlineExceeded):
            first.ask("who")
        os.kill(other, signal.SIGCONT)
        thread.join()
        assert len(first.ask("who", patience=10)) == 2


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    events: list[Event] = []
    mine = asking(tmp_path / "nowhere", observe=events.append)
    assert mine.ask("who") == [[os.getpid(), ""]]
    assert [type(event) for event in events] == [NodeNotShared]
