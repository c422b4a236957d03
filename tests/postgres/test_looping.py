"""Waiting in the loop, for a socket that stands for a server's."""

import socket
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from gateway.postgres.looping import Sleepers, Watch
from gateway.postgres.waiting import READABLE, WRITABLE, ClientLeft, DeadlinePassed


class Connection:
    """As much of a connection as a wait looks at."""

    def __init__(self) -> None:
        self.sock, self.server = socket.socketpair()
        self.is_established = True
        self.watch: Watch | None = None
        self.deadline: float | None = None
        self.client: Any = None

    def fileno(self) -> int:
        return self.sock.fileno()


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    if connection.watch is not None:
        connection.watch.close()
    connection.sock.close()
    connection.server.close()


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    """Swept over by the loop, as in a worker."""
    sleepers = Sleepers()
    timer = gevent.get_hub().loop.timer(0.005, 0.005)
    timer.start(lambda: sleepers.sweep(monotonic()))
    yield sleepers
    timer.stop()
    timer.close()
    assert not sleepers._asleep


def later(work: Callable[[], object]) -> None:
    gevent.spawn_later(0.01, work)


def said(connection: Connection) -> tuple[bool, bool]:
    """Whether the server spoke unasked, and whether it is still looked at."""
    assert connection.watch is not None
    return connection.watch.spoke, connection.watch._watcher.active


def test_a_wait_ends_when_the_server_speaks(sleepers: Sleepers, connection: Connection) -> None:
    for _ in range(3):
        later(lambda: connection.server.send(b"x"))
        sleepers.park(connection, READABLE)
        assert connection.sock.recv(9) == b"x"


def test_a_wait_ends_at_the_deadline_and_with_the_client(sleepers: Sleepers, connection: Connection) -> None:
    connection.deadline = monotonic() + 0.02
    with pytest.raises(DeadlinePassed):
        sleepers.park(connection, READABLE)
    assert monotonic() >= connection.deadline
    connection.deadline, connection.client = None, SimpleNamespace(gone_at=monotonic() + 0.02)
    with pytest.raises(ClientLeft):
        sleepers.park(connection, READABLE)


def test_while_connecting_a_wait_leaves_no_watcher(sleepers: Sleepers, connection: Connection) -> None:
    connection.is_established = False
    sleepers.park(connection, WRITABLE)
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)
    assert connection.watch is None
    assert connection.sock.recv(9) == b"x"
    connection.deadline = monotonic()
    with pytest.raises(DeadlinePassed):
        sleepers.park(connection, READABLE)


def test_what_a_server_says_unasked_is_noted_and_does_not_spin(sleepers: Sleepers, connection: Connection) -> None:
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)
    connection.sock.recv(9)
    assert said(connection) == (False, True)
    connection.server.close()
    gevent.sleep(0.02)
    assert said(connection) == (True, False)


def test_a_watch_may_be_closed_twice(connection: Connection) -> None:
    watches: set[Watch] = set()
    watch = Watch(connection.fileno(), watches)
    assert watches == {watch}
    watch.close()
    watch.close()
    assert not watches
