"""However a query is run, the database is told who calls, where the group of the query asks for that."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving
from tests.live.test_callers import SETTINGS, SQL, write_keys

WAYS = {
    "POST": ("POST", "/query/told_in_words", {}, b"{}"),
    "GET": ("GET", "/query/told_in_words", {}, b""),
    "QUERY": ("QUERY", "/query/told_in_words", {"Content-Type": "application/json"}, b"{}"),
    "a list": ("POST", "/query/told_in_words", {}, b"[{}, {}]"),
    "a transaction": ("POST", "/transaction", {}, b'{"steps": [{"query": "told_in_words"}]}'),
    "a step of a group that does not ask": (
        "POST",
        "/transaction",
        {},
        b'{"steps": [{"query": "told_plainly"}, {"query": "told_in_words"}]}',
    ),
    "a stream of NDJSON": ("POST", "/query/told_in_rows", {"Accept": "application/x-ndjson"}, b"{}"),
    "a stream of CSV": ("POST", "/query/told_in_rows", {"Accept": "text/csv"}, b"{}"),
    "a value as it is": ("POST", "/query/told_in_words", {"Accept": "text/plain"}, b"{}"),
    "a write": ("POST", "/query/keep", {}, b"{}"),
    "a write with a key": ("POST", "/query/keep", {"Idempotency-Key": "KEY"}, b"{}"),
    "a write that is tracked": ("POST", "/query/keep_tracked", {}, b"{}"),
    "a write of rows": ("POST", "/query/keep", {"Content-Type": "application/x-ndjson"}, b"{}\n{}\n"),
    "a write of rows with a key": (
        "POST",
        "/query/keep",
        {"Content-Type": "application/x-ndjson", "Idempotency-Key": "KEY"},
        b"{}\n{}\n",
    ),
}
WORDS = """concat_ws('/', current_user, current_setting('app.tenant', true),
                 current_setting('request.jwt.claims', true)::jsonb ->> 'sub')"""
TELLING = f"""
-- name: told_in_words$
-- @media text/plain
SELECT {WORDS} AS told;
-- name: told_in_rows
SELECT {WORDS} AS told FROM generate_series(1, 3);
-- name: told_to_many(x)$
SELECT {WORDS} || ' ' || :x::text;
-- name: told_plainly^
-- @group plain
SELECT current_user AS role;
-- name: keep
INSERT INTO rooms.told (told) VALUES ({WORDS}) RETURNING told;
-- name: keep_tracked
-- @outcome tracked
INSERT INTO rooms.told (told) VALUES ({WORDS}) RETURNING told;
"""


@pytest.fixture(scope="module")
def telling(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("telling")
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(TELLING)
    made = write_keys(folder / "keys.toml")
    cluster.primary.sql(SQL, shop.DATABASE)
    cluster.primary.sql("CREATE TABLE rooms.told (told text); GRANT ALL ON rooms.told TO tenant", shop.DATABASE)
    cluster.wait_until_caught_up()
    auth = {"mode": "keys", "keys_file": str(folder / "keys.toml"), "database_roles": ["tenant"]}
    settings = {**SETTINGS, "auth": auth}
    with serving(cluster, folder, settings, paths=[folder / "queries"]) as running:
        yield running, made
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA rooms CASCADE", shop.DATABASE)


@pytest.mark.parametrize("way", WAYS)
def test_the_database_is_told_who_calls_however_a_query_is_run(
    way: str, telling: tuple[Gateway, dict[str, str]], cluster: Cluster
) -> None:
    node, made = telling
    method, path, headers, body = WAYS[way]
    for who, tenant in (("one", 1), ("two", 2), ("one", 1)):
        cluster.primary.sql("TRUNCATE rooms.told", shop.DATABASE)
        sent = {
            "Content-Type": "application/json",
            **{name: uuid4().hex if value == "KEY" else value for name, value in headers.items()},
            "Authorization": f"Bearer {made[who]}",
        }
        answer = node.client.request(method, path, headers=sent, content=body)
        assert answer.status_code == 200, answer.text
        expected = f"tenant/{tenant}/{who}"
        if "rows" in way:
            stored = cluster.primary.sql("SELECT string_agg(DISTINCT told, ' ') FROM rooms.told", shop.DATABASE)
            assert stored.strip() == expected
        else:
            assert expected in answer.text
            assert f"tenant/{3 - tenant}/" not in answer.text


def test_the_database_is_told_who_calls_when_calls_are_joined(telling: tuple[Gateway, dict[str, str]]) -> None:
    node, made = telling

    def crowd(who: str, tenant: int) -> list[str]:
        wrong = []
        with node.new_client() as client:
            for number in range(150):
                answer = client.post(
                    "/query/told_to_many",
                    json={"x": f"{who}{number}"},
                    headers={"Authorization": f"Bearer {made[who]}"},
                )
                if answer.json().get("value") != f"tenant/{tenant}/{who} {who}{number}":
                    wrong.append(answer.text)
        return wrong

    with ThreadPoolExecutor(24) as pool:
        asked = [pool.submit(crowd, *("one", 1) if number % 2 else ("two", 2)) for number in range(24)]
        assert [wrong for each in asked for wrong in each.result()] == []
