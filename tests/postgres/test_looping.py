"""Waiting in the loop, for a socket that stands for a server's."""

import socket
import time
from collections.abc import Callable, Iterator
from math import inf
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest

from gateway.errors import ClientGone
from gateway.postgres.looping import SWEEP, LoopWaits, SocketWatcher
from gateway.postgres.run import Run
from gateway.postgres.waiting import READABLE, WRITABLE, ClientLeft, DeadlinePassed, EndpointWithdrawn


class Connection:
    """As much of a connection as a wait looks at."""

    def __init__(self) -> None:
        self.sock, self.server = socket.socketpair()
        self.is_established = True
        self.watcher: Any = None
        self.run = Run(monotonic() + 30)
        self.run.reads = True
        self.closed = 0
        self.lost = gevent.event.Event()

    def fileno(self) -> int:
        return self.sock.fileno()

    def poll(self) -> int:
        raise NotImplementedError

    def report_lost(self) -> None:
        self.lost.set()


@pytest.fixture
def connection() -> Iterator[Connection]:
    connection = Connection()
    yield connection
    if connection.watcher is not None:
        connection.watcher.close()
    connection.sock.close()
    connection.server.close()


@pytest.fixture
def waits() -> Iterator[LoopWaits]:
    waits = LoopWaits()
    yield waits
    assert not waits.waiting


def later(work: Callable[[], object]) -> None:
    gevent.spawn_later(0.01, work)


def said(connection: Connection) -> tuple[bool, bool]:
    """Whether the server spoke unasked, and whether it is still looked at."""
    return connection.watcher.data_arrived, connection.watcher._watcher.active


def test_a_wait_ends_when_the_server_speaks(waits: LoopWaits, connection: Connection) -> None:
    for _ in range(3):
        later(lambda: connection.server.send(b"x"))
        waits.park(connection, READABLE)
        assert connection.sock.recv(9) == b"x"


def test_a_wait_ends_at_the_deadline_and_with_the_client(waits: LoopWaits, connection: Connection) -> None:
    connection.run.deadline = monotonic() + 0.02
    with pytest.raises(DeadlinePassed):
        waits.park(connection, READABLE)
    assert monotonic() >= connection.run.deadline
    connection.run.deadline, connection.run.client = monotonic() + 30, SimpleNamespace(gone_at=monotonic() + 0.02)
    with pytest.raises(ClientLeft):
        waits.park(connection, READABLE)


def test_while_connecting_a_wait_leaves_no_watcher(waits: LoopWaits, connection: Connection) -> None:
    connection.is_established = False
    waits.park(connection, WRITABLE)
    later(lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    assert connection.watcher is None
    assert connection.sock.recv(9) == b"x"
    connection.run.deadline = monotonic()
    with pytest.raises(DeadlinePassed):
        waits.park(connection, READABLE)


def test_what_a_server_says_unasked_is_noted_and_does_not_spin(waits: LoopWaits, connection: Connection) -> None:
    later(lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    connection.sock.recv(9)
    assert said(connection) == (False, True)
    connection.server.close()
    gevent.sleep(0.02)
    assert said(connection) == (True, False)


def test_a_watcher_may_be_closed_twice(connection: Connection) -> None:
    waits = LoopWaits()
    watcher = SocketWatcher(connection, waits)
    assert waits.watchers == {watcher}
    watcher.close()
    watcher.close()
    assert not waits.watchers


def test_a_wait_for_an_endpoint_that_is_withdrawn_ends_in_the_loops_next_turn(connection: Connection) -> None:
    waits = LoopWaits()  # nobody sweeps

    def withdraw() -> None:
        connection.run.is_abandoned = True
        connection.watcher.end_wait()

    later(withdraw)
    with pytest.raises(EndpointWithdrawn):
        waits.park(connection, READABLE)
    later(lambda: connection.server.send(b"x"))
    connection.run.is_abandoned = False
    waits.park(connection, READABLE)  # word that came when nobody waited says nothing to the next


def test_a_recall_that_was_meant_for_a_read_passes_the_write_by_that_came_after_it(connection: Connection) -> None:
    def withdraw() -> None:
        connection.run.is_abandoned = True
        connection.watcher.end_wait()
        connection.run.reads = False  # a write has begun before the loop's next turn
        later(lambda: connection.server.send(b"x"))

    later(withdraw)
    LoopWaits().park(connection, READABLE)


def test_the_sweep_ends_a_wait_that_was_withdrawn_before_it_began(waits: LoopWaits, connection: Connection) -> None:
    connection.run.is_abandoned = True
    with pytest.raises(EndpointWithdrawn):
        waits.park(connection, READABLE)


def test_a_server_that_closes_an_idle_connection_is_reported(waits: LoopWaits, connection: Connection) -> None:
    later(lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    connection.sock.recv(9)
    connection.server.close()
    assert connection.lost.wait(5)


def test_a_last_message_is_waited_out_and_a_server_that_only_spoke_is_not_reported(
    waits: LoopWaits, connection: Connection
) -> None:
    later(lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    connection.sock.recv(9)
    connection.server.send(b"a notice")
    assert not connection.lost.wait(0.1)
    assert said(connection) == (True, False)
    later(lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    connection.sock.recv(99)
    connection.server.send(b"farewell")
    later(connection.server.close)
    assert connection.lost.wait(5)


def test_a_gate_lets_through_gives_up_at_its_time_and_when_the_client_leaves(waits: LoopWaits) -> None:
    gate = waits.gate()
    later(gate.open)
    gate.wait(5)
    gate = waits.gate()
    began = monotonic()
    gate.wait(0.02, SimpleNamespace(gone_at=None))
    assert monotonic() - began >= 0.02
    with pytest.raises(ClientGone):
        gate.wait(5, SimpleNamespace(gone_at=monotonic()))
    assert monotonic() - began < 4


def test_the_sweep_rests_while_nobody_waits(waits: LoopWaits, connection: Connection) -> None:
    assert (waits.is_sweeping, waits.turned_at) == (False, inf)
    waited: list[bool] = []

    def speak() -> None:
        waited.append(waits.is_sweeping)
        connection.server.send(b"x")

    later(speak)
    waits.park(connection, READABLE)
    assert waited == [True]
    assert waits.is_sweeping
    gevent.sleep(3 * SWEEP)
    assert (waits.is_sweeping, waits.turned_at) == (False, inf)


def test_after_a_request_it_goes_on_for_a_moment_and_a_request_after_a_rest_is_told_of(waits: LoopWaits) -> None:
    told: list[float] = []
    waits.on_busy(lambda: told.append(monotonic()))
    waits.begin()
    assert (waits.is_busy, waits.is_sweeping, len(told)) == (True, True, 1)
    gevent.sleep(3 * SWEEP)
    assert (waits.is_busy, waits.is_sweeping) == (True, True)
    began = monotonic()
    while waits.is_busy:
        gevent.sleep(SWEEP)
        assert monotonic() < began + 5
    assert not waits.is_sweeping


def test_whoever_wants_to_be_swept_over_keeps_it_going(waits: LoopWaits) -> None:
    left = [True] * 5
    waits.on_sweep(lambda _now: bool(left and left.pop()))
    waits.start_sweeping()
    began = monotonic()
    while waits.is_sweeping:
        gevent.sleep(SWEEP)
        assert monotonic() < began + 5
    assert not left


def test_a_loop_that_is_held_while_somebody_waits_knows_it(waits: LoopWaits, connection: Connection) -> None:
    before = monotonic()
    later(lambda: time.sleep(0.15))
    gevent.spawn_later(0.05, lambda: connection.server.send(b"x"))
    waits.park(connection, READABLE)
    gevent.sleep(2 * SWEEP)
    assert waits.stood_still_since(before)
    assert not waits.stood_still_since(monotonic())
