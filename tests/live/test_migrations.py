"""The database is migrated while two workers serve: they notice by themselves, and then store and answer what is right.

Nobody is told of the migration, and no call but the test's own makes anybody doubt.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.changes import READS, WRITES, Change
from tests.live.databases import plain
from tests.live.gateways import Gateway, problem, serving_queries, wait_until, worker_of

NOTICED = 2.0
"""Seconds after a migration in which every worker has noticed it."""


WRITING = [change.under(f"written_{number}") for number, change in enumerate(WRITES)]
READING = [change.under(f"read_{number}") for number, change in enumerate(READS)]


@contextmanager
def with_schema(cluster: Cluster, name: str) -> Iterator[None]:
    """For a while an empty schema for what is migrated."""
    sql(cluster, f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO PUBLIC")
    sql(cluster, f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT ALL ON TABLES TO PUBLIC")
    sql(cluster, f"ALTER DEFAULT PRIVILEGES IN SCHEMA {name} GRANT ALL ON SEQUENCES TO PUBLIC")
    yield
    sql(cluster, f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def schema(cluster: Cluster) -> Iterator[Cluster]:
    with with_schema(cluster, "moved"):
        yield cluster


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Serves the query of every change that is about one call."""
    with ExitStack() as stack:
        for change in (*WRITING, *READING):
            stack.enter_context(with_schema(cluster, change.name))
            sql(cluster, change.before)
        text = "\n".join(f"-- name: {change.name}{change.kind}\n{change.query}\n" for change in (*WRITING, *READING))
        folder = tmp_path_factory.mktemp("changes")
        yield stack.enter_context(serving_queries(text, cluster, folder, {"server": {"workers": 2}}))


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
    return client.post(f"/query/{change.name}", content=arguments, headers=headers)


@pytest.mark.parametrize("change", WRITING, ids=lambda change: change.what)
def test_no_write_stores_what_is_wrong_and_soon_all_are_accepted(
    change: Change, node: Gateway, cluster: Cluster
) -> None:
    with each_worker(node) as clients:
        for client in clients:
            assert call(client, change, change.first or change.arguments).status_code == 200
        sql(cluster, change.migration)
        migrated_at = time.monotonic()
        for client in clients:
            while (answer := call(client, change, change.arguments)).status_code != 200:
                assert answer.json()["code"] in ("catalogue_stale", "invalid_arguments"), answer.text
                assert time.monotonic() - migrated_at < NOTICED, answer.text
                time.sleep(0.02)
            assert sql(cluster, change.stored) == change.answer


@pytest.mark.parametrize("change", READING, ids=lambda change: change.what)
def test_soon_every_worker_answers_what_is_right(change: Change, node: Gateway, cluster: Cluster) -> None:
    with each_worker(node) as clients:
        for client in clients:
            assert call(client, change, change.first or change.arguments).status_code == 200
        sql(cluster, change.migration)
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
    hold = Change("", "", "-- @timeout 60s\n-- @access write\nSELECT pg_advisory_xact_lock(4711)", "", "", None, "!")
    read = Change("", "", "SELECT * FROM moved.t", "{}", "", None, "^")
    sql(schema, "CREATE TABLE moved.t (a int); INSERT INTO moved.t VALUES (1)")
    groups = {"groups.read": {"access": "read", "size": 2}, "groups.write": {"access": "write", "size": 1}}
    text = "\n".join(f"-- name: q{number}{each.kind}\n{each.query}\n" for number, each in enumerate((hold, read)))
    with (
        serving_queries(text, schema, tmp_path, groups) as node,
        node.new_client() as client,
        plain(schema.primary.dsn(shop.DATABASE)) as cursor,
    ):
        cursor.execute("SELECT pg_advisory_lock(4711)")
        holding = threading.Thread(target=client.post, args=["/query/q0"], kwargs={"json": {}})
        holding.start()
        wait_until(lambda: node.health()["groups"]["write"]["leased"] == 1, "the connection is in use")
        sql(schema, "ALTER TABLE moved.t ADD b int")

        def columns() -> list[str]:
            return [column["name"] for column in node.client.get("/queries/q1").json()["columns"]]

        wait_until(lambda: columns() == ["a", "b"], "noticed", NOTICED + 1)
        assert holding.is_alive()
        cursor.execute("SELECT pg_advisory_unlock(4711)")
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
