"""Nothing that a query leaves in its session is seen by the next lease, and no session gets rid of being read-only."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, InvalidArguments, NoEndpoint, QueryBroken
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.postgres import single, transaction
from gateway.postgres.work import Step, Work
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from tests.live.databases import Desk, connect, database, driver, plain, soon

TABLES = """
CREATE ROLE stranger;
CREATE SCHEMA elsewhere;
CREATE TABLE numbered (id serial, word text);
CREATE TABLE diary (id int);
CREATE FUNCTION act(command text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 1; END $$;
CREATE FUNCTION peek(command text) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE found text; BEGIN EXECUTE command INTO found; RETURN found; END $$;
CREATE PROCEDURE act_in_call(command text) LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; END $$;
"""
READ = "-- name: act$\nSELECT act(:command)"
WRITE = "-- name: act$\n-- @access write\nSELECT act(:command)"
CALL = "-- name: act!\nCALL act_in_call(:command)"
LOOK = "-- name: look$\nSELECT peek(:command)"


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_isolation") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        try:
            yield dsn
        finally:
            cursor.execute("DROP ROLE stranger")


@pytest.fixture
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


@pytest.fixture
def reader(dsn: str, tmp_path: Path) -> Iterator[Desk]:
    connection = connect(dsn, read_only=True)
    yield Desk(connection, tmp_path / "reader")
    connection.close()


def command(text: str) -> str:
    return '{"command": "' + text.replace('"', '\\"') + '"}'


ADVISORY = "SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"


def setting(name: str) -> str:
    return f"SELECT current_setting('{name}', true)"


def count(rows: str) -> str:
    return f"SELECT count(*) FROM {rows}"


class Leak(NamedTuple):
    command: str
    look: str
    clean: str = '"0"'


LEAKS = {
    "setting": Leak(
        "SELECT set_config('my.mark', 'left', false)", f"SELECT coalesce(({setting('my.mark')}), '')", '""'
    ),
    "work_mem": Leak("SET work_mem = '77MB'", setting("work_mem"), '"4MB"'),
    "role": Leak("SET ROLE stranger", "SELECT current_user", '"postgres"'),
    "authorization": Leak("SET SESSION AUTHORIZATION stranger", "SELECT session_user", '"postgres"'),
    "search_path": Leak("SET search_path = elsewhere, public", "SELECT current_schema()", '"public"'),
    "temporary table": Leak("CREATE TEMP TABLE diary AS SELECT 5 AS id", count("diary")),
    "advisory lock": Leak("SELECT pg_advisory_lock(5)", ADVISORY),
    "listen": Leak("LISTEN gossip", count("pg_listening_channels()")),
    "prepared": Leak("PREPARE left_over AS SELECT 1", count("pg_prepared_statements WHERE name = 'left_over'")),
    "cursor": Leak("DECLARE held CURSOR WITH HOLD FOR SELECT 1", count("pg_cursors WHERE name = 'held'")),
    "time zone": Leak("SET TIME ZONE 'Asia/Tokyo'", setting("TimeZone"), '"UTC"'),
    "isolation": Leak(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        setting("transaction_isolation"),
        '"read committed"',
    ),
    "output format": Leak("SET bytea_output = 'escape'", setting("bytea_output"), '"hex"'),
    "replication role": Leak("SET session_replication_role = replica", setting("session_replication_role"), '"origin"'),
    "row security": Leak("SET row_security = off", setting("row_security"), '"on"'),
    "statement timeout": Leak("SET statement_timeout = '1h'", setting("statement_timeout")),
    "planner": Leak("SET enable_seqscan = off", setting("enable_seqscan"), '"on"'),
}


@pytest.mark.parametrize("deed", [WRITE, CALL], ids=["select", "call"])
@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_write_leaves_in_its_session_is_gone_with_its_lease(leak: str, deed: str, desk: Desk) -> None:
    left, look, clean = LEAKS[leak]
    assert desk.value(LOOK, command(look)) == clean
    desk.run(deed, command(left))
    assert desk.value(LOOK, command(look)) == clean
    assert desk.connection.settle(soon())
    assert desk.connection.is_usable()


@pytest.mark.parametrize("leak", [leak for leak in LEAKS if leak != "temporary table"])
def test_what_a_read_leaves_in_its_session_is_gone_with_its_lease(leak: str, reader: Desk) -> None:
    left, look, clean = LEAKS[leak]
    reader.run(READ, command(left))
    assert reader.value(LOOK, command(look)) == clean


def test_a_read_cannot_make_a_temporary_table(reader: Desk) -> None:
    left, look, clean = LEAKS["temporary table"]
    with pytest.raises(QueryBroken):
        reader.run(READ, command(left))
    assert reader.value(LOOK, command(look)) == clean


def test_what_is_left_is_gone_even_if_the_query_failed_after_it(desk: Desk) -> None:
    with pytest.raises(GatewayError):
        desk.run(WRITE, command("SELECT set_config('my.mark', 'left', false), pg_advisory_lock(9), 1 / 0"))
    assert desk.value(LOOK, command(LEAKS["setting"].look)) == '""'
    assert desk.value(LOOK, command(ADVISORY)) == '"0"'


def test_numbers_a_sequence_gave_are_not_shown_to_the_next_lease(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    insert = "-- name: insert!\nINSERT INTO numbered (word) VALUES (:word)"
    assert desk.learn(insert)[1].harmless
    for look in ("SELECT lastval()", "SELECT currval('numbered_id_seq')"):
        desk.affected(insert, '{"word": "x"}')
        with pytest.raises(GatewayError) as caught:
            desk.value(LOOK, command(look))
        assert caught.value.sqlstate == "55000"
    new = "WITH new AS (INSERT INTO numbered (word) VALUES ('x') RETURNING id)"
    both = f"-- name: both$\n{new} SELECT lastval() = id FROM new"
    assert desk.value(both) == "true"
    with pytest.raises(GatewayError):
        desk.value("-- name: q$\nSELECT lastval()")
    oracle.execute("SELECT count(*) FROM numbered")
    assert oracle.fetchall() == [(3,)]


def test_a_lease_sees_the_numbers_its_own_queries_were_given(desk: Desk) -> None:
    insert = desk.plan("-- name: insert!\nINSERT INTO numbered (word) VALUES ('x')")
    look = desk.plan("-- name: q$\nSELECT lastval() > 0")
    connection = desk.connection
    assert connection.settle(soon())
    single.run(connection, insert, [], deadline=soon())
    assert single.run(connection, look, [], deadline=soon()).text == b"true"
    assert connection.settle(soon())
    with pytest.raises(GatewayError):
        single.run(connection, look, [], deadline=soon())


def test_a_transaction_that_was_left_open_is_gone_with_its_lease(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    connection = desk.connection
    connection.ask("BEGIN; INSERT INTO diary VALUES (1)", soon())
    assert connection.settle(soon())
    assert connection.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    with pytest.raises(GatewayError):
        connection.ask("BEGIN; SELECT 1 / 0", soon())
    assert connection.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_INERROR
    assert connection.settle(soon())
    assert connection.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    oracle.execute("SELECT count(*) FROM diary")
    assert oracle.fetchall() == [(0,)]
    desk.affected("-- name: q!\nINSERT INTO diary VALUES (2)")
    oracle.execute("DELETE FROM diary RETURNING id")
    assert oracle.fetchall() == [(2,)]


SWITCHES = [
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_read_only_session_cannot_be_switched_off_for_the_next_lease(
    switch: str, reader: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    reader.run(READ, command(switch))
    with pytest.raises(QueryBroken) as caught:
        reader.run(READ, command("INSERT INTO diary VALUES (1)"))
    assert caught.value.sqlstate == "25006"
    oracle.execute("SELECT count(*) FROM diary")
    assert oracle.fetchall() == [(0,)]


@pytest.mark.parametrize(
    "switch", ["SELECT set_config('transaction_read_only', 'off', true)", "SET TRANSACTION READ WRITE"]
)
def test_a_read_cannot_make_itself_a_write(switch: str, reader: Desk, desk: Desk) -> None:
    for where in (reader, desk):
        with pytest.raises(GatewayError):
            where.run(READ, command(switch))
        with pytest.raises(QueryBroken) as caught:
            where.run(READ, command("INSERT INTO diary VALUES (1)"))
        assert caught.value.sqlstate == "25006"


def test_a_read_in_the_write_group_is_read_only_too(desk: Desk) -> None:
    with pytest.raises(QueryBroken) as caught:
        desk.run(READ, command("INSERT INTO diary VALUES (1)"))
    assert caught.value.sqlstate == "25006"
    with pytest.raises(QueryBroken):
        desk.run("-- name: q$\nSELECT peek('SELECT nextval(''numbered_id_seq'')')")


def test_a_read_that_still_holds_its_lease_cannot_switch_it_off_either(reader: Desk) -> None:
    plan = reader.plan(READ)
    switch = "'SELECT set_config(''default_transaction_read_only'', ''off'', false)'"
    single.run(reader.connection, plan, [switch], deadline=soon())
    with pytest.raises(QueryBroken) as caught:
        single.run(reader.connection, plan, ["'INSERT INTO diary VALUES (1)'"], deadline=soon())
    assert caught.value.sqlstate == "25006"
    assert reader.connection.settle(soon())


def test_a_harmless_query_costs_no_wipe_and_a_wipe_keeps_what_is_prepared(desk: Desk) -> None:
    def wipes() -> list[tuple[str | None, ...]]:
        return desk.connection.ask("SELECT name FROM pg_prepared_statements ORDER BY 1", soon())

    desk.value("-- name: q$\nSELECT 1 AS a")
    desk.value(LOOK, command("SELECT 1"))
    before = wipes()
    assert len(before) == 2
    desk.run(WRITE, command("SET work_mem = '77MB'"))
    assert len(wipes()) == 3
    assert set(before) < set(wipes())
    desk.run(WRITE, command("PREPARE left_over AS SELECT 1"))
    desk.value(LOOK, command("SELECT 1"))
    assert len(wipes()) == 1


TENANT = "-- name: tenant$\nSELECT current_setting('app.tenant', true)"
SEEN = ({"app.tenant": "7"}, '"7"')
UNSEEN = ('""', "null")
"""A setting that was set for one transaction alone is empty afterwards; before, there is none."""


@pytest.mark.parametrize("write", [False, True])
def test_settings_of_a_caller_hold_for_what_runs_for_it_and_for_nothing_else(
    write: bool, reader: Desk, desk: Desk
) -> None:
    chosen = desk if write else reader
    settings, seen = SEEN
    query = TENANT.replace("SELECT", "-- @access write\nSELECT", 1) if write else TENANT
    assert chosen.value(query) in UNSEEN
    assert chosen.value(query, settings=settings) == seen
    assert chosen.value(query) in UNSEEN
    assert chosen.value(query, settings={"app.tenant": "it's; \\ another"}) == '"it\'s; \\\\ another"'
    with pytest.raises(InvalidArguments):
        chosen.value(
            "-- name: f$\nSELECT 1 / length(current_setting('app.tenant')) - :n / 0", '{"n": 1}', settings=settings
        )
    assert chosen.value(query) in UNSEEN


def test_settings_of_a_caller_hold_for_its_whole_transaction(desk: Desk) -> None:
    settings, seen = SEEN
    plan = desk.plan(TENANT)
    work = Work([Step(plan, lambda _: ())] * 2, lambda results: b",".join(result.text for result in results))
    done = transaction.run(desk.connection, work, deadline=soon(), settings=settings)
    assert done.body.decode() == f"{seen},{seen}"
    desk.connection.settle(soon())
    assert desk.value(TENANT) in UNSEEN


def test_leases_of_a_real_group_do_not_see_each_others_sessions(dsn: str, desk: Desk) -> None:
    rotation = Rotation(views=LocalViews(["here"]))
    rotation.apply("here", Probed(role=Role.PRIMARY, ping_ms=1.0))
    group = Group(
        GroupConfig(name="write", access_write=True, endpoints=("here",), size=1, queue_limit=10),
        driver=driver(dsn),
        rotation=rotation,
        waits=ThreadWaits(),
    )
    act, look = desk.plan(WRITE), desk.plan(LOOK)
    seen = []
    pids = set()
    for left in ("'SET work_mem = ''77MB'''", "'SELECT pg_advisory_lock(3)'"):
        with group.lease(soon()) as lease:
            single.run(lease.connection, act, [left], deadline=soon())
            pids.add(lease.connection.get_backend_pid())
        with group.lease(soon()) as lease:
            seen.append(
                single.run(lease.connection, look, ["'SELECT current_setting(''work_mem'')'"], deadline=soon()).text
            )
    group.close()
    assert seen == [b'"4MB"', b'"4MB"']
    assert len(pids) == 1


def test_nothing_runs_after_a_lease_that_cannot_be_made_clean(dsn: str, oracle: psycopg2.extensions.cursor) -> None:
    connection = connect(dsn)
    connection.run.leaves_state = True
    oracle.execute(f"SELECT pg_terminate_backend({connection.get_backend_pid()}, 5000)")
    assert connection.settle(soon())
    assert not connection.is_usable()
    assert not connection.clean(soon())
    with pytest.raises(GatewayError) as caught:
        connection.ask("SELECT 1", soon())
    assert not isinstance(caught.value, NoEndpoint)
