"""What a connection tells of its server by itself, and reads that are called back from a server that is gone."""

import threading
from collections.abc import Iterator
from time import monotonic

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.pool.driver import ConnectionBroken
from gateway.postgres import single
from gateway.postgres.run import SILENT
from tests.live.databases import Desk, soon
from tests.live.sessions import (
    SLEEP,
    SLOW_INSERT,
    is_alive,
    logged,
    meanwhile,
    pid_of,
    small_database,
    terminate,
    wait_until,
    when_it_runs,
)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_abandoning") as dsn:
        yield dsn


def test_an_abandoned_read_ends_as_if_its_connection_had_broken_and_its_backend_soon_after(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.learn(SLEEP)
    pid = pid_of(desk.connection)
    abandoned: list[float] = []

    def abandon() -> None:
        abandoned.append(monotonic())
        desk.connection.abandon()

    with (
        meanwhile(when_it_runs(oracle, pid, abandon)),
        pytest.raises(errors.ConnectionLost, match="withdrawn") as caught,
    ):
        desk.run(SLEEP, '{"seconds": 30}')
    assert monotonic() - abandoned[0] < 1
    assert caught.value.outcome is None
    assert desk.connection.lost is None
    assert not desk.connection.is_usable()
    wait_until(lambda: not is_alive(oracle, pid))


def test_an_abandoned_write_goes_on_and_its_connection_does_not_settle(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    plan = desk.plan(SLOW_INSERT)
    pid = pid_of(desk.connection)
    with meanwhile(when_it_runs(oracle, pid, desk.connection.abandon)):
        assert single.run(desk.connection, plan, ["1", "0.4"], deadline=soon()).row_count == 1
    assert logged(oracle) == [1]
    assert not desk.connection.settle(soon())


def test_a_write_that_comes_after_a_read_is_not_called_back_in_its_place(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.run(SLEEP, '{"seconds": 0}')
    assert desk.connection.settle(soon())
    desk.connection.abandon()
    assert not desk.connection.run.is_recalled
    desk.run(SLOW_INSERT, '{"id": 1, "seconds": 0.2}')
    assert logged(oracle) == [1]


def test_a_read_without_an_answer_is_told_of_once_and_a_quick_one_or_a_write_is_not(desk: Desk) -> None:
    told: list[float] = []
    desk.connection.on_silent = lambda: told.append(monotonic())
    desk.run(SLEEP, '{"seconds": 0}')
    desk.run(SLOW_INSERT, '{"id": 1, "seconds": 0.6}')
    assert told == []
    began = monotonic()
    desk.run(SLEEP, '{"seconds": 1}')
    assert len(told) == 1
    assert told[0] - began >= SILENT
    desk.run(SLEEP, '{"seconds": 0.6}')
    assert len(told) == 2


def test_what_the_server_broke_is_lost_and_says_what_was_seen(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    desk.learn(SLEEP)
    pid = pid_of(desk.connection)
    with (
        meanwhile(when_it_runs(oracle, pid, lambda: terminate(oracle, pid))),
        pytest.raises(errors.ConnectionLost),
    ):
        desk.run(SLEEP, '{"seconds": 30}')
    assert desk.connection.lost == "FATAL:  terminating connection due to administrator command"


def test_what_we_gave_up_is_not_lost(desk: Desk) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        desk.run(SLEEP, '{"seconds": 30}', deadline=soon(0.1))
    assert desk.connection.closed
    with pytest.raises(ConnectionBroken):
        desk.connection.ping(soon())
    assert desk.connection.lost is None


def test_a_loop_reports_an_idle_connection_that_the_server_closed_once(desk: Desk) -> None:
    told = threading.Semaphore(0)
    desk.connection.on_lost = told.release
    desk.connection.report_lost()
    desk.connection.report_lost()
    assert told.acquire(timeout=0)
    assert not told.acquire(timeout=0)
    assert desk.connection.lost is not None
