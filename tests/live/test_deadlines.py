"""Reads and writes under deadlines, against servers that freeze and clients that leave."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.pool.driver import ConnectError, ConnectionBroken
from gateway.waiting import ClientSocket
from tests.live.databases import Desk, connect, driver, plain, soon
from tests.live.sessions import (
    INSERT,
    SLEEP,
    SLOW_INSERT,
    is_alive,
    logged,
    meanwhile,
    pid_of,
    small_database,
    wait_until,
    when_it_runs,
)
from tests.live.works import Bench


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_deadlines") as dsn:
        yield dsn


# Deadlines.


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_a_read_ends_at_its_deadline_and_its_backend_soon_after(
    seconds: float, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(SLEEP)
    pid = pid_of(desk.connection)
    deadline = soon(seconds)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        desk.run(SLEEP, '{"seconds": 30}', deadline=deadline)
    assert monotonic() - deadline < 3
    assert caught.value.outcome is None
    assert not desk.connection.is_usable()
    assert wait_until(lambda: not is_alive(oracle, pid)) < 5


def test_rows_that_come_in_slowly_are_waited_for_until_the_deadline(desk: Desk) -> None:
    text = "SELECT repeat('x', 9000) AS x, pg_sleep(0.05) IS NULL AS y FROM generate_series(1, 1000)"
    desk.learn(text)
    deadline = soon(0.3)
    with pytest.raises(errors.DeadlineExceeded):
        desk.run(text, deadline=deadline)
    assert monotonic() - deadline < 3


def test_a_frozen_server_costs_no_more_than_the_deadline(fragile: Cluster, tmp_path: Path) -> None:
    server = fragile.primary
    idle, pinged, settled = (connect(server.dsn()) for _ in range(3))
    desk = Desk(idle, tmp_path / "queries")
    desk.value(SLEEP, '{"seconds": 0}')
    settled.ask("BEGIN", soon())
    server.freeze()
    try:
        for deed, expected in (
            (lambda deadline: driver(server.dsn()).connect("here", deadline), ConnectError),
            (lambda deadline: desk.run(SLEEP, '{"seconds": 0}', deadline=deadline), errors.DeadlineExceeded),
            (pinged.ping, ConnectionBroken),
        ):
            deadline = soon(0.2)
            with pytest.raises(expected):
                deed(deadline)
            assert 0 <= monotonic() - deadline < 2
        deadline = soon(0.2)
        assert not settled.settle(deadline)
        assert 0 <= monotonic() - deadline < 2
    finally:
        server.thaw()
    assert not idle.is_usable()
    assert not pinged.is_usable()


def test_a_write_against_a_frozen_server_does_not_know_its_outcome(fragile: Cluster, tmp_path: Path) -> None:
    server = fragile.primary
    server.sql("CREATE TABLE log (id int, word text)")
    connection = connect(server.dsn())
    desk = Desk(connection, tmp_path / "queries")
    desk.run(INSERT, '{"id": 1}')
    new = connect(server.dsn())
    new_desk = Desk(new, tmp_path / "new")
    new_desk.learn(INSERT)
    server.freeze()
    try:
        with pytest.raises(errors.DeadlineExceeded) as caught:
            desk.run(INSERT, '{"id": 2}', deadline=soon(0.2))
        assert caught.value.outcome == "unknown"
        with pytest.raises(errors.DeadlineExceeded) as caught:  # it is not even prepared
            new_desk.run(INSERT, '{"id": 3}', deadline=soon(0.2))
        assert caught.value.outcome == "not_executed"
    finally:
        server.thaw()


# The client.


@contextmanager
def client() -> Iterator[tuple[ClientSocket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    with near, far:
        yield ClientSocket(near), far


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_read_ends_when_its_client_hangs_up_and_its_backend_is_gone_within_a_second(
    how: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(SLEEP)
    pid = pid_of(desk.connection)
    with client() as (near, far):

        def hang_up() -> None:
            began.append(monotonic())
            if how == "reset":
                far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()

        began: list[float] = []
        leave = when_it_runs(oracle, pid, hang_up)
        with meanwhile(leave), pytest.raises(errors.ClientGone):
            desk.run(SLEEP, '{"seconds": 30}', client=near)
    with plain(desk.connection.dsn) as other:
        wait_until(lambda: not is_alive(other, pid))
    assert monotonic() - began[0] < 5


def test_a_client_that_leaves_during_a_big_answer_is_noticed(desk: Desk) -> None:
    text = "SELECT repeat('x', 100000) AS x FROM generate_series(1, 3000)"
    desk.learn(text)
    with client() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far.close()
        with pytest.raises(errors.ClientGone):
            desk.run(text, client=near)


def test_a_write_runs_to_its_end_though_its_client_hung_up(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    with client() as (near, far):
        far.close()
        assert desk.affected(SLOW_INSERT, '{"id": 1, "seconds": 0.5}', client=near) == 1
    assert logged(oracle) == [1]


@pytest.mark.parametrize("how", ["single", "transaction"])
def test_a_write_whose_client_had_left_before_it_was_sent_is_not_executed(
    how: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    def write() -> None:
        desk.connection.run.asker = near
        if how == "single":
            desk.run(INSERT, '{"id": 1}', client=near)
        else:
            Bench(desk).run((INSERT, '{"id": 1}'))

    with client() as (near, _):
        near.end()
        with pytest.raises(errors.ClientGone) as caught:
            write()
    assert caught.value.outcome == "not_executed"
    assert desk.connection.settle(soon())
    assert logged(oracle) == []


def test_a_client_that_only_shut_down_its_side_gets_a_quick_answer(desk: Desk) -> None:
    with client() as (near, far):
        far.shutdown(socket.SHUT_WR)
        assert desk.value(SLEEP, '{"seconds": 0.05}', client=near) == "false"
