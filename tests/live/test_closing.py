"""A connection tells once that it is closed, and whether the server knows."""

from threading import Timer
from time import monotonic

import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError
from gateway.postgres.session import Session
from tests.live.databases import connect, soon


@pytest.fixture
def told() -> list[bool]:
    return []


@pytest.fixture
def connection(cluster: Cluster, told: list[bool]) -> Session:
    connection = connect(cluster.primary.dsn())
    connection.on_close = told.append
    return connection


def test_closing_an_idle_one_is_a_farewell(connection: Session, told: list[bool]) -> None:
    connection.close()
    connection.close()
    assert told == [True]


def test_closing_one_in_a_transaction_is_none(connection: Session, told: list[bool]) -> None:
    connection.ask("BEGIN", soon())
    connection.close()
    assert told == [False]


def test_one_whose_deadline_passed_may_be_at_work_yet(connection: Session, told: list[bool]) -> None:
    with pytest.raises(GatewayError):
        connection.ask("SELECT pg_sleep(5)", monotonic() + 0.1)
    assert told == []
    connection.close()
    assert told == [False]


def terminate(cluster: Cluster, pid: int) -> None:
    cluster.primary.sql(f"SELECT pg_terminate_backend({pid}, 5000)")


def test_one_that_the_server_ended_is_gone_there(cluster: Cluster, connection: Session, told: list[bool]) -> None:
    timer = Timer(0.2, terminate, (cluster, connection.get_backend_pid()))
    timer.start()
    with pytest.raises(GatewayError):
        connection.ask("SELECT pg_sleep(5)", soon())
    connection.close()
    timer.join()
    assert told == [True]


def test_one_that_was_ended_while_it_rested_is_gone_there_too(
    cluster: Cluster, connection: Session, told: list[bool]
) -> None:
    terminate(cluster, connection.get_backend_pid())
    assert not connection.is_usable()
    connection.close()
    assert told == [True]
