"""What callers get of a real server: rows of their own, and nothing that an earlier call has left."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.auth.issuer import AUDIENCE, ISSUER, Issuer, SigningKey, key_set
from tests.live.gateways import Gateway, problem, serving, wait_until

SQL = """
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS rooms CASCADE;
CREATE SCHEMA rooms;
DROP ROLE IF EXISTS tenant;
CREATE ROLE tenant NOLOGIN;
GRANT tenant TO gateway;
GRANT USAGE ON SCHEMA rooms TO gateway, tenant;
CREATE TABLE rooms.notes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant int NOT NULL DEFAULT (current_setting('request.jwt.claims')::jsonb ->> 'tenant_id')::int,
    text text NOT NULL
);
INSERT INTO rooms.notes (tenant, text) VALUES (1, 'one'), (2, 'two'), (2, 'too');
CREATE TABLE rooms.plain (text text);
GRANT SELECT, INSERT, UPDATE, DELETE ON rooms.notes TO gateway, tenant;
GRANT SELECT, INSERT ON rooms.plain TO gateway;
ALTER TABLE rooms.notes ENABLE ROW LEVEL SECURITY;
-- Casts what it is told: an empty text instead of an object would break it.
CREATE POLICY own ON rooms.notes
    USING (tenant = ((SELECT current_setting('request.jwt.claims'))::jsonb ->> 'tenant_id')::int);
"""
QUERIES = """
-- name: notes
SELECT tenant, text FROM rooms.notes ORDER BY id;
-- name: note(text)<!
INSERT INTO rooms.notes (text) VALUES (:text) RETURNING tenant, text;
-- name: tracked_note(text)<!
-- @outcome tracked
INSERT INTO rooms.notes (text) VALUES (:text) RETURNING tenant, text;
-- name: told^
SELECT current_user AS role, session_user AS login, current_setting('app.tenant', true) AS tenant,
       current_setting('request.jwt.claims', true) AS claims;
-- name: told_plainly^
-- @group plain
SELECT current_user AS role, current_setting('app.tenant', true) AS tenant,
       current_setting('request.jwt.claims', true) AS claims;
-- name: bound(tenant_id, text)^
-- @group plain
-- @param tenant_id int4 = 9 from=claim:tenant_id minimum=1
SELECT :tenant_id::int4 AS tenant, :text::text AS text;
-- name: bound_to_key(tenant)$
-- @group plain
-- @param tenant text from=key:tenant_id
SELECT :tenant::text;
-- name: sold$
-- @role sales
-- @group plain
SELECT 'sold';
"""
PEOPLE: dict[str, dict[str, Any]] = {
    "one": {"roles": ("sales",), "parameters": {"tenant_id": 1, "db_role": "tenant"}},
    "two": {"parameters": {"tenant_id": 2, "db_role": "tenant"}},
    "roleless": {"parameters": {"tenant_id": 1, "db_role": "postgres"}},
    "tenantless": {"parameters": {"db_role": "tenant", "tenant_id": "x"}},
    "operator": {"roles": ("admin",)},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "groups.read": {"access": "read", "settings": True, "size": 2},
    "groups.write": {"access": "write", "settings": True, "size": 2},
    "groups.plain": {"access": "read", "size": 2},
    "auth.settings": {
        '"request.jwt.claims"': "claims",
        '"app.tenant"': "claim:tenant_id",
        '"role"': "claim:db_role",
    },
}


class Site:
    """A gateway that knows keys and tokens, and people who have some."""

    def __init__(self, running: Gateway, made: dict[str, str], issuer: Issuer, signing: SigningKey) -> None:
        self.running = running
        self.keys = made
        self.issuer = issuer
        self.signing = signing
        self.file = running.folder / "keys.toml"

    def ask(
        self, who: str, query: str, /, *, headers: dict[str, str] | None = None, **arguments: Any
    ) -> httpx.Response:
        return self.running.run(query, {**self.shows(who), **(headers or {})}, **arguments)

    def shows(self, who: str) -> dict[str, str]:
        if not who:
            return {}
        shown = self.keys.get(who) or who
        return {"Authorization": f"Bearer {shown}"}

    def rows(self, who: str, query: str = "notes") -> list[str]:
        return [row["text"] for row in self.ask(who, query).json()["rows"]]


def forget(cluster: Cluster, text: str) -> None:
    """Remove these notes, on all servers."""
    cluster.primary.sql(f"DELETE FROM rooms.notes WHERE text = '{text}'", shop.DATABASE)
    cluster.wait_until_caught_up()


def write_keys(file: Path) -> dict[str, str]:
    text, made = "", {}
    for name, more in PEOPLE.items():
        made[name] = shown = keys.make()
        entry = Key(id=shown[4:12], sha256=keys.digest_of(shown).hex(), name=name, **more)
        text = keys_file.added(text, entry)
    file.write_text(text)
    file.chmod(0o600)
    return made


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def site(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("callers")
    (folder / "sql.sql").write_text(SQL)
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(QUERIES)
    cluster.primary.run_file(folder / "sql.sql", shop.DATABASE)
    cluster.wait_until_caught_up()
    signing = SigningKey("first")
    issuer = Issuer(key_set(signing))
    with ExitStack() as stack:
        url = stack.enter_context(issuer.serving())
        made = write_keys(folder / "keys.toml")
        auth = {
            "mode": ["keys", "jwt"],
            "keys_file": "keys.toml",
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "jwks_url": url,
            "allow_anonymous": True,
            "database_roles": ["tenant"],
            "failure_rate": "10000/s",
        }
        settings = {"auth": auth, **SETTINGS, "server": {"workers": 2, "worker": request.param}}
        running = stack.enter_context(serving(cluster, folder, settings, paths=[folder / "queries"]))
        yield Site(running, made, issuer, signing)
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA rooms CASCADE", shop.DATABASE)


def test_each_caller_sees_rows_of_its_own_and_strangers_none(site: Site) -> None:
    token = site.signing.sign(tenant_id=2, db_role="tenant")
    for _ in range(3):
        assert site.rows("one") == ["one"]
        assert site.rows("two") == ["two", "too"]
        assert site.rows(token) == ["two", "too"]
        assert site.rows("") == []


def test_a_list_and_a_transaction_are_the_callers_too(site: Site) -> None:
    steps = {"steps": [{"query": "notes"}, {"query": "told"}], "read_only": True}
    for who, expected in (("two", ["two", "too"]), ("", []), ("one", ["one"])):
        listed = site.running.client.post("/query/notes", json=[{}, {}], headers=site.shows(who)).json()["results"]
        assert [[row["text"] for row in result["rows"]] for result in listed] == [expected] * 2
        both = site.running.client.post("/transaction", json=steps, headers=site.shows(who)).json()["results"]
        assert [row["text"] for row in both[0]["rows"]] == expected


def test_a_step_of_another_group_is_told_its_caller(site: Site) -> None:
    steps = {"steps": [{"query": "told_plainly"}, {"query": "told"}]}
    told = site.running.client.post("/transaction", json=steps, headers=site.shows("two")).json()["results"]
    assert [result["row"]["tenant"] for result in told] == ["2", "2"]


def test_the_callers_role_is_the_databases_and_only_for_its_statements(site: Site) -> None:
    for _ in range(4):
        told = site.ask("one", "told").json()["row"]
        assert (told["role"], told["login"], told["tenant"]) == ("tenant", "gateway", "1")
        assert json.loads(told["claims"]) == {"sub": "one", "roles": ["sales"], "tenant_id": 1, "db_role": "tenant"}
        told = site.ask("", "told").json()["row"]
        assert (told["role"], told["tenant"], told["claims"]) == ("gateway", "", "{}")


def test_nothing_of_a_caller_is_left_for_the_next_use_of_its_connection(site: Site, cluster: Cluster) -> None:
    seen = set()
    for number in range(40):
        who = ("one", "two")[number % 2]
        steps = {"steps": [{"query": "told"}], "read_only": True}
        assert site.running.client.post("/transaction", json=steps, headers=site.shows(who)).status_code == 200
        assert site.ask(who, "note", text="").status_code == 200
        told = site.ask("", "told_plainly").json()["row"]
        seen.add((told["role"], told["tenant"] or "", told["claims"] or ""))
    assert seen == {("gateway", "", "")}
    forget(cluster, "")


def test_a_failed_statement_leaves_nothing_either(site: Site) -> None:
    for _ in range(6):
        problem(site.ask("tenantless", "notes"), 422, "invalid_arguments")  # its tenant is no number for the policy
        assert site.rows("") == []
        assert site.rows("one") == ["one"]


@pytest.mark.parametrize("query", ["note", "tracked_note"])
@pytest.mark.parametrize("key", [None, "k"])
def test_writes_are_the_callers_with_and_without_a_key(
    site: Site, cluster: Cluster, query: str, key: str | None
) -> None:
    headers = {"Idempotency-Key": f"{key}-{query}-{time.time_ns()}"} if key else {}
    for who, tenant in (("one", 1), ("two", 2)):
        for number in range(2 if key else 1):
            answer = site.ask(who, query, headers=headers, text="mine")
            assert answer.json() == {"row": {"tenant": tenant, "text": "mine"}, "outcome": "committed"}
            assert answer.headers.get("Idempotency-Replayed") == ("true" if number else None)
    assert site.rows("one") == ["one", "mine"]
    forget(cluster, "mine")


def test_a_list_of_writes_is_the_callers(site: Site, cluster: Cluster) -> None:
    body = [{"text": "mine"} for _ in range(250)]
    answer = site.running.client.post("/query/note", json=body, headers=site.shows("two"))
    assert {result["row"]["tenant"] for result in answer.json()["results"]} == {2}
    forget(cluster, "mine")


def test_a_key_of_one_caller_replays_nothing_of_anothers(site: Site, cluster: Cluster) -> None:
    headers = {"Idempotency-Key": f"same-{time.time_ns()}"}
    answers = [site.ask(who, "note", headers=headers, text="mine") for who in ("one", "two")]
    assert [answer.json()["row"]["tenant"] for answer in answers] == [1, 2]
    forget(cluster, "mine")


def test_a_caller_without_a_role_of_the_databases_may_not_ask_there(site: Site) -> None:
    for who in ("roleless", "operator"):
        assert problem(site.ask(who, "notes"), 403, "forbidden")["outcome"] is None
        assert site.ask(who, "told_plainly").status_code == 200


def test_a_bound_parameter_is_the_callers(site: Site) -> None:
    token = site.signing.sign(tenant_id=7)
    for who, tenant in (("one", 1), ("two", 2), (token, 7)):
        assert site.ask(who, "bound", text="x").json()["row"] == {"tenant": tenant, "text": "x"}
        get = site.running.client.get("/query/bound", params={"text": "x"}, headers=site.shows(who))
        assert get.json()["row"]["tenant"] == tenant
        listed = site.running.client.post("/query/bound", json=[{"text": "x"}], headers=site.shows(who))
        assert listed.json()["results"][0]["row"]["tenant"] == tenant
        steps = {"steps": [{"query": "bound_to_key"}, {"query": "bound", "arguments": {"text": {"$ref": "/0/value"}}}]}
        answer = site.running.client.post("/transaction", json=steps, headers=site.shows(who))
        if who is token:
            assert problem(answer, 403, "forbidden")["step"] == 0
        else:
            assert answer.json()["results"][1]["row"] == {"tenant": tenant, "text": str(tenant)}


def test_no_client_sets_what_the_gateway_does(site: Site) -> None:
    client = site.running.client
    steps = [{"query": "told"}, {"query": "bound", "arguments": {"tenant_id": {"$ref": "/0/row/tenant"}, "text": "x"}}]
    for who in ("one", ""):
        shown = site.shows(who)
        answers = [
            site.ask(who, "bound", tenant_id=2, text="x"),
            client.get("/query/bound", params={"tenant_id": 2, "text": "x"}, headers=shown),
            client.post("/query/bound", json=[{"text": "x", "tenant_id": None}], headers=shown),
            client.post("/transaction", json={"steps": steps}, headers=shown),
        ]
        for answer in answers:
            errors = problem(answer, 422, "invalid_arguments")["errors"]
            assert [(fault["parameter"], fault["message"]) for fault in errors] == [
                ("tenant_id", "is set by the gateway")
            ]


def test_what_a_caller_lacks_or_has_in_no_fit_form_is_forbidden(site: Site) -> None:
    for who in ("", "operator", "tenantless", site.signing.sign(tenant_id=0), site.signing.sign(tenant_id=[1])):
        problem(site.ask(who, "bound", text="x"), 403, "forbidden")
    problem(site.ask(site.signing.sign(tenant_id="7"), "bound_to_key"), 403, "forbidden")


def test_a_bound_parameter_is_shown_as_one(site: Site) -> None:
    described = site.running.client.get("/queries/bound", headers=site.shows("one")).json()["parameters"]
    assert described[0] == {
        "name": "tenant_id", "type": "integer", "required": False, "description": "", "bound": "claim:tenant_id",
        "minimum": 1,
    }  # fmt: skip


def test_a_role_is_asked_for_by_every_way_to_run_a_query(site: Site) -> None:
    assert site.ask("one", "sold").json() == {"value": "sold"}
    assert site.ask(site.signing.sign(roles="sales"), "sold").json() == {"value": "sold"}
    for who in ("", "two"):
        problem(site.ask(who, "sold", nothing=1), 403, "forbidden")
        steps = {"steps": [{"query": "told_plainly"}, {"query": "sold"}]}
        answer = site.running.client.post("/transaction", json=steps, headers=site.shows(who))
        assert problem(answer, 403, "forbidden")["step"] == 1
        assert site.running.client.get("/queries/sold", headers=site.shows(who)).status_code == 404


def test_a_revoked_key_is_refused_by_every_worker_within_two_seconds(site: Site) -> None:
    before = site.file.read_text()
    held = keys_file.read(site.file)
    index = next(index for index, key in enumerate(held) if key.name == "two")
    with keys_file.changing(site.file) as (text, _, write):
        write(keys_file.removed(text, index), [*held[:index], *held[index + 1 :]])
    revoked = time.monotonic()
    wait_until(lambda: all(_refused(site, "two") for _ in range(8)), "refused by both workers", timeout=2.0)
    assert time.monotonic() - revoked < 2.0
    assert site.rows("one") == ["one"]
    site.file.write_text(before + "[[key]\n")
    wait_until(
        lambda: site.running.operator.get("/health").json()["authentication"]["keys"]["fault"], "a fault is told"
    )
    assert site.rows("one") == ["one"]
    site.file.write_text(before)
    wait_until(lambda: not any(_refused(site, "two") for _ in range(8)), "known again")


def _refused(site: Site, who: str) -> bool:
    with site.running.new_client() as client:
        return client.get("/queries", headers=site.shows(who)).status_code == 401
