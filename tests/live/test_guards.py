"""A write whose types are not those of the database any more stores nothing, until it is learnt anew."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import CatalogueStale, Outcome
from tests.live.databases import Desk, connect, database, plain

TABLES = """
CREATE TABLE dated (id int PRIMARY KEY, at timestamp, gone int);
CREATE TABLE hidden (id int, at timestamp);
CREATE ROLE blind LOGIN;
GRANT INSERT ON hidden TO blind;
"""
SEEN = "-- name: w!\nINSERT INTO dated (id, at) VALUES (:id, :at)"
ANSWERED = "-- name: w$\nINSERT INTO dated (id, at) VALUES (:id, :at) RETURNING id"
DROPPED = "-- name: w!\nINSERT INTO dated (id, gone) VALUES (:id, :gone)"
UNSEEN = "-- name: w!\nINSERT INTO hidden VALUES (:id, :at)"
AT = '{{"id": {id}, "at": "2026-01-01T12:00:00+02:00"}}'


@pytest.fixture
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_guards") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        try:
            yield dsn
        finally:
            cursor.execute("DROP OWNED BY blind; DROP ROLE blind")


@pytest.fixture
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize("text", [SEEN, ANSWERED])
def test_a_column_whose_type_has_changed_stops_the_write_that_was_prepared_before(
    text: str, prepare: bool, dsn: str, oracle: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    connection = connect(dsn, prepare=prepare)
    desk = Desk(connection, tmp_path / "before")
    desk.run(text, AT.format(id=1))
    oracle.execute("ALTER TABLE dated ALTER at TYPE timestamptz")
    for _ in range(2):
        with pytest.raises(CatalogueStale) as caught:
            desk.run(text, AT.format(id=2))
        assert caught.value.outcome in (Outcome.ROLLED_BACK, Outcome.NOT_EXECUTED)
    Desk(connection, tmp_path / "after").run(text, AT.format(id=3))
    oracle.execute("SELECT id, (at AT TIME ZONE 'UTC')::text FROM dated ORDER BY id")
    assert oracle.fetchall() == [(1, "2026-01-01 12:00:00"), (3, "2026-01-01 10:00:00")]
    connection.close()


def test_a_column_that_is_gone_is_no_fault_of_the_query(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    desk.run(DROPPED, '{"id": 1, "gone": 1}')
    oracle.execute("ALTER TABLE dated DROP gone")
    with pytest.raises(CatalogueStale) as caught:
        desk.run(DROPPED, '{"id": 2, "gone": 1}')
    assert caught.value.outcome is Outcome.ROLLED_BACK


def test_a_table_that_the_role_may_not_read_is_looked_at_behind_the_write(
    cluster: Cluster, oracle: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    desk = Desk(connect(cluster.primary.dsn("live_guards", "blind")), tmp_path / "blind")
    assert desk.plan(UNSEEN).check is not None
    desk.run(UNSEEN, AT.format(id=1))
    oracle.execute("ALTER TABLE hidden ALTER at TYPE timestamptz")
    with pytest.raises(CatalogueStale) as caught:
        desk.run(UNSEEN, AT.format(id=2))
    assert caught.value.outcome is Outcome.ROLLED_BACK
    oracle.execute("SELECT id FROM hidden")
    assert oracle.fetchall() == [(1,)]
    desk.connection.close()
