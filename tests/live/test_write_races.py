"""Writers beside a migration that changes types to and fro: nothing that was stored was read as the other type."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import psycopg2.extensions
import pytest

from gateway.catalogue.json_text import split_object
from gateway.demo.cluster import Cluster
from gateway.errors import CatalogueStale, InvalidArguments, LockTimeout, QueryBroken
from gateway.postgres import transaction
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.session import Session
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from gateway.postgres.work import Step, Work
from tests.live.databases import Desk, connect, database, plain, soon

NAME = "live_write_races"
WRITERS = 3
SECONDS = 1.5
TABLES = """
CREATE ROLE racer LOGIN;
CREATE TABLE log (was text, v text);
CREATE TABLE t (v real);
CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    EXECUTE 'INSERT INTO public.log SELECT pg_typeof(($1).v), ($1).v' USING NEW;
    RETURN NULL; END $$;
CREATE TRIGGER logs AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION logs();
CREATE TYPE pair AS (a text, b text);
CREATE PROCEDURE act(v real) LANGUAGE sql AS $$ INSERT INTO log VALUES ('real', v::text) $$;
CREATE FUNCTION told(v real) RETURNS text LANGUAGE sql AS $$ SELECT 'real ' || v $$;
CREATE TABLE pairs (was text, v text);
GRANT SELECT, INSERT ON t, log TO postgres;
GRANT INSERT ON t TO racer;
"""
TYPES = ["ALTER TABLE t ALTER v TYPE double precision", "ALTER TABLE t ALTER v TYPE real"]
PAIRS = [
    "ALTER TYPE pair DROP ATTRIBUTE b; ALTER TYPE pair ADD ATTRIBUTE c text",
    "ALTER TYPE pair DROP ATTRIBUTE c; ALTER TYPE pair ADD ATTRIBUTE b text",
]
PROCEDURES = [
    "DROP PROCEDURE act; CREATE PROCEDURE act(v double precision) LANGUAGE sql AS"
    " $$ INSERT INTO log VALUES ('double precision', v::text) $$",
    "DROP PROCEDURE act; CREATE PROCEDURE act(v real) LANGUAGE sql AS $$ INSERT INTO log VALUES ('real', v::text) $$",
]
FUNCTIONS = [
    "DROP FUNCTION told; CREATE FUNCTION told(v double precision) RETURNS text LANGUAGE sql AS"
    " $$ SELECT 'double precision ' || v $$",
    "DROP FUNCTION told; CREATE FUNCTION told(v real) RETURNS text LANGUAGE sql AS $$ SELECT 'real ' || v $$",
]


class Race(NamedTuple):
    query: str
    arguments: str
    migrations: Sequence[str]
    wrong: str = "SELECT count(*) FROM log WHERE v <> '0.1'"
    user: str = "postgres"
    many: bool = False
    begin: str = ""
    """How a transaction of several statements begins; empty: one statement alone."""


INSERT = "-- name: w!\nINSERT INTO t (v) VALUES (:v)"
RACES = {
    "a column": Race(INSERT, '{"v": 0.1}', TYPES),
    "a column, answered": Race("-- name: w$\nINSERT INTO t (v) VALUES (:v) RETURNING 1", '{"v": 0.1}', TYPES),
    "a column, by position": Race("-- name: w!\nINSERT INTO t VALUES (:v)", '{"v": 0.1}', TYPES),
    "a table that may not be read": Race(INSERT, '{"v": 0.1}', TYPES, user="racer"),
    "in a transaction": Race(INSERT, '{"v": 0.1}', TYPES, begin="BEGIN"),
    "in a repeatable read": Race(INSERT, '{"v": 0.1}', TYPES, begin="BEGIN ISOLATION LEVEL REPEATABLE READ"),
    "in a list": Race(INSERT, '{"v": 0.1}', TYPES, begin="BEGIN", many=True),
    "a procedure": Race("-- name: w!\nCALL act(:v)", '{"v": 0.1}', PROCEDURES),
    "a function": Race(
        "-- name: w!\nINSERT INTO log SELECT 'x', told(:v)",
        '{"v": 0.1}',
        FUNCTIONS,
        wrong="SELECT count(*) FROM log WHERE v NOT IN ('real 0.1', 'double precision 0.1')",
    ),
    "a row": Race(
        "-- name: w!\nINSERT INTO pairs SELECT to_json(p)::text FROM (SELECT :p::pair AS p) AS x",
        '{"p": {"a": "1", "b": "2"}}',
        PAIRS,
        wrong="""SELECT count(*) FROM pairs WHERE was <> '{"a":"1","b":"2"}'""",
    ),
}


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, NAME) as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        try:
            yield dsn
        finally:
            cursor.execute("DROP OWNED BY racer; DROP ROLE racer")


@pytest.fixture
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor
        cursor.execute("TRUNCATE log, pairs, t")


class Writer(threading.Thread):
    """Writes again and again with what it has learnt, which it learns anew only where it is told that it is stale."""

    def __init__(self, race: Race, session: Session, folder: Path) -> None:
        super().__init__()
        self.race, self.session, self.folder = race, session, folder
        self.written = self.stale = 0
        self.ends = monotonic() + SECONDS
        self.failed: BaseException | None = None

    def run(self) -> None:
        generation = 0
        try:
            while monotonic() < self.ends:
                generation += 1
                try:
                    self._write_until_stale(Desk(self.session, self.folder / str(generation)))
                except (CatalogueStale, QueryBroken, InvalidArguments, CannotLearn, TryLater, LockTimeout):
                    self.stale += 1
                self.session.settle(soon())
        except BaseException as error:  # noqa: BLE001 - the test is to see it
            self.failed = error
        finally:
            self.session.close()

    def _write_until_stale(self, desk: Desk) -> None:
        query, signature = desk.learn(self.race.query)
        literals = desk._known(self.race.query)[2].bind_json(split_object(self.race.arguments.encode()))
        plan, many = Plan.of(query, signature), Plan.accumulating(query, signature)
        step = Step(plan, lambda _: literals)
        work = Work([step] * 3, _encode, self.race.begin, many if self.race.many else None)
        while monotonic() < self.ends:
            if self.race.begin:
                transaction.run(self.session, work, deadline=soon())
            else:
                desk.run(self.race.query, self.race.arguments)
            self.session.settle(soon())
            self.written += 1


def _encode(_: Sequence[Result]) -> bytes:
    return b""


@pytest.mark.parametrize("name", RACES)
def test_no_value_is_stored_as_another_type(
    name: str, cluster: Cluster, oracle: psycopg2.extensions.cursor, tmp_path: Path
) -> None:
    race = RACES[name]
    sessions = [connect(cluster.primary.dsn(NAME, race.user)) for _ in range(WRITERS)]
    writers = [Writer(race, session, tmp_path / f"w{number}") for number, session in enumerate(sessions)]
    for writer in writers:
        writer.folder.mkdir()
        writer.start()
    migrated = 0
    pause = threading.Event()
    while any(writer.is_alive() for writer in writers):
        _migrate(oracle, race.migrations[migrated % 2])
        migrated += 1
        pause.wait(0.1)
    if migrated % 2:
        _migrate(oracle, race.migrations[1])
    assert [writer.failed for writer in writers] == [None] * WRITERS
    oracle.execute(race.wrong)
    assert oracle.fetchall() == [(0,)]
    assert migrated > 4
    assert all(writer.written for writer in writers)
    assert any(writer.stale for writer in writers)


def _migrate(cursor: psycopg2.extensions.cursor, migration: str) -> None:
    cursor.execute(f"BEGIN; {migration}; COMMIT")
