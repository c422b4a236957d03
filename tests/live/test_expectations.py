"""What a call is expected to come to is decided before its COMMIT, and writes can be tried out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres import idempotency
from tests.live.gateways import Gateway, problem, serving_queries

TABLES = """
DROP SCHEMA IF EXISTS expected CASCADE;
CREATE SCHEMA expected;
CREATE TABLE expected.items (
    id int PRIMARY KEY, word text, parent int REFERENCES expected.items DEFERRABLE INITIALLY DEFERRED
);
GRANT USAGE ON SCHEMA expected TO gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON expected.items TO gateway;
"""
QUERIES = """
-- name: item(id)^
-- @expect row
SELECT id, word FROM expected.items WHERE id = :id;

-- name: items(least) :many
-- @expect row
SELECT id, word FROM expected.items WHERE id >= :least ORDER BY id;

-- name: word(id)$
-- @expect row
SELECT word FROM expected.items WHERE id = :id;

-- name: words()
SELECT id, word FROM expected.items ORDER BY id;

-- name: rename(id, word)!
-- @expect affected=1
UPDATE expected.items SET word = :word WHERE id = :id;

-- name: rename_from(least, word)!
-- @expect affected>=2
UPDATE expected.items SET word = :word WHERE id >= :least;

-- name: renamed(least, word) :many
-- @expect affected=2
UPDATE expected.items SET word = :word WHERE id >= :least RETURNING id;

-- name: take(id)^
-- @expect row
-- @outcome tracked
DELETE FROM expected.items WHERE id = :id RETURNING word;

-- name: add(id, word, parent)!
-- @param parent = null
INSERT INTO expected.items VALUES (:id, :word, :parent);
"""
WORDS = {1: "one", 2: "two", 3: "three"}
TRIED = {"Prefer": "tx=rollback"}


@pytest.fixture(scope="module")
def shared(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    cluster.primary.sql(TABLES, shop.DATABASE)
    cluster.primary.sql(idempotency.DDL, shop.DATABASE)
    cluster.primary.sql(f"GRANT ALL ON {idempotency.TABLE} TO gateway", shop.DATABASE)
    settings = {"server": {"rollback_roles": ["tester"]}}
    servers = (cluster.primary,)
    with serving_queries(QUERIES, cluster, tmp_path_factory.mktemp("expected"), settings, servers=servers) as node:
        yield node
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA expected CASCADE", shop.DATABASE)


@pytest.fixture
def node(shared: Gateway, cluster: Cluster) -> Gateway:
    values = ", ".join(f"({id_}, '{word}')" for id_, word in WORDS.items())
    cluster.primary.sql(f"TRUNCATE expected.items; INSERT INTO expected.items VALUES {values}", shop.DATABASE)
    return shared


def words(node: Gateway) -> dict[int, str]:
    return {row["id"]: row["word"] for row in node.run("words").json()["rows"]}


class TestRow:
    def test_a_read_without_a_row_is_not_found(self, node: Gateway) -> None:
        assert node.run("item", id=1).json() == {"row": {"id": 1, "word": "one"}}
        assert problem(node.run("item", id=9), 404, "no_row")["outcome"] is None
        problem(node.run("word", id=9), 404, "no_row")
        problem(node.run("items", least=9), 404, "no_row")
        problem(node.client.get("/query/item", params={"id": "9"}), 404, "no_row")
        assert node.run("items", least=3).json()["row_count"] == 1

    def test_a_value_that_is_null_is_a_row(self, node: Gateway, cluster: Cluster) -> None:
        cluster.primary.sql("INSERT INTO expected.items VALUES (4)", shop.DATABASE)
        assert node.run("word", id=4).json() == {"value": None}

    @pytest.mark.parametrize("media", ["application/x-ndjson", "text/csv"])
    def test_a_stream_without_a_row_is_not_found(self, node: Gateway, media: str) -> None:
        accepting = {"Accept": media}
        problem(node.run("items", accepting, least=9), 404, "no_row")
        assert node.run("items", accepting, least=3).status_code == 200

    def test_in_lists_and_transactions_the_step_is_named(self, node: Gateway) -> None:
        assert problem(node.client.post("/query/item", json=[{"id": 1}, {"id": 9}]), 404, "no_row")["step"] == 1
        steps: list[dict[str, Any]] = [
            {"query": "add", "arguments": {"id": 5, "word": "five"}},
            {"query": "item", "arguments": {"id": 9}},
        ]
        told = problem(node.client.post("/transaction", json={"steps": steps}), 404, "no_row")
        assert (told["step"], told["outcome"]) == (1, "rolled_back")
        assert words(node) == WORDS

    def test_a_write_that_returns_no_row_is_rolled_back(self, node: Gateway) -> None:
        assert problem(node.run("take", id=9), 404, "no_row")["outcome"] == "rolled_back"
        assert node.run("take", id=3).json() == {"row": {"word": "three"}, "outcome": "committed"}

    def test_calls_are_not_joined_and_the_query_says_why(self, node: Gateway) -> None:
        described = node.client.get("/queries/item").json()
        assert (described["expect"], described["joined"]) == ("row", False)
        assert "expected" in described["not_joined"]


class TestAffected:
    def test_another_count_is_rolled_back(self, node: Gateway) -> None:
        assert node.run("rename", id=1, word="uno").json() == {"affected": 1, "outcome": "committed"}
        assert problem(node.run("rename", id=9, word="x"), 409, "unexpected_affected")["outcome"] == "rolled_back"
        problem(node.run("rename_from", least=3, word="x"), 409, "unexpected_affected")
        problem(node.run("renamed", least=1, word="x"), 409, "unexpected_affected")
        assert words(node) == {**WORDS, 1: "uno"}
        assert node.run("rename_from", least=2, word="many").json()["affected"] == 2
        assert node.run("renamed", least=2, word="two rows").json()["row_count"] == 2

    def test_each_object_of_a_list_and_each_step_is_held_to_it(self, node: Gateway) -> None:
        listed = [{"id": 1, "word": "a"}, {"id": 9, "word": "b"}]
        steps = [{"query": "rename", "arguments": arguments} for arguments in listed]
        for path, body in (("/query/rename", listed), ("/transaction", {"steps": steps})):
            told = problem(node.client.post(path, json=body), 409, "unexpected_affected")
            assert (told["outcome"], told["step"]) == ("rolled_back", 1)
        assert words(node) == WORDS
        assert node.client.post("/query/rename", json=listed[:1]).json()["outcome"] == "committed"

    def test_a_key_stays_free_where_it_was_rolled_back(self, node: Gateway) -> None:
        key = {"Idempotency-Key": "expectation"}
        problem(node.run("rename", key, id=9, word="x"), 409, "unexpected_affected")
        node.run("add", id=9, word="nine")
        answer = node.run("rename", key, id=9, word="x")
        assert (answer.json()["outcome"], "Idempotency-Replayed" in answer.headers) == ("committed", False)

    def test_a_body_of_records_is_refused(self, node: Gateway) -> None:
        line = json.dumps({"id": 1, "word": "x"})
        answer = node.client.post(
            "/query/rename", content=f"{line}\n", headers={"Content-Type": "application/x-ndjson"}
        )
        assert "list of objects" in problem(answer, 415, "unsupported_media_type")["detail"]
        assert words(node) == WORDS

    def test_the_typed_document_names_the_answers(self, node: Gateway) -> None:
        paths = node.client.get("/openapi.json").json()["paths"]
        assert "404" in paths["/query/item"]["post"]["responses"]
        assert "affected=1" in paths["/query/rename"]["post"]["responses"]["409"]["description"]


class TestTryingOut:
    """With auth.mode = "none" everybody has every role."""

    def test_a_write_is_answered_and_rolled_back(self, node: Gateway) -> None:
        answer = node.run("add", TRIED, id=4, word="four")
        assert answer.json() == {"affected": 1, "outcome": "rolled_back"}
        assert answer.headers["Preference-Applied"] == "tx=rollback"
        assert "Gateway-Consistency-Token" not in answer.headers
        assert node.run("take", TRIED, id=1).json() == {"row": {"word": "one"}, "outcome": "rolled_back"}
        assert words(node) == WORDS

    def test_lists_and_transactions_are_too(self, node: Gateway) -> None:
        listed = [{"id": 4, "word": "four"}, {"id": 5, "word": "five"}]
        steps = [{"query": "add", "arguments": arguments} for arguments in listed]
        for path, body in (("/query/add", listed), ("/transaction", {"steps": steps})):
            answer = node.client.post(path, json=body, headers=TRIED)
            assert answer.json() == {"results": [{"affected": 1}, {"affected": 1}], "outcome": "rolled_back"}
        assert words(node) == WORDS

    def test_what_is_deferred_to_the_commit_is_looked_at(self, node: Gateway) -> None:
        told = problem(node.run("add", TRIED, id=4, word="four", parent=99), 409, "conflict")
        assert told["outcome"] == "rolled_back"

    def test_no_key_is_taken(self, node: Gateway) -> None:
        key = {"Idempotency-Key": "tried"}
        assert node.run("add", {**TRIED, **key}, id=4, word="four").json()["outcome"] == "rolled_back"
        answer = node.run("add", key, id=4, word="four")
        assert (answer.json()["outcome"], "Idempotency-Replayed" in answer.headers) == ("committed", False)

    def test_it_is_counted_as_rolled_back(self, node: Gateway) -> None:
        def counted() -> float:
            lines = node.client.get("/metrics").text.splitlines()
            found = [line for line in lines if line.startswith('gateway_outcomes_total{outcome="rolled_back"}')]
            return float(found[0].split()[-1]) if found else 0.0

        before = counted()
        node.run("add", TRIED, id=4, word="four")
        assert counted() == before + 1

    def test_reads_and_records(self, node: Gateway) -> None:
        assert node.run("item", TRIED, id=1).status_code == 200
        headers = {**TRIED, "Content-Type": "application/x-ndjson"}
        problem(
            node.client.post("/query/add", content=b'{"id": 4, "word": "x"}\n', headers=headers), 400, "invalid_request"
        )
        assert words(node) == WORDS


@pytest.mark.usefixtures("shared")
def test_trying_out_is_refused_without_the_role(cluster: Cluster, tmp_path: Path) -> None:
    with serving_queries(QUERIES, cluster, tmp_path, servers=(cluster.primary,)) as node:
        told = problem(node.run("add", TRIED, id=77, word="x"), 403, "forbidden")
        assert "rollback_roles" in told["detail"]
        assert 77 not in words(node)
