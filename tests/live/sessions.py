"""What the tests of sessions share: a small database, its queries, and ways to watch and to disturb a backend."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import psycopg2.extensions

from gateway.demo.cluster import Cluster
from gateway.postgres.session import Session
from tests.live.databases import database, plain

TABLES = """
CREATE TABLE log (id int PRIMARY KEY, word text CHECK (word <> 'bad'));
CREATE TABLE checked (id int, parent int REFERENCES log DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION fail(code text) RETURNS int LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'said so'; END $$;
CREATE FUNCTION forget() RETURNS int LANGUAGE plpgsql AS $$ BEGIN DEALLOCATE ALL; RETURN 1; END $$;
CREATE PROCEDURE slowly(id int, seconds float) LANGUAGE sql AS 'INSERT INTO log VALUES (id, pg_sleep(seconds)::text)';
"""
SLEEP = "-- name: q$\nSELECT pg_sleep(:seconds) IS NULL"
INSERT = "-- name: q!\nINSERT INTO log VALUES (:id, 'x')"
SLOW_INSERT = "-- name: q!\nINSERT INTO log SELECT :id, pg_sleep(:seconds)::text"


@contextmanager
def small_database(cluster: Cluster, name: str) -> Iterator[str]:
    """The DSN of a new database with the tables above."""
    with database(cluster.primary, name) as dsn:
        with plain(dsn) as cursor:
            cursor.execute(TABLES)
        yield dsn


@contextmanager
def watching(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    """A plain cursor; the tables are empty afterwards.

    It does not wait for ever for what a failed test has left locked.
    """
    with plain(dsn) as cursor:
        yield cursor
        cursor.execute("SET lock_timeout = '10s'")
        cursor.execute("TRUNCATE log, checked")


def pid_of(connection: Session) -> int:
    return connection.get_backend_pid()


def terminate(cursor: psycopg2.extensions.cursor, pid: int) -> None:
    cursor.execute(f"SELECT pg_terminate_backend({pid}, 5000)")


def is_alive(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")
    return bool(cursor.fetchall()[0][0])


def wait_until(seen: Callable[[], bool], seconds: float = 60.0) -> float:
    """Look until it is so; the seconds it took."""
    began = monotonic()
    look = threading.Event()
    while not seen():
        assert monotonic() - began < seconds, "never happened"
        look.wait(0.01)
    return monotonic() - began


def logged(cursor: psycopg2.extensions.cursor) -> list[int]:
    cursor.execute("SELECT id FROM log ORDER BY id")
    return [row[0] for row in cursor.fetchall()]


@contextmanager
def meanwhile(deed: Callable[[], object]) -> Iterator[None]:
    """Run something beside the body."""
    thread = threading.Thread(target=deed)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def when_it_runs(cursor: psycopg2.extensions.cursor, pid: int, deed: Callable[[], object]) -> Callable[[], None]:
    """Something to run beside a query: waits until the backend sleeps in it, then does the deed."""

    def run() -> None:
        wait_until(lambda: _sleeps(cursor, pid))
        deed()

    return run


def _sleeps(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute(f"SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = {pid}")
    return bool(cursor.fetchall()[0][0])
