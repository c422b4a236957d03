"""Telling other workers that something has changed, as processes and as objects of one."""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.events import Event, ignore
from gateway.node.news import BOARD, LEARNT, PLACES, WORKERS, News, tell
from tests.node.boards import process


@pytest.fixture
def news(tmp_path: Path) -> Iterator[News]:
    mine = News(tmp_path, observe=ignore)
    yield mine
    mine.close()


def others(directory: Path) -> list[str]:
    return sorted(name.name for name in directory.glob("news-*"))


def tell_from_another_process(directory: Path, topic: bytes) -> None:
    def tell() -> None:
        told = News(directory, observe=ignore)
        told.tell(topic)

    with ExitStack() as stack:
        pid = stack.enter_context(process(tell))
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_whoever_listens_is_woken_by_another_process(news: News, tmp_path: Path) -> None:
    heard = {topic: threading.Event() for topic in (BOARD, LEARNT, PLACES)}
    for topic, event in heard.items():
        news.on(topic, event.set)
    news.start()
    tell_from_another_process(tmp_path, LEARNT)
    assert heard[LEARNT].wait(5)
    assert not heard[BOARD].is_set()
    assert not heard[PLACES].is_set()
    tell_from_another_process(tmp_path, BOARD)
    assert heard[BOARD].wait(5)


def test_what_is_told_before_it_listens_is_not_lost(news: News, tmp_path: Path) -> None:
    heard = threading.Event()
    news.on(BOARD, heard.set)
    tell_from_another_process(tmp_path, BOARD)
    news.start()
    assert heard.wait(5)


def test_nobody_tells_themselves(news: News) -> None:
    heard = threading.Event()
    news.on(BOARD, heard.set)
    news.start()
    news.tell(BOARD)
    assert not heard.wait(0.05)


def test_what_a_dead_process_left_is_removed_by_whoever_tells_next(news: News, tmp_path: Path) -> None:
    tell_from_another_process(tmp_path, BOARD)
    assert len(others(tmp_path)) == 2
    news.tell(BOARD)
    assert len(others(tmp_path)) == 1


def test_a_worker_that_does_not_listen_holds_up_nobody(news: News, tmp_path: Path) -> None:
    def tell() -> None:
        told = News(tmp_path, observe=ignore)
        for _ in range(5000):
            told.tell(BOARD)

    with process(tell) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    heard = threading.Event()
    news.on(BOARD, heard.set)
    news.start()
    assert heard.wait(5)


def test_closing_ends_the_wait_and_leaves_nothing(tmp_path: Path) -> None:
    news = News(tmp_path, observe=ignore)
    news.start()
    news.close()
    news.close()
    assert others(tmp_path) == []


def test_a_process_that_is_no_worker_tells_all_of_them(news: News, tmp_path: Path) -> None:
    heard = threading.Event()
    news.on(WORKERS, heard.set)
    news.start()
    tell(tmp_path, WORKERS)
    assert heard.wait(5)
    assert others(tmp_path) != []
    tell(tmp_path / "gone", WORKERS)


def test_a_directory_with_a_long_name_will_do(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    news = News(directory, observe=ignore)
    assert len(others(directory)) == 1
    news.close()


def test_where_there_is_no_room_it_says_so_and_goes_on(tmp_path: Path) -> None:
    told: list[Event] = []
    news = News(tmp_path / "gone", observe=told.append)
    news.start()
    news.tell(BOARD)
    news.close()
    assert [str(event) for event in told] == [
        "this worker is not told of the others' news at once: [Errno 2] No such file or directory: "
        f"'{tmp_path / 'gone'}'"
    ]
