"""Queries are learnt under a deadline, over connections of every sort, and nothing stays behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import ConnectionLost, DeadlineExceeded
from gateway.postgres.describing import Undescribed, describe
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, learn
from gateway.postgres.objects import Book
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.learnt import TABLES


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_learning_asking") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        yield dsn


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("asking"))
    connection.close()


def test_a_replica_says_of_a_write_what_the_primary_says(cluster: Cluster, desk: Desk) -> None:
    cluster.wait_until_caught_up()
    text = "INSERT INTO thing (name) VALUES (:n) RETURNING id, name"
    replica = connect(cluster.replicas[0].dsn("live_learning_asking"), read_only=True)
    try:
        assert learn(replica, desk.compile(text), Book(), soon()) == desk.learn(text)[1]
    finally:
        replica.close()


def test_without_prepared_statements_the_same_is_learnt_and_nothing_stays_open(
    dsn: str, desk: Desk, tmp_path: Path
) -> None:
    connection = connect(dsn, prepare=False)
    there = Desk(connection, tmp_path / "there")
    try:
        for text in ("SELECT * FROM thing WHERE :x IS NULL OR id = :x", "-- name: q^\nCALL sole(:a, :b, NULL)"):
            assert there.learn(text)[1] == desk.learn(text)[1]
        with pytest.raises(CannotLearn):
            there.learn("SELECT nothing")
        assert connection.ask("SELECT count(*)::text FROM pg_prepared_statements", soon()) == [("0",)]
        assert connection.get_transaction_status() == 0
    finally:
        connection.close()


def test_learning_leaves_nothing_prepared(desk: Desk) -> None:
    desk.learn("SELECT 1 AS learning_leaves_nothing WHERE :x::int = 1")
    names = desk.connection.ask("SELECT name FROM pg_prepared_statements WHERE name !~ '^gw_[0-9a-f]{16}$'", soon())
    assert names == []


@pytest.mark.parametrize("prepare", [True, False])
def test_a_query_whose_table_is_locked_is_put_off_and_the_others_are_learnt(
    prepare: bool, dsn: str, desk: Desk
) -> None:
    connection = connect(dsn, prepare=prepare)
    book = Book()
    with plain(dsn) as cursor:
        cursor.execute("BEGIN; LOCK TABLE thing")
        for text in ("SELECT * FROM thing", "SELECT * FROM seen", "-- name: q!\nUPDATE thing SET name = :n"):
            with briefly(connection, 10), pytest.raises(TryLater, match="55P03"):
                learn(connection, desk.compile(text), book, soon())
        assert learn(connection, desk.compile("SELECT * FROM watched"), book, soon()).harmless
        cursor.execute("ROLLBACK")
    assert learn(connection, desk.compile("SELECT * FROM thing"), book, soon()).harmless
    assert connection.ask("SELECT current_setting('lock_timeout')", soon()) == [("0",)]
    connection.close()


def test_a_type_that_the_role_may_not_name_is_a_fault_of_its_query_alone(dsn: str, desk: Desk) -> None:
    with plain(dsn) as cursor:
        cursor.execute(
            "CREATE ROLE outsider LOGIN; CREATE SCHEMA secret; CREATE TYPE secret.mood AS ENUM ('a');"
            "CREATE TABLE moody (id int, mood secret.mood); GRANT SELECT ON moody, watched TO outsider"
        )
        connection = connect(dsn.replace("user=postgres", "user=outsider"))
        try:
            for text in (
                "-- name: q\n-- @param x secret.mood\nSELECT :x AS x",
                "SELECT id FROM moody WHERE mood = :x",
                "SELECT id FROM moody WHERE mood = ANY(:x)",
            ):
                with pytest.raises(CannotLearn, match="secret"):
                    learn(connection, desk.compile(text), Book(), soon())
            for text in ("SELECT mood FROM moody WHERE id = :x", "SELECT id FROM watched"):
                assert learn(connection, desk.compile(text), Book(), soon()).harmless
        finally:
            connection.close()
            cursor.execute("DROP TABLE moody; DROP SCHEMA secret CASCADE; DROP OWNED BY outsider; DROP ROLE outsider")


def test_a_server_that_does_not_answer_costs_no_more_than_the_deadline(dsn: str, desk: Desk) -> None:
    connection = connect(dsn)
    query = desk.compile("SELECT * FROM thing")
    with plain(dsn) as cursor:
        cursor.execute("BEGIN; LOCK TABLE pg_catalog.pg_type")
        with pytest.raises(DeadlineExceeded):
            learn(connection, query, Book(), soon(0.02))
    assert connection.closed


def test_a_connection_that_is_gone_is_no_fault_of_the_query(dsn: str, desk: Desk) -> None:
    connection = connect(dsn)
    pid = connection.ask("SELECT pg_backend_pid()::text", soon())[0][0]
    with plain(dsn) as cursor:
        cursor.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
    with pytest.raises(ConnectionLost):
        learn(connection, desk.compile("SELECT 1 AS a WHERE :x::int = 1"), Book(), soon())
    assert connection.closed


def test_a_statement_that_does_not_parse_leaves_the_connection_as_it_was(desk: Desk) -> None:
    with pytest.raises(Undescribed) as caught:
        describe(desk.connection, "SELEC 1" + " " * 1_000_000, [], soon())
    assert caught.value.sqlstate == "42601"
    assert describe(desk.connection, "SELECT 1 AS a, $1::date", [None], soon()) == (
        (1082,),
        (("a", 23), ("date", 1082)),
    )
    assert desk.connection.is_usable()
