"""Waiting in the loop, for a socket that stands for a server's."""

import socket
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest

from gateway.errors import ClientGone
from gateway.postgres.looping import Sleepers, Watch
from gateway.postgres.waiting import READABLE, WRITABLE, ClientLeft, DeadlinePassed, EndpointWithdrawn


class Connection:
    """As much of a connection as a wait looks at."""

    def __init__(self) -> None:
        self.sock, self.server = socket.socketpair()
        self.is_established = True
        self.watch: Watch | None = None
        self.deadline: float | None = None
        self.client: Any = None
        self.closed = 0
        self.is_withdrawn = False
        self.is_called_back = True
        self.lost = gevent.event.Event()

    def fileno(self) -> int:
        return self.sock.fileno()

    def gives_up(self, _now: float, _call: object) -> bool:
        return self.is_withdrawn

    def report_lost(self) -> None:
        self.lost.set()


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
    watch = Watch(connection, watches)
    assert watches == {watch}
    watch.close()
    watch.close()
    assert not watches


def test_a_wait_for_an_endpoint_that_is_withdrawn_ends_in_the_loops_next_turn(connection: Connection) -> None:
    sleepers = Sleepers()  # nobody sweeps

    def withdraw() -> None:
        assert connection.watch is not None
        connection.watch.end_wait()

    later(withdraw)
    with pytest.raises(EndpointWithdrawn):
        sleepers.park(connection, READABLE)
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)  # word that came when nobody waited says nothing to the next


def test_a_call_back_that_was_meant_for_a_read_passes_the_write_by_that_came_after_it(connection: Connection) -> None:
    def withdraw() -> None:
        assert connection.watch is not None
        connection.watch.end_wait()
        connection.is_called_back = False  # a write has begun before the loop's next turn
        later(lambda: connection.server.send(b"x"))

    later(withdraw)
    Sleepers().park(connection, READABLE)


def test_the_sweep_ends_a_wait_that_was_withdrawn_before_it_began(sleepers: Sleepers, connection: Connection) -> None:
    connection.is_withdrawn = True
    with pytest.raises(EndpointWithdrawn):
        sleepers.park(connection, READABLE)


def test_a_server_that_closes_an_idle_connection_is_reported(sleepers: Sleepers, connection: Connection) -> None:
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)
    connection.sock.recv(9)
    connection.server.close()
    assert connection.lost.wait(5)


def test_last_words_are_waited_out_and_a_server_that_only_spoke_is_not_reported(
    sleepers: Sleepers, connection: Connection
) -> None:
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)
    connection.sock.recv(9)
    connection.server.send(b"a notice")
    assert not connection.lost.wait(0.1)
    assert said(connection) == (True, False)
    later(lambda: connection.server.send(b"x"))
    sleepers.park(connection, READABLE)
    connection.sock.recv(99)
    connection.server.send(b"farewell")
    later(connection.server.close)
    assert connection.lost.wait(5)


def test_a_gate_lets_through_gives_up_at_its_time_and_when_the_client_leaves(sleepers: Sleepers) -> None:
    gate = sleepers.gate()
    later(gate.open)
    gate.wait(5)
    gate = sleepers.gate()
    began = monotonic()
    gate.wait(0.02, SimpleNamespace(gone_at=None))
    assert monotonic() - began >= 0.02
    with pytest.raises(ClientGone):
        gate.wait(5, SimpleNamespace(gone_at=monotonic()))
    assert monotonic() - began < 4
