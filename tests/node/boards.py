"""Boards for tests, and processes that do things to them."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from gateway.events import Observer, ignore
from gateway.node.board import Board
from gateway.rotation.endpoint import EndpointView

ENDPOINTS = {"primary": "here", "replica1": "there"}


def board(directory: Path, endpoints: Mapping[str, str] = ENDPOINTS, observe: Observer = ignore) -> Board:
    return Board(directory, endpoints=endpoints, observe=observe)


def count(board: Board, name: str = "primary") -> EndpointView:
    """One more in ``position``, and a message that goes with it."""

    def change(views: Mapping[str, EndpointView]) -> EndpointView:
        return counted(views[name])

    return board.change(change)


def counted(view: EndpointView) -> EndpointView:
    number = (view.position or 0) + 1
    return replace(view, position=number, message=said(number))


def said(number: int) -> str:
    """A text of another length for most numbers."""
    return f"{number} " * (number % 97)


def assert_whole(view: EndpointView) -> None:
    assert view.message == said(view.position or 0)


@contextmanager
def process(work: Callable[[], object]) -> Iterator[int]:
    """A process of our own that does the work, and is ended with the ``with``."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
