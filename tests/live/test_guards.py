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
CREATE DOMAIN short AS int; CREATE DOMAIN long AS bigint; CREATE DOMAIN shorts AS int[];
CREATE SCHEMA app; CREATE TYPE app.mood AS ENUM ('fine');
CREATE TABLE odd (id int PRIMARY KEY, one int, list int[], other short, others shorts, mood app.mood, moods app.mood[],
                  "a ""name" text, plain text, vector int2vector);
CREATE VIEW view AS SELECT id, one FROM odd;
CREATE TABLE ruled (id int, one int); CREATE TABLE copies (id int, one int);
CREATE RULE copy AS ON INSERT TO ruled DO ALSO INSERT INTO copies VALUES (new.id, new.one);
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


@pytest.mark.parametrize("text", [UNSEEN, UNSEEN.replace("!", "$") + " RETURNING 1"])
def test_a_table_that_the_role_may_not_read_is_watched_as_any_other(
    text: str, cluster: Cluster, oracle: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    desk = Desk(connect(cluster.primary.dsn("live_guards", "blind")), tmp_path / "blind")
    desk.run(text, AT.format(id=1))
    oracle.execute("ALTER TABLE hidden ALTER at TYPE timestamptz")
    with pytest.raises(CatalogueStale) as caught:
        desk.run(text, AT.format(id=2))
    assert caught.value.outcome is Outcome.ROLLED_BACK
    oracle.execute("SELECT id FROM hidden")
    assert oracle.fetchall() == [(1,)]
    desk.connection.close()


_ALL = """id, one, list, other, others, mood, moods, "a ""name", plain"""
_INTO = f"""INSERT INTO odd ({_ALL}) VALUES (:id, :one, :list, :other, :others, :mood, :moods, :named, :plain)"""
_VALUES = (
    '{"id": ID, "one": 1, "list": [1], "other": 1, "others": [1], "mood": "fine", "moods": ["fine"],'
    ' "named": "n", "plain": "p"}'
)


def _values(id_: int) -> str:
    return _VALUES.replace("ID", str(id_))


CHANGES = [
    "one TYPE bigint",
    "one TYPE int[] USING ARRAY[one]",
    "one TYPE short",
    "list TYPE int USING list[1]",
    "list TYPE bigint[]",
    "other TYPE long",
    "other TYPE int",
    "others TYPE int[]",
    "mood TYPE text",
    "moods TYPE text[]",
    '"a ""name" TYPE varchar',
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "text",
    [
        f"-- name: w!\n{_INTO}",
        f"-- name: w$\n{_INTO} RETURNING id",
        f"-- name: w^\nWITH odd AS (DELETE FROM dated RETURNING id) {_INTO} RETURNING id",
    ],
    ids=["exec", "returning", "with"],
)
def test_any_other_type_of_a_column_is_noticed(
    text: str, change: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.run(text, _values(1))
    oracle.execute("DROP VIEW view")
    oracle.execute(f"ALTER TABLE odd ALTER {change}")
    with pytest.raises(CatalogueStale) as caught:
        desk.run(text, _values(2))
    assert caught.value.outcome in (Outcome.ROLLED_BACK, Outcome.NOT_EXECUTED)
    oracle.execute("SELECT id FROM odd")
    assert oracle.fetchall() == [(1,)]


def test_what_does_not_change_a_type_stops_no_write(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    text = f"-- name: w$\n{_INTO} RETURNING id"
    desk.run(text, _values(1))
    for id_, change in enumerate(
        ("ADD more int", "ALTER one SET NOT NULL", "ALTER plain SET DEFAULT 'x'", "DROP more"), 2
    ):
        oracle.execute(f"ALTER TABLE odd {change}")
        desk.run(text, _values(id_))
    oracle.execute("SELECT count(*) FROM odd")
    assert oracle.fetchone() == (5,)


def test_views_and_tables_with_rules_are_looked_at_too(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    through = "-- name: w$\nINSERT INTO view (id, one) VALUES (:id, :one) RETURNING id"
    ruled = "-- name: r!\nINSERT INTO ruled (id, one) VALUES (:id, :one)"
    for text in (through, ruled):
        desk.run(text, '{"id": 1, "one": 1}')
    oracle.execute("DROP VIEW view; ALTER TABLE odd ALTER one TYPE bigint; CREATE VIEW view AS SELECT id, one FROM odd")
    oracle.execute("DROP RULE copy ON ruled; ALTER TABLE ruled ALTER one TYPE bigint")
    for text in (through, ruled):
        with pytest.raises(CatalogueStale):
            desk.run(text, '{"id": 2, "one": 2}')


def test_a_type_that_the_role_may_not_name_stops_no_write(
    cluster: Cluster, oracle: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    oracle.execute("GRANT INSERT, SELECT, UPDATE ON odd TO blind")
    desk = Desk(connect(cluster.primary.dsn("live_guards", "blind")), tmp_path / "blind")
    text = "-- name: w^\nINSERT INTO odd (id, vector) VALUES (:id, '1 2') RETURNING *"
    assert b'"mood":null' in desk.run(text, '{"id": 1}').text
    desk.connection.close()
