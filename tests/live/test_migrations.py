"""The database is migrated while two workers serve: they notice by themselves, and then store and answer what is right.

Nobody is told of the migration, and no call but the test's own makes anybody doubt.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving_queries, wait_until, worker_of

NOTICED = 2.0
"""Seconds after a migration in which every worker has noticed it."""
STRINGS = {"Prefer": "bigint=string"}


class Change(NamedTuple):
    """A migration of one kind, and a call that it changes."""

    what: str
    before: str
    """SQL that makes what the query needs, in the schema ``moved``."""
    query: str
    """Without its header."""
    arguments: str
    """JSON of a call that is right after the migration."""
    migration: str
    answer: Any
    """What the call answers then; for a write, what ``stored`` gives."""
    kind: str = ""
    stored: str = ""
    """SQL that reads what a write has stored last."""
    headers: Mapping[str, str] = {}
    first: str | None = None
    """Arguments of a call before the migration; None: the same."""


def column(what: str, before: str, after: str, value: str, read: str, right: str) -> Change:
    """A column of another type: a value of the new one is stored as it is."""
    return Change(
        what=what,
        before=f"CREATE TABLE moved.t (n serial, v {before})",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments=f'{{"v": {value}}}',
        first='{"v": null}',
        migration=f"ALTER TABLE moved.t ALTER v TYPE {after}",
        stored=f"SELECT {read} FROM moved.t ORDER BY n DESC LIMIT 1",
        answer=right,
    )


WRITES = [
    column(
        "timestamp becomes timestamptz",
        "timestamp",
        "timestamptz",
        '"2026-01-01T12:00:00+02:00"',
        "v AT TIME ZONE 'UTC'",
        "2026-01-01 10:00:00",
    ),
    column(
        "date becomes timestamptz",
        "date",
        "timestamptz",
        '"2026-01-01T12:34:56Z"',
        "v AT TIME ZONE 'UTC'",
        "2026-01-01 12:34:56",
    ),
    column("real becomes double precision", "real", "double precision", "0.1", "v", "0.1"),
    column(
        "double precision becomes numeric",
        "double precision",
        "numeric",
        "0.12345678901234567890",
        "v",
        "0.12345678901234567890",
    ),
    column("char becomes text", "char(5)", "text", '"a  "', "quote_literal(v)", "'a  '"),
    column("int becomes bigint", "int", "bigint", "3000000000", "v", "3000000000"),
    Change(
        what="an enum has a label more",
        before="CREATE TYPE moved.mood AS ENUM ('sad'); CREATE TABLE moved.t (n serial, v moved.mood)",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": "glad"}',
        first='{"v": "sad"}',
        migration="ALTER TYPE moved.mood ADD VALUE 'glad'",
        stored="SELECT v FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="glad",
    ),
    Change(
        what="a label of an enum is renamed",
        before="CREATE TYPE moved.mood AS ENUM ('sad'); CREATE TABLE moved.t (n serial, v moved.mood)",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": "glum"}',
        first='{"v": "sad"}',
        migration="ALTER TYPE moved.mood RENAME VALUE 'sad' TO 'glum'",
        stored="SELECT v FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="glum",
    ),
    Change(
        what="a composite type has an attribute more",
        before="CREATE TYPE moved.pair AS (a int, b text); CREATE TABLE moved.t (n serial, v moved.pair[])",
        query="INSERT INTO moved.t (v) VALUES (:v)",
        kind="!",
        arguments='{"v": [{"a": 1, "b": "x", "c": true}]}',
        first='{"v": [{"a": 1, "b": "x"}]}',
        migration="ALTER TYPE moved.pair ADD ATTRIBUTE c bool",
        stored="SELECT v[1] FROM moved.t ORDER BY n DESC LIMIT 1",
        answer="(1,x,t)",
    ),
]
READS = [
    Change(
        what="a column is dropped and another is added",
        before="CREATE TABLE moved.t (a int8, b int8); INSERT INTO moved.t VALUES (1, 2)",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="ALTER TABLE moved.t DROP a, ADD c int8 DEFAULT 3",
        answer=[{"b": "2", "c": "3"}],
        headers=STRINGS,
    ),
    Change(
        what="a column is renamed",
        before="CREATE TABLE moved.t (a int8); INSERT INTO moved.t VALUES (1)",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="ALTER TABLE moved.t RENAME a TO b",
        answer=[{"b": "1"}],
        headers=STRINGS,
    ),
    Change(
        what="an int becomes bigint",
        before="CREATE TABLE moved.t (a int); INSERT INTO moved.t VALUES (1)",
        query="SELECT a FROM moved.t WHERE a <= :most",
        arguments='{"most": 9007199254740993}',
        first='{"most": 1}',
        migration="ALTER TABLE moved.t ALTER a TYPE int8; UPDATE moved.t SET a = 9007199254740993",
        answer=[{"a": "9007199254740993"}],
        headers=STRINGS,
    ),
    Change(
        what="a table with a rule has other columns",
        before="CREATE TABLE moved.t (a int, b text); INSERT INTO moved.t VALUES (1, 'x');"
        " CREATE RULE also AS ON UPDATE TO moved.t DO ALSO SELECT 1 WHERE false",
        query="UPDATE moved.t SET b = 'y' RETURNING *",
        arguments="{}",
        migration="ALTER TABLE moved.t ALTER a TYPE text USING 'one'",
        answer=[{"a": "one", "b": "y"}],
    ),
    Change(
        what="a view is defined anew",
        before="CREATE VIEW moved.t AS SELECT 1 AS a",
        query="SELECT * FROM moved.t",
        arguments="{}",
        migration="DROP VIEW moved.t; CREATE VIEW moved.t AS SELECT 'x'::text AS b",
        answer=[{"b": "x"}],
        headers=STRINGS,
    ),
    Change(
        what="a procedure has its results in another order",
        before="CREATE PROCEDURE moved.t(IN k int, OUT a text, OUT b text)"
        " LANGUAGE plpgsql AS $$ BEGIN a := 'a'; b := 'b'; END $$",
        query="CALL moved.t(:k, NULL, NULL)",
        kind="^",
        arguments='{"k": 1}',
        migration="DROP PROCEDURE moved.t(int); CREATE PROCEDURE moved.t(IN k int, OUT b text, OUT a text)"
        " LANGUAGE plpgsql AS $$ BEGIN a := 'a'; b := 'b'; END $$",
        answer={"a": "a", "b": "b"},
    ),
]


@pytest.fixture
def schema(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with an empty schema for what is migrated."""
    sql(cluster, "DROP SCHEMA IF EXISTS moved CASCADE; CREATE SCHEMA moved; GRANT USAGE ON SCHEMA moved TO PUBLIC")
    sql(cluster, "ALTER DEFAULT PRIVILEGES IN SCHEMA moved GRANT ALL ON TABLES TO PUBLIC")
    sql(cluster, "ALTER DEFAULT PRIVILEGES IN SCHEMA moved GRANT ALL ON SEQUENCES TO PUBLIC")
    yield cluster
    sql(cluster, "DROP SCHEMA moved CASCADE")


def sql(cluster: Cluster, text: str) -> str:
    return (
        cluster.primary.sql(f"SET client_min_messages = warning; {text}", shop.DATABASE).removeprefix("SET\n").strip()
    )


def serving(schema: Cluster, tmp_path: Path, *changes: Change) -> Any:
    text = "\n".join(f"-- name: q{number}{change.kind}\n{change.query}\n" for number, change in enumerate(changes))
    return serving_queries(text, schema, tmp_path, {"server": {"workers": 2}})


@contextmanager
def each_worker(node: Gateway) -> Iterator[list[httpx.Client]]:
    """A client with a connection to each worker."""
    with ExitStack() as stack:
        clients: dict[str, httpx.Client] = {}
        while len(clients) < node.size:
            client = stack.enter_context(node.new_client())
            clients.setdefault(worker_of(client.get("/health/live")), client)
        yield list(clients.values())


def call(client: httpx.Client, change: Change, arguments: str) -> httpx.Response:
    headers = {"Content-Type": "application/json", **change.headers}
    return client.post("/query/q0", content=arguments, headers=headers)


@pytest.mark.parametrize("change", WRITES, ids=lambda change: change.what)
def test_no_write_stores_what_is_wrong_and_soon_all_are_accepted(
    change: Change, schema: Cluster, tmp_path: Path
) -> None:
    sql(schema, change.before)
    with serving(schema, tmp_path, change) as node, each_worker(node) as clients:
        for client in clients:
            assert call(client, change, change.first or change.arguments).status_code == 200
        sql(schema, change.migration)
        migrated_at = time.monotonic()
        for client in clients:
            while (answer := call(client, change, change.arguments)).status_code != 200:
                assert answer.json()["code"] in ("catalogue_stale", "invalid_arguments"), answer.text
                assert time.monotonic() - migrated_at < NOTICED, answer.text
                time.sleep(0.02)
            assert sql(schema, change.stored) == change.answer


@pytest.mark.parametrize("change", READS, ids=lambda change: change.what)
def test_soon_every_worker_answers_what_is_right(change: Change, schema: Cluster, tmp_path: Path) -> None:
    sql(schema, change.before)
    with serving(schema, tmp_path, change) as node, each_worker(node) as clients:
        for client in clients:
            assert call(client, change, change.first or change.arguments).status_code == 200
        sql(schema, change.migration)
        migrated_at = time.monotonic()
        for client in clients:

            def is_right(client: httpx.Client = client) -> bool:
                answer = call(client, change, change.arguments)
                if answer.status_code != 200:
                    assert answer.json()["code"] in ("catalogue_stale", "invalid_arguments"), answer.text
                    return False
                body = answer.json()
                return bool(body.get("rows", body.get("row")) == change.answer)

            wait_until(is_right, change.what, migrated_at + NOTICED - time.monotonic())
            for _ in range(5):
                assert is_right()


LEAVES = "length(set_config('moved.mark', 'left behind', false))"
"""What leaves something in a session."""
ENDS = {
    "a function is made volatile": (
        "CREATE FUNCTION moved.f() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1'",
        "SELECT moved.f() AS a",
        f"CREATE OR REPLACE FUNCTION moved.f() RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT {LEAVES} $$",
    ),
    "a trigger is added": (
        "CREATE TABLE moved.triggered (a int)",
        "INSERT INTO moved.triggered VALUES (1) RETURNING a",
        "CREATE TRIGGER t BEFORE INSERT ON moved.triggered FOR EACH ROW EXECUTE FUNCTION moved.trace()",
    ),
    "a trigger is added to a table that a deletion cascades to": (
        "CREATE TABLE moved.mother (a int PRIMARY KEY); INSERT INTO moved.mother SELECT generate_series(1, 1000);"
        " CREATE TABLE moved.child (a int REFERENCES moved.mother ON DELETE CASCADE);"
        " INSERT INTO moved.child SELECT a FROM moved.mother",
        "DELETE FROM moved.mother WHERE a = (SELECT min(a) FROM moved.mother) RETURNING a",
        "CREATE TRIGGER t BEFORE DELETE ON moved.child FOR EACH ROW EXECUTE FUNCTION moved.trace()",
    ),
    "a default is given": (
        "CREATE TABLE moved.defaulted (a int, b int)",
        "INSERT INTO moved.defaulted (a) VALUES (1) RETURNING a",
        "ALTER TABLE moved.defaulted ALTER b SET DEFAULT moved.leave()",
    ),
    "a column's check is added": (
        "CREATE TABLE moved.checked (a int)",
        "INSERT INTO moved.checked VALUES (1) RETURNING a",
        "ALTER TABLE moved.checked ADD CHECK (moved.leave() > a)",
    ),
    "a domain's check is added": (
        "CREATE DOMAIN moved.little AS int",
        "SELECT 1::moved.little AS a",
        "ALTER DOMAIN moved.little ADD CHECK (moved.leave() > VALUE)",
    ),
    "a policy is added": (
        "CREATE TABLE moved.guarded (a int); INSERT INTO moved.guarded VALUES (1)",
        "SELECT a FROM moved.guarded",
        "CREATE POLICY p ON moved.guarded USING (moved.leave() > a);"
        " ALTER TABLE moved.guarded ENABLE ROW LEVEL SECURITY",
    ),
    "a view takes a table's place": (
        "CREATE TABLE moved.placed (a int); INSERT INTO moved.placed VALUES (1)",
        "SELECT a FROM moved.placed",
        "DROP TABLE moved.placed; CREATE VIEW moved.placed AS SELECT moved.leave() AS a",
    ),
    "a rule is added": (
        "CREATE TABLE moved.ruled (a int)",
        "INSERT INTO moved.ruled VALUES (1) RETURNING a",
        "CREATE RULE r AS ON INSERT TO moved.ruled DO ALSO SELECT moved.leave()",
    ),
    "an index on an expression is added": (
        "CREATE TABLE moved.indexed (a int)",
        "INSERT INTO moved.indexed VALUES (1) RETURNING a",
        "CREATE INDEX ON moved.indexed (moved.falsely_immutable(a))",
    ),
    "a function is overloaded": (
        "SELECT",
        "SELECT moved.g('a') AS a",
        "CREATE FUNCTION moved.g(text) RETURNS int LANGUAGE sql AS 'SELECT moved.leave()'",
    ),
}
SET_UP = f"""
CREATE FUNCTION moved.leave() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {LEAVES}; END $$;
CREATE FUNCTION moved.falsely_immutable(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN {LEAVES}; END $$;
CREATE FUNCTION moved.trace() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM {LEAVES}; RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION moved.g(varchar) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
"""


def test_soon_nothing_is_left_in_a_session_for_the_next_caller(schema: Cluster, tmp_path: Path) -> None:
    mark = "SELECT current_setting('moved.mark', true) AS mark"
    changes = [Change("", "", query, "{}", "", None, "") for _, query, _ in ENDS.values()]
    changes += [Change("", "", text, "{}", "", None, "$") for text in (mark, f"-- @access write\n{mark}")]
    readers = [f"q{len(ENDS)}", f"q{len(ENDS) + 1}"]
    sql(schema, SET_UP + "; ".join(before for before, _, _ in ENDS.values()))
    with serving(schema, tmp_path, *changes) as node, each_worker(node) as clients:
        for client in clients:
            for number, what in enumerate(ENDS):
                answer = client.post(f"/query/q{number}", json={})
                assert answer.status_code == 200, (what, answer.text)
        sql(schema, "; ".join(migration for _, _, migration in ENDS.values()))
        schema.wait_until_caught_up()
        time.sleep(NOTICED)
        leaking = set()
        for client in clients * 5:
            for number, what in enumerate(ENDS):
                answer = client.post(f"/query/q{number}", json={})
                assert answer.status_code == 200, (what, answer.text)
                if any(client.post(f"/query/{reader}", json={}).json()["value"] for reader in readers):
                    leaking.add(what)
        assert not leaking


def test_a_migration_breaks_the_queries_that_it_contradicts_and_no_others(schema: Cluster, tmp_path: Path) -> None:
    changes = [
        Change("", "", "SELECT a FROM moved.t", "{}", "", None),
        Change("", "", "SELECT b FROM moved.t", "{}", "", None),
    ]
    sql(schema, "CREATE TABLE moved.t (a int, b int)")
    with serving(schema, tmp_path, *changes) as node, each_worker(node) as clients:
        sql(schema, "ALTER TABLE moved.t DROP a")
        for client in clients:
            while (answer := client.post("/query/q0", json={})).status_code == 503:
                problem(answer, 503, "catalogue_stale")
                assert client.post("/query/q1", json={}).status_code == 200
        ends = time.monotonic() + NOTICED
        while time.monotonic() < ends:
            for client in clients:
                problem(client.post("/query/q0", json={}), 500, "query_broken")
                assert client.post("/query/q1", json={}).status_code == 200
        sql(schema, "ALTER TABLE moved.t ADD a int")
        for client in clients:
            wait_until(lambda client=client: client.post("/query/q0", json={}).status_code == 200, "mended", NOTICED)  # type: ignore[misc]


def test_a_migration_is_noticed_while_every_connection_for_writes_is_in_use(schema: Cluster, tmp_path: Path) -> None:
    hold = Change("", "", "-- @timeout 20s\n-- @access write\nSELECT pg_sleep(:seconds::float8)", "", "", None, "!")
    read = Change("", "", "SELECT * FROM moved.t", "{}", "", None, "^")
    sql(schema, "CREATE TABLE moved.t (a int); INSERT INTO moved.t VALUES (1)")
    groups = {"groups.read": {"access": "read", "size": 2}, "groups.write": {"access": "write", "size": 1}}
    text = "\n".join(f"-- name: q{number}{each.kind}\n{each.query}\n" for number, each in enumerate((hold, read)))
    with serving_queries(text, schema, tmp_path, groups) as node, node.new_client() as client:
        holding = threading.Thread(target=client.post, args=["/query/q0"], kwargs={"json": {"seconds": 8}})
        holding.start()
        wait_until(lambda: node.health()["groups"]["write"]["leased"] == 1, "the connection is in use")
        sql(schema, "ALTER TABLE moved.t ADD b int")

        def columns() -> list[str]:
            return [column["name"] for column in node.client.get("/queries/q1").json()["columns"]]

        wait_until(lambda: columns() == ["a", "b"], "noticed", NOTICED + 1)
        assert holding.is_alive()
        holding.join()


def test_connections_are_renewed_when_settings_of_the_role_have_changed(schema: Cluster, tmp_path: Path) -> None:
    changes = [
        Change("", "", f"{access}SELECT current_setting('moved.setting', true)", "", "", None, "$")
        for access in ("", "-- @access write\n")
    ]
    with serving(schema, tmp_path, *changes) as node, each_worker(node) as clients:
        asked = [(client, query) for client in clients for query in ("q0", "q1")]
        assert [client.post(f"/query/{query}", json={}).json()["value"] for client, query in asked] == [None] * 4
        sql(schema, f"ALTER ROLE {shop.ROLE} IN DATABASE {shop.DATABASE} SET moved.setting = 'new'")
        try:
            schema.wait_until_caught_up()
            for client, query in asked:

                def is_new(client: httpx.Client = client, query: str = query) -> bool:
                    answer = client.post(f"/query/{query}", json={})
                    assert answer.status_code == 200, answer.text
                    return bool(answer.json()["value"] == "new")

                wait_until(is_new, "the new setting", NOTICED + 1)
        finally:
            sql(schema, f"ALTER ROLE {shop.ROLE} IN DATABASE {shop.DATABASE} RESET moved.setting")
