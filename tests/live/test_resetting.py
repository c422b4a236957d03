"""When what a use has left in its session is reset: in front of the next message, and soon where there is none."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.postgres import single
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from tests.live.databases import Desk, connect, database, driver, plain, soon
from tests.live.sessions import wait_until
from tests.live.test_isolation import LOOK, READ, TABLES, WRITE, command

HARMLESS = "-- name: h$\nSELECT :a::int + 1"
WORDS = "-- name: words!\nINSERT INTO numbered (word) VALUES (:word)"
LOCKED = (
    "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
    " WHERE locktype = 'advisory' AND d.datname = current_database()"
)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_resetting") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        try:
            yield dsn
        finally:
            cursor.execute("DROP ROLE stranger")


@pytest.fixture
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


def prepared(desk: Desk) -> dict[str, str]:
    rows = desk.connection.ask("SELECT name, statement FROM pg_prepared_statements", soon())
    return {str(name): str(text) for name, text in rows}


def _owes_reset(desk: Desk) -> bool:
    return desk.connection.owes_reset


def test_the_reset_is_in_front_of_the_next_message_and_not_a_message_of_its_own(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    desk.value(HARMLESS, '{"a": 1}')
    desk.run(WRITE, command("SELECT pg_advisory_lock(1)"))
    assert _owes_reset(desk)
    pid = desk.connection.get_backend_pid()
    oracle.execute(LOCKED)
    assert oracle.fetchall() == [(1,)]
    assert desk.value(HARMLESS, '{"a": 1}') == "2"
    assert not _owes_reset(desk)
    oracle.execute(f"SELECT query FROM pg_stat_activity WHERE pid = {pid}")
    ((message,),) = oracle.fetchall()
    assert "pg_advisory_unlock_all" in message
    assert "EXECUTE" in message
    oracle.execute(LOCKED)
    assert oracle.fetchall() == [(0,)]


def test_the_reset_stays_though_the_query_behind_it_fails(desk: Desk) -> None:
    divide = "-- name: d$\nSELECT 1 / :a::int"
    desk.value(divide, '{"a": 1}')
    desk.run(WRITE, command("SET work_mem = '77MB'"))
    with pytest.raises(GatewayError):
        desk.value(divide, '{"a": 0}')
    assert desk.connection.ask("SELECT current_setting('work_mem')", soon()) == [("4MB",)]


def test_an_idle_connection_gives_up_a_lock_soon(dsn: str, desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    rotation = Rotation(views=LocalViews(["here"]))
    rotation.apply("here", Probed(role=Role.PRIMARY, ping_ms=1.0))
    group = Group(
        GroupConfig(name="write", access_write=True, endpoints=("here",), size=1, queue_limit=10),
        driver=driver(dsn),
        rotation=rotation,
        waits=ThreadWaits(),
    )
    with group.lease(soon()) as lease:
        single.run(lease.connection, desk.plan(WRITE), ["'SELECT pg_advisory_lock(2)'"], deadline=soon())

    def is_free() -> bool:
        group.clean_idle()
        oracle.execute(LOCKED)
        return oracle.fetchall() == [(0,)]

    wait_until(is_free)
    group.close()


SWAPS = {
    "under the name of a statement of ours": "DEALLOCATE {name}; PREPARE {name}(int) AS SELECT ''666''::text",
    "beside those of ours": "PREPARE gw_0123456789abcdef AS SELECT 1",
    "in no statement's place": "DEALLOCATE {name}",
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("rests", [False, True], ids=["used again at once", "left idle"])
def test_what_a_query_prepared_runs_for_nobody_else(swap: str, rests: bool, desk: Desk) -> None:
    assert desk.value(HARMLESS, '{"a": 1}') == "2"
    plan = desk.plan(HARMLESS)
    for statement in SWAPS[swap].format(name=plan.name).split("; "):
        desk.run(WRITE, command(statement.replace("''", "'")))
    if rests:
        assert desk.connection.clean(soon())
    assert desk.value(HARMLESS, '{"a": 1}') == "2"
    assert set(prepared(desk)) <= {plan.name, desk.plan(WRITE).name}


def test_what_is_prepared_survives_a_reset_if_nobody_meddled(desk: Desk) -> None:
    desk.value(HARMLESS, '{"a": 1}')
    desk.run(WRITE, command("SET work_mem = '77MB'"))
    before = desk.connection.ask("SELECT name, prepare_time::text FROM pg_prepared_statements ORDER BY 1", soon())
    desk.value(HARMLESS, '{"a": 1}')
    after = desk.connection.ask("SELECT name, prepare_time::text FROM pg_prepared_statements ORDER BY 1", soon())
    assert len(before) >= 2
    assert after == before


def test_a_statement_that_made_room_is_no_sign_of_meddling(dsn: str, tmp_path: Path) -> None:
    connection = connect(dsn, prepared=3)
    desk = Desk(connection, tmp_path / "small")
    for number in range(5):
        assert desk.value(f"-- name: q$\nSELECT :a::int + {number}", '{"a": 1}') == str(1 + number)
    desk.run(WRITE, command("SET work_mem = '77MB'"))
    assert connection.clean(soon())
    assert len(connection.prepared.names) == 3
    assert set(prepared(desk)) == set(connection.prepared.names)
    connection.close()


MEANINGS = {
    "encoding": "SET client_encoding = 'LATIN1'",
    "standard strings": "SET standard_conforming_strings = off",
    "backslash in strings": "SET backslash_quote = off",
}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_what_a_message_means_is_not_left_to_an_earlier_use(
    meaning: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    """A message is read before the reset in front of it has run."""
    desk.run(WRITE, command(MEANINGS[meaning]))
    call = r"-- name: c!" "\n" r"CALL act_in_call('INSERT INTO numbered (word) VALUES (''' || :word || E'\')')"
    desk.affected(WORDS, '{"word": "größer \\\\ 1"}')
    desk.run(WRITE, command(MEANINGS[meaning]))
    assert desk.affected(call, '{"word": "größer"}') == 0
    oracle.execute("DELETE FROM numbered RETURNING word")
    assert sorted(word for (word,) in oracle.fetchall()) == ["größer", "größer \\ 1"]


HOSTILE = {
    "no time": "SET statement_timeout = 1",
    "serializable": "SET default_transaction_isolation = serializable",
    "search path": "SET search_path = elsewhere, pg_catalog, public",
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_setting_has_a_say_in_its_own_reset(hostile: str, desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute(
        "CREATE OR REPLACE FUNCTION elsewhere.pg_advisory_unlock_all() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE 'ran'; END $$"
    )
    for _ in range(20):
        desk.run(WRITE, command(HOSTILE[hostile]))
        assert desk.value(HARMLESS, '{"a": 1}') == "2"


def test_a_setting_that_the_server_reports_is_looked_at_whatever_the_query_is_said_to_be(dsn: str, desk: Desk) -> None:
    connection = connect(dsn)
    leaky = msgspec.structs.replace(desk.plan(WRITE), harmless=True)
    for name, value in (("TimeZone", "Asia/Tokyo"), ("default_transaction_read_only", "on")):
        single.run(connection, leaky, [f"'SET {name} = ''{value}'''"], deadline=soon())
        assert connection.settle(soon())
        assert connection.ask(f"SELECT current_setting('{name}')", soon()) != [(value,)]
    connection.close()


def test_a_connection_whose_settings_the_server_has_changed_is_not_kept(dsn: str, cluster: Cluster, desk: Desk) -> None:
    """A reset returns to what the server's configuration says now, which is not what the session was opened with."""
    connection = connect(dsn)
    if connection.get_parameter_status("search_path") is None:
        pytest.skip("PostgreSQL 18 is the first to report the search path")
    plan = desk.plan(WRITE)
    cluster.primary.configure({"search_path": "elsewhere, public"})
    try:
        cluster.primary.reload()
        wait_until(lambda: not _is_kept(connection, plan))
    finally:
        cluster.primary.configure({"search_path": '"$user", public'})
        cluster.primary.reload()
        connection.close()


def _is_kept(session: Session, plan: Plan) -> bool:
    single.run(session, plan, ["'SELECT 1'"], deadline=soon())
    return session.settle(soon())


def test_nothing_is_reset_behind_a_pooler(dsn: str, tmp_path: Path) -> None:
    connection = connect(dsn, prepare=False)
    desk = Desk(connection, tmp_path / "pooled")
    desk.run(READ, command("SELECT set_config('my.mark', 'left', true)"))
    assert not connection.owes_reset
    assert desk.value(LOOK, command("SELECT 1")) == '"1"'
    connection.close()
