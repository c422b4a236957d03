"""Nothing of one caller is seen by another: sessions, rows and answers, by queries that do all they can to leave some.

Every group has one connection, so that each call is the next lease of the session that the call before it had.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo.cluster import Cluster
from gateway.postgres.idempotency import DDL
from tests.live.databases import database, plain
from tests.live.gateways import Gateway, serving
from tests.live.test_isolation import LEAKS

TABLES = f"""
CREATE ROLE pure LOGIN;
CREATE TABLE secrets (owner text, secret text);
INSERT INTO secrets VALUES ('alice', 'of alice'), ('bob', 'of bob');
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secrets USING (owner = (SELECT current_setting('app.owner', true)));
CREATE TABLE diary (id int, word text);
CREATE TABLE strict (id int UNIQUE, word text CHECK (word <> 'no'));
INSERT INTO strict VALUES (1, 'hidden-word');
CREATE FUNCTION act(command text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE command; RETURN 1; END $$;
CREATE FUNCTION peek(command text) RETURNS text LANGUAGE plpgsql AS $$
    DECLARE found text; BEGIN EXECUTE command INTO found; RETURN found; END $$;
CREATE FUNCTION leave() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    PERFORM set_config('app.owner', 'alice', false), set_config('TimeZone', 'Asia/Tokyo', false), pg_advisory_lock(77);
    RETURN 1;
END $$;
CREATE TABLE left_by_column (id int);
INSERT INTO left_by_column VALUES (1);
CREATE FUNCTION left_over(left_by_column) RETURNS int LANGUAGE sql IMMUTABLE RETURN leave();
CREATE DOMAIN left_by_domain AS text CHECK (leave() = 1);
CREATE FUNCTION leaves(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE RETURN leave() = 1;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = leaves);
CREATE TABLE left_by_default (id int DEFAULT leave(), word text);
CREATE TABLE left_by_trigger (word text);
CREATE FUNCTION leaving() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM leave(); RETURN NULL; END $$;
CREATE TRIGGER leaving AFTER INSERT ON left_by_trigger FOR EACH ROW EXECUTE FUNCTION leaving();
CREATE TABLE parents (word text PRIMARY KEY);
CREATE TABLE children (word text REFERENCES parents ON DELETE CASCADE);
CREATE TRIGGER leaving AFTER DELETE ON children FOR EACH ROW EXECUTE FUNCTION leaving();
INSERT INTO parents VALUES ('here');
INSERT INTO children VALUES ('here');
CREATE TABLE tamed (word text);
{DDL}
GRANT ALL ON ALL TABLES IN SCHEMA public TO pure;
GRANT CREATE, TEMP ON DATABASE live_purity TO pure;
"""
WAYS = {
    "attribute": "SELECT t.left_over FROM left_by_column t WHERE :word <> ''",
    "domain": "SELECT :word::left_by_domain",
    "operator": "SELECT :word::text === 'x'",
    "default": "INSERT INTO left_by_default (word) VALUES (:word) RETURNING word",
    "trigger": "INSERT INTO left_by_trigger VALUES (:word) RETURNING word",
    "cascade": "DELETE FROM parents WHERE word = :word RETURNING word",
    "later": "INSERT INTO tamed VALUES (:word) RETURNING word",
}
"""Statements that leave something by what they cause, and not by what is written in them."""
QUERIES = """
-- name: act(command)$
-- @access write
-- @param command text
SELECT act(:command);

-- name: act_beside(command)$
-- @access write
-- @group beside
-- @param command text
SELECT act(:command);

-- name: look(command)$
-- @access write
-- @param command text
SELECT peek(:command);

-- name: look_beside(command)$
-- @access write
-- @group beside
-- @param command text
SELECT peek(:command);

-- name: read_secrets
SELECT owner, secret FROM secrets;

-- name: kept_secrets
-- @cache 1m
SELECT owner, secret FROM secrets;

-- name: shared_secrets
-- @coalesce
SELECT owner, secret FROM secrets, (SELECT pg_sleep(0.02)) AS slow;

-- name: kept_name(who)$
-- @cache 1m
-- @param who text from=claim:sub
SELECT :who;

-- name: secrets
-- @access write
SELECT owner, secret FROM secrets;

-- name: note(word)<!
-- @param word text
INSERT INTO diary (word) VALUES (:word) RETURNING word, current_setting('app.owner') AS owner;
"""
QUERIES += "".join(
    f"-- name: {name}_{group}(word)$\n-- @access write\n-- @group {group}\n-- @param word text\n{statement};\n"
    for name, statement in WAYS.items()
    for group in ("write", "beside")
)
CLAIMS = "SELECT current_setting('app.owner', true) || current_setting('request.jwt.claims', true)"


class People:
    """A node, and two callers and a stranger who ask it."""

    def __init__(self, node: Gateway, shown: dict[str, str], dsn: str) -> None:
        self.node = node
        self._dsn = dsn
        self.shown = shown

    def ask(self, who: str, query: str, headers: dict[str, str] | None = None, **arguments: Any) -> httpx.Response:
        given = {"Authorization": f"Bearer {self.shown[who]}"} if who else {}
        return self.node.run(query, {**given, **(headers or {})}, **arguments)

    def migrate(self, sql: str) -> None:
        """Change the database, and have every worker know of it."""
        with plain(self._dsn) as cursor:
            cursor.execute(sql)
        assert self.node.operator.post("/admin/learn?wait=30s").status_code == 200

    def secrets(self, who: str, query: str = "secrets") -> list[str]:
        return [row["owner"] for row in self.ask(who, query).json()["rows"]]

    def look(self, who: str, command: str, query: str = "look") -> str | None:
        value: str | None = self.ask(who, query, command=command).json()["value"]
        return value


@pytest.fixture(scope="module")
def people(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    folder = tmp_path_factory.mktemp("purity")
    (folder / "queries.sql").write_text(QUERIES)
    shown, text = {}, ""
    for name in ("alice", "bob"):
        shown[name] = made = keys.make()
        text = keys_file.added(text, Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name=name))
    file = folder / "keys.toml"
    file.write_text(text)
    file.chmod(0o600)
    settings: dict[str, Any] = {
        "auth": {"mode": "keys", "keys_file": str(file), "allow_anonymous": True},
        "auth.settings": {'"request.jwt.claims"': "claims", '"app.owner"': "claim:sub"},
        "groups.read": {"access": "read", "size": 1, "settings": True},
        "groups.write": {"access": "write", "size": 1, "settings": True},
        "groups.beside": {"access": "write", "size": 1},
    }
    with database(cluster.primary, "live_purity") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        try:
            endpoints = {"primary": dsn.replace("user=postgres", "user=pure")}
            with serving(cluster, folder, settings, endpoints=endpoints, paths=[folder / "queries.sql"]) as node:
                yield People(node, shown, dsn)
        finally:
            cursor.execute("DROP OWNED BY pure; DROP ROLE pure")


@pytest.mark.parametrize("beside", ["", "_beside"], ids=["told its caller", "not told"])
@pytest.mark.parametrize("leak", LEAKS)
def test_what_one_caller_leaves_in_a_session_is_gone_for_the_next(leak: str, beside: str, people: People) -> None:
    left, look, _ = LEAKS[leak]
    if leak == "statement timeout":  # who looks has a limit of their own, of so many milliseconds as are left
        look = "SELECT (current_setting('statement_timeout')::interval >= '1h')::text"
    before = people.look("bob", look, f"look{beside}")
    people.ask("alice", f"act{beside}", command=left)  # refused, where it is for superusers
    assert people.look("bob", look, f"look{beside}") == before


@pytest.mark.parametrize("query", ["secrets", "read_secrets"])
def test_everybody_sees_their_own_rows_and_strangers_none(query: str, people: People) -> None:
    for _ in range(3):
        assert people.secrets("alice", query) == ["alice"]
        assert people.secrets("bob", query) == ["bob"]
        assert people.secrets("", query) == []


@pytest.mark.parametrize(
    "command",
    [
        "SELECT set_config('app.owner', 'alice', false), set_config('request.jwt.claims', '{}', false)",
        "SET app.owner = 'alice'; SET request.jwt.claims = 'alice'",
        "ALTER ROLE pure SET app.owner = 'alice'",
        "ALTER ROLE pure IN DATABASE live_purity SET app.owner = 'alice'",
    ],
)
def test_who_somebody_is_cannot_be_left_for_others(command: str, people: People) -> None:
    people.ask("alice", "act", command=command)
    people.ask("alice", "act_beside", command=command)
    assert people.secrets("bob") == ["bob"]
    assert people.secrets("") == []
    assert people.secrets("bob", "read_secrets") == ["bob"]
    said = people.look("bob", CLAIMS)
    assert said is not None
    assert said.startswith("bob")
    assert "alice" not in said
    assert people.look("", CLAIMS) == "{}"
    people.ask("alice", "act", command="ALTER ROLE pure RESET ALL; ALTER ROLE pure IN DATABASE live_purity RESET ALL")


LEFT = (
    "SELECT coalesce(current_setting('app.owner', true), '') || current_setting('TimeZone')"
    " || (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
)


@pytest.mark.parametrize("group", ["write", "beside"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_statement_leaves_by_what_it_causes_is_gone_for_the_next(way: str, group: str, people: People) -> None:
    look = "look" if group == "write" else "look_beside"
    before = people.look("bob", LEFT, look)
    if way == "later":
        people.migrate("CREATE TRIGGER leaving AFTER INSERT ON tamed FOR EACH ROW EXECUTE FUNCTION leaving()")
    if way == "cascade":
        people.migrate(
            "INSERT INTO parents VALUES ('here') ON CONFLICT DO NOTHING; INSERT INTO children VALUES ('here')"
        )
    assert people.ask("alice", f"{way}_{group}", word="here").status_code == 200
    assert people.look("bob", LEFT, look) == before
    assert people.secrets("bob") == ["bob"]
    assert people.secrets("") == []
    if way == "later":
        people.migrate("DROP TRIGGER leaving ON tamed")


def test_a_group_that_is_not_told_of_callers_has_nothing_of_any(people: People) -> None:
    assert people.secrets("alice") == ["alice"]
    for who in ("alice", "bob", ""):
        assert people.look(who, f"SELECT coalesce(({CLAIMS}), '')", "look_beside") == ""


def test_a_table_of_ones_own_does_not_take_the_place_of_the_one_that_others_read(people: People) -> None:
    shadow = (
        "CREATE TEMP TABLE secrets AS SELECT 'alice' AS owner, 'made up' AS secret; SET search_path = pg_temp, public"
    )
    people.ask("alice", "act", command=shadow)
    assert people.ask("bob", "secrets").json()["rows"] == [{"owner": "bob", "secret": "of bob"}]


def test_a_prepared_statement_cannot_be_replaced_for_others(people: People) -> None:
    assert people.secrets("bob") == ["bob"]
    replace = """
        DO $$ DECLARE s record; BEGIN
            FOR s IN SELECT name FROM pg_prepared_statements LOOP
                EXECUTE format('DEALLOCATE %I', s.name);
                EXECUTE format('PREPARE %I AS SELECT ''{"owner": "alice", "secret": "made up"}''', s.name);
            END LOOP;
        END $$
    """
    assert people.ask("alice", "act", command=replace).status_code == 200
    assert people.ask("bob", "secrets").json()["rows"] == [{"owner": "bob", "secret": "of bob"}]


def test_a_transaction_that_fails_leaves_nothing_of_its_caller(people: People) -> None:
    steps = [
        {"query": "act", "arguments": {"command": "SELECT set_config('app.owner', 'alice', false)"}},
        {"query": "act", "arguments": {"command": "SELECT 1 / 0"}},
    ]
    given = {"Authorization": f"Bearer {people.shown['alice']}"}
    assert people.node.client.post("/transaction", json={"steps": steps}, headers=given).status_code == 422
    assert people.secrets("bob") == ["bob"]
    assert people.secrets("") == []


def test_a_key_of_one_caller_is_not_that_of_another(people: People) -> None:
    key = {"Idempotency-Key": "the same"}
    first = people.ask("alice", "note", key, word="w")
    assert first.json()["row"] == {"word": "w", "owner": "alice"}
    for who in ("bob", ""):
        other = people.ask(who, "note", key, word="w")
        assert other.json()["row"] == {"word": "w", "owner": who}
        assert "Idempotency-Replayed" not in other.headers
    again = people.ask("alice", "note", key, word="w")
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"


def test_callers_who_ask_at_the_same_time_each_get_their_own(people: People) -> None:
    def ask(number: int) -> tuple[str, list[str]]:
        who = ("alice", "bob", "")[number % 3]
        return who, people.secrets(who, ("secrets", "read_secrets")[number % 2])

    with ThreadPoolExecutor(12) as pool:
        for who, seen in pool.map(ask, range(600)):
            assert seen == ([who] if who else [])


def test_an_answer_that_is_kept_is_given_to_its_caller_alone(people: People) -> None:
    people.ask("alice", "kept_secrets")
    tag = people.ask("alice", "kept_secrets").headers["ETag"]
    for _ in range(2):
        for who in ("alice", "bob", ""):
            assert people.secrets(who, "kept_secrets") == ([who] if who else [])
            if who:
                assert people.ask(who, "kept_name").json() == {"value": who}
    assert people.ask("", "kept_name").status_code == 403
    given = {"Authorization": f"Bearer {people.shown['bob']}", "If-None-Match": tag}
    assert people.node.client.get("/query/kept_secrets", headers=given).status_code == 200
    again = people.ask("alice", "kept_secrets")
    assert int(again.headers["Age"]) >= 0
    assert again.headers["Cache-Control"].startswith("private")
    assert "Authorization" in again.headers["Vary"]


def test_an_execution_that_is_shared_is_shared_with_oneself_alone(people: People) -> None:
    def ask(number: int) -> tuple[str, list[str]]:
        who = ("alice", "bob", "")[number % 3]
        return who, people.secrets(who, "shared_secrets")

    with ThreadPoolExecutor(12) as pool:
        for who, seen in pool.map(ask, range(120)):
            assert seen == ([who] if who else [])


def test_an_error_shows_nothing_of_anybodys_rows(people: People) -> None:
    for command in ("INSERT INTO strict VALUES (1, 'x')", "INSERT INTO strict VALUES (2, 'no'), (3, 'hidden-word')"):
        answer = people.ask("bob", "act", command=command)
        assert answer.status_code in (409, 422)
        assert "hidden-word" not in json.dumps(answer.json())
