"""Pages of rows and orders of them, on real servers: walked while rows come and go, and on replicas that lag."""

import itertools
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving_queries, wait_until

TABLES = """
DROP SCHEMA IF EXISTS walked CASCADE;
CREATE SCHEMA walked;
CREATE TABLE walked.items (id int PRIMARY KEY, rank int, word text, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX ON walked.items (rank, id);
CREATE TABLE walked.notes (id bigint PRIMARY KEY, a int, b text, c numeric);
GRANT USAGE ON SCHEMA walked TO gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA walked TO gateway;
"""
QUERIES = """
-- name: items()
-- @page key(rank, id) size=7 max=1000
SELECT id, rank, word FROM walked.items;

-- name: items_down(least)
-- @param least int4 = 0
-- @page key(rank DESC, id) size=7 max=1000
SELECT id, rank, word FROM walked.items WHERE id >= :least;

-- name: notes()
-- @sort plain: id | down: id DESC | a: a | a_down: a DESC | mixed: a DESC, b | other: b DESC, a | all: a, b, c
-- @page key(id) size=3 max=500
SELECT id, a, b, c FROM walked.notes;

-- name: sorted(least)
-- @param least int8 = 0
-- @sort newest: id DESC | by_word: b, id
SELECT id, b FROM walked.notes WHERE id >= :least;

-- name: tagged(words, id, doc)
-- @param words text[]
-- @param id int8 = 0
-- @param doc jsonb = {}
-- @page key(id) size=1
SELECT n AS id, :doc AS doc FROM generate_series(1, 3) AS n WHERE n > :id AND :words IS NOT NULL;

-- name: kept()
-- @cache 60s
-- @page key(id) size=2
SELECT id FROM walked.items;

-- name: some(least)
-- @expect row
-- @page key(id) size=2
SELECT id FROM walked.items WHERE id >= :least;

-- name: put(id, rank, word)!
INSERT INTO walked.items VALUES (:id, :rank, :word) ON CONFLICT (id) DO UPDATE SET rank = excluded.rank;

-- name: take(id)!
DELETE FROM walked.items WHERE id = :id;
"""
HEADER = "Gateway-Consistency-Token"
WALKS = int(os.environ.get("WALKS", "12"))
"""Walks from the first page to the last while rows come and go; with ``-s`` the figures are printed."""


@pytest.fixture(scope="module")
def tables(cluster: Cluster) -> Iterator[Cluster]:
    cluster.primary.sql(TABLES, shop.DATABASE)
    cluster.primary.sql(
        "INSERT INTO walked.items SELECT n, nullif(n % 5, 0), 'w' || n FROM generate_series(1, 60) AS n", shop.DATABASE
    )
    cluster.wait_until_caught_up()
    yield cluster
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA walked CASCADE", shop.DATABASE)


@pytest.fixture(scope="module")
def node(tables: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving_queries(QUERIES, tables, tmp_path_factory.mktemp("walked"), {"server": {"workers": 2}}) as running:
        yield running


@pytest.fixture(scope="module", params=["gthread", "sync"])
def plain_node(
    request: pytest.FixtureRequest, tables: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    server = {"workers": 2, "worker": request.param}
    with serving_queries(QUERIES, tables, tmp_path_factory.mktemp(request.param), {"server": server}) as running:
        yield running


def walk(node: Gateway, query: str, **arguments: Any) -> list[dict[str, Any]]:
    """All rows, page by page."""
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = node.run(query, cursor=cursor, **arguments)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["row_count"] == len(body["rows"])
        rows += body["rows"]
        cursor = body["next"]
        if cursor is None:
            return rows


class TestPages:
    @pytest.mark.parametrize("size", [1, 6, 7, 59, 60, 61, 1000])
    def test_all_rows_come_once_and_in_order_whatever_the_size(self, node: Gateway, size: int) -> None:
        rows = walk(node, "items", size=size)
        assert [row["id"] for row in rows] == sorted(range(1, 61), key=lambda n: (n % 5 == 0, n % 5, n))
        rows = walk(node, "items_down", size=size)
        assert [row["id"] for row in rows] == sorted(range(1, 61), key=lambda n: (n % 5 != 0, -(n % 5), n))

    def test_a_page_has_as_many_rows_as_the_query_says(self, node: Gateway) -> None:
        body = node.run("items").json()
        assert (body["row_count"], body["rows"][0]) == (7, {"id": 1, "rank": 1, "word": "w1"})
        for size in (0, 1001, "x"):
            assert problem(node.run("items", size=size), 422, "invalid_arguments")["errors"][0]["parameter"] == "size"

    def test_an_empty_result_is_one_page(self, node: Gateway) -> None:
        assert node.run("items_down", least=100).json() == {"rows": [], "row_count": 0, "next": None}

    def test_big_integers_as_strings_walk_the_same_way(self, node: Gateway) -> None:
        headers = {"Prefer": "bigint=string"}
        first = node.run("notes", headers, size=1).json()
        assert first["next"] is None or isinstance(first["rows"][0]["id"], str)

    def test_the_link_leads_to_the_next_page(self, node: Gateway) -> None:
        for answer in (
            node.run("tagged", words=["a b", "c&d"], id=0, doc={"x": [1, 2]}),
            node.client.get("/query/tagged", params=[("words", "a b"), ("words", "c&d"), ("doc", '{"x":[1,2]}')]),
        ):
            ids = [row["id"] for row in answer.json()["rows"]]
            while "Link" in answer.headers:
                assert answer.links["next"]["url"].endswith(f"cursor={answer.json()['next']}")
                answer = node.client.get(answer.links["next"]["url"])
                assert answer.json()["rows"][0]["doc"] == {"x": [1, 2]}
                ids += [row["id"] for row in answer.json()["rows"]]
            assert ids == [1, 2, 3]

    @pytest.mark.parametrize("arguments", [{"words": ["x" * 3000]}, {"words": ["a", None]}, {"words": []}])
    def test_where_the_arguments_are_too_long_or_have_no_such_form_there_is_no_link(
        self, node: Gateway, arguments: dict[str, Any]
    ) -> None:
        answer = node.run("tagged", **arguments)
        assert (answer.json()["next"] is None, "Link" in answer.headers) == (False, False)
        assert [row["id"] for row in walk(node, "tagged", **arguments)] == [1, 2, 3]

    def test_pages_are_json_of_one_call(self, node: Gateway) -> None:
        problem(node.run("items", {"Accept": "application/x-ndjson"}), 406, "not_acceptable")
        problem(node.client.post("/query/items", json=[{}]), 400, "invalid_request")
        told = problem(node.client.post("/transaction", json={"steps": [{"query": "items"}]}), 400, "invalid_request")
        assert told["step"] == 0

    def test_a_page_that_is_kept_has_its_link(self, node: Gateway) -> None:
        answers = [node.client.get("/query/kept") for _ in range(4)]
        assert any("Gateway-Endpoint" not in answer.headers for answer in answers)
        assert all(answer.links["next"]["url"].endswith(answer.json()["next"]) for answer in answers)
        assert len(walk(node, "kept")) == len({row["id"] for row in walk(node, "kept")}) >= 60

    def test_a_first_page_without_a_row_is_not_what_was_expected(self, node: Gateway) -> None:
        problem(node.run("some", least=1000), 404, "no_row")
        assert node.run("some", least=1).json()["row_count"] == 2

    def test_what_is_described_is_what_is_answered(self, node: Gateway) -> None:
        described = node.client.get("/queries/notes").json()
        assert described["page"] == {"key": ["id"], "size": 3, "max": 500}
        assert described["sorts"]["mixed"] == ["a DESC", "b", "id"]
        assert [parameter["name"] for parameter in described["parameters"]] == ["sort", "size", "cursor"]
        document = node.client.get("/openapi.json").json()["components"]["schemas"]
        assert document["NotesArguments"]["properties"]["size"]["maximum"] == 500
        assert document["NotesResult"]["properties"]["next"]["type"] == ["string", "null"]


def forged(cursor: str) -> Iterator[str]:
    """Cursors that differ from this one in a letter, its end, or all."""
    for place in range(0, len(cursor), 7):
        yield cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
    yield from ("", "x", "ü", "'; DROP TABLE x; --", "A" * len(cursor), cursor * 200)
    yield from (cursor[:-1], cursor + "A", cursor + "=")


class TestCursors:
    def test_none_that_was_not_given_out_is_taken(self, node: Gateway) -> None:
        cursor = node.run("items").json()["next"]
        for each in forged(cursor):
            told = problem(node.run("items", cursor=each), 422, "invalid_arguments")
            assert told["errors"][0]["parameter"] == "cursor"
        assert problem(node.client.get(f"/query/items?cursor={quote(cursor[:-1])}"), 422, "invalid_arguments")

    def test_one_is_good_for_its_query_arguments_and_order_only(self, node: Gateway) -> None:
        cursor = node.run("items_down", least=3).json()["next"]
        assert node.run("items_down", least=3, cursor=cursor).status_code == 200
        for query, arguments in (("items_down", {"least": 4}), ("items_down", {}), ("items", {}), ("kept", {})):
            problem(node.run(query, cursor=cursor, **arguments), 422, "invalid_arguments")

    def test_every_worker_takes_it_and_other_sizes_go_with_it(self, node: Gateway) -> None:
        cursor = node.run("items").json()["next"]
        for size in range(1, 13):
            with node.new_client() as client:  # another connection, and sometimes another worker
                answer = client.post("/query/items", json={"cursor": cursor, "size": size})
                assert (answer.status_code, answer.json()["row_count"]) == (200, size)

    def test_with_a_secret_of_all_nodes_it_is_good_on_each(self, tables: Cluster, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_bytes(random.randbytes(32))  # noqa: S311 -- a test's
        cursors: list[str] = []
        for name, file in (("a", str(secret)), ("b", str(secret)), ("c", "")):
            (tmp_path / name).mkdir()
            with serving_queries(QUERIES, tables, tmp_path / name, {"server": {"secret_file": file}}) as node:
                if cursors:
                    answer = node.run("items", cursor=cursors[0])
                    assert answer.status_code == (200 if file else 422)
                cursors.append(node.run("items").json()["next"])


class TestSorts:
    def test_the_first_is_the_default_and_others_may_be_chosen(self, node: Gateway, tables: Cluster) -> None:
        values = "(1, 1, 'a'), (2, 1, 'z'), (3, 1, 'y')"
        tables.primary.sql(f"TRUNCATE walked.notes; INSERT INTO walked.notes VALUES {values}", shop.DATABASE)
        tables.wait_until_caught_up()
        assert [row["id"] for row in node.run("sorted").json()["rows"]] == [3, 2, 1]
        assert [row["id"] for row in node.run("sorted", sort="by_word").json()["rows"]] == [1, 3, 2]
        lines = node.client.get("/query/sorted?sort=by_word&least=2", headers={"Accept": "text/csv; header=absent"})
        assert lines.text.split() == ['3,"y"', '2,"z"']
        assert node.client.get("/queries/sorted").json()["not_joined"] == "its callers choose an order or a page"

    def test_another_name_is_refused(self, node: Gateway) -> None:
        told = problem(node.run("sorted", sort="oldest"), 422, "invalid_arguments")
        assert told["errors"][0]["parameter"] == "sort"


rows_of_notes = st.lists(
    st.tuples(
        st.none() | st.integers(0, 2),
        st.none() | st.sampled_from(["", "a", "B", "ä", "'", "\\"]),
        st.none() | st.sampled_from(["0", "1.50", "NaN"]),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_notes, size=st.integers(1, 6))
def test_null_keys_lose_no_row_in_any_order(node: Gateway, tables: Cluster, rows: list[Any], size: int) -> None:
    def written(value: Any) -> str:
        return "NULL" if value is None else "'" + str(value).replace("'", "''") + "'"

    values = ", ".join(f"({id_}, {', '.join(map(written, row))})" for id_, row in enumerate(rows, 1))
    insert = f"; INSERT INTO walked.notes VALUES {values}" if rows else ""
    tables.primary.sql(f"TRUNCATE walked.notes{insert}", shop.DATABASE)
    tables.wait_until_caught_up()
    orders = node.client.get("/queries/notes").json()["sorts"]
    for name, key in orders.items():
        told = tables.primary.sql(f"SELECT id FROM walked.notes ORDER BY {', '.join(key)}", shop.DATABASE)
        assert [str(row["id"]) for row in walk(node, "notes", sort=name, size=size)] == told.split(), name


class TestWhileRowsComeAndGo:
    def test_no_row_comes_twice_and_none_is_missed_that_was_there_throughout(
        self, node: Gateway, tables: Cluster
    ) -> None:
        """The even ids stay; odd ones come and go, also before and behind where a walk is."""
        tables.primary.sql(
            "INSERT INTO walked.items SELECT n, n % 7, '' FROM generate_series(1000, 1400, 2) AS n", shop.DATABASE
        )
        tables.wait_until_caught_up()
        stays = set(range(1000, 1401, 2))
        done = threading.Event()

        def change(seed: int) -> int:
            choice = random.Random(seed)  # noqa: S311 -- the same mix each time
            with node.new_client() as client:
                for written in itertools.count(0, 2):
                    if done.is_set():
                        return written
                    id_ = choice.randrange(1001, 1401, 2)
                    client.post("/query/put", json={"id": id_, "rank": id_ % 7, "word": ""})
                    client.post("/query/take", json={"id": choice.randrange(1001, 1401, 2)})
            raise AssertionError("counting has no end")

        seen = 0
        with ThreadPoolExecutor(2) as pool:
            changing = [pool.submit(change, seed) for seed in range(2)]
            try:
                for walked in range(WALKS):
                    rows = walk(node, "items" if walked % 2 else "items_down", size=5)
                    ids = [row["id"] for row in rows]
                    assert len(ids) == len(set(ids))
                    assert stays <= set(ids)
                    seen += len(ids)
            finally:
                done.set()
            writes = sum(each.result() for each in changing)
        print(f"{WALKS} walks over {seen} rows in pages of 5, with {writes} writes meanwhile")
        tables.primary.sql("DELETE FROM walked.items WHERE id >= 1000", shop.DATABASE)


class TestReplicas:
    def test_a_later_page_is_never_older(self, node: Gateway, tables: Cluster) -> None:
        """One replica stands still; pages that began elsewhere are not gone on with there."""
        held, other = tables.replicas
        both = lambda: len(node.health()["groups"]["read"]["rotation"]) == 2  # noqa: E731
        wait_until(both, "both replicas serve")
        held.sql("SELECT pg_wal_replay_pause()")
        try:
            tables.primary.sql(
                "INSERT INTO walked.items SELECT n, 100, '' FROM generate_series(2000, 2029) AS n", shop.DATABASE
            )
            counted = "SELECT count(*) FROM walked.items WHERE id >= 2000"
            wait_until(lambda: other.sql(counted, shop.DATABASE).strip() == "30", "the other has them")
            seen = set()
            for _ in itertools.repeat(None, 12):
                first = node.run("items_down", least=2000, size=10)
                if first.json()["row_count"] == 0:  # of the one that stands still
                    continue
                rest = node.run("items_down", least=2000, size=100, cursor=first.json()["next"])
                assert rest.json()["row_count"] == 20
                seen.add(rest.headers["Gateway-Endpoint"])
            assert seen
            assert held.name not in seen
        finally:
            held.sql("SELECT pg_wal_replay_resume()")
            tables.primary.sql("DELETE FROM walked.items WHERE id >= 1000", shop.DATABASE)
            tables.wait_until_caught_up()


class TestOtherWorkers:
    """Threads, and one request at a time: another process may answer the next page."""

    def test_all_rows_come_once_and_in_order(self, plain_node: Gateway) -> None:
        rows = walk(plain_node, "items", size=7)
        assert [row["id"] for row in rows] == sorted(range(1, 61), key=lambda n: (n % 5 == 0, n % 5, n))
        rows = walk(plain_node, "items_down", size=13)
        assert [row["id"] for row in rows] == sorted(range(1, 61), key=lambda n: (n % 5 != 0, -(n % 5), n))

    def test_a_cursor_is_good_for_what_it_was_given_for_only(self, plain_node: Gateway) -> None:
        cursor = plain_node.run("items_down", least=3).json()["next"]
        with plain_node.new_client() as client:  # sometimes another worker
            assert client.post("/query/items_down", json={"least": 3, "cursor": cursor}).status_code == 200
        problem(plain_node.run("items_down", least=4, cursor=cursor), 422, "invalid_arguments")
        problem(plain_node.run("items", cursor=cursor[:-1]), 422, "invalid_arguments")
