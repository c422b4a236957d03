"""Answers that are kept, on real servers: what HTTP says of them, under every kind of worker, and what writers see."""

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving_queries, wait_until

TABLES = """
DROP SCHEMA IF EXISTS kept CASCADE;
CREATE SCHEMA kept;
CREATE TABLE kept.counters (id int PRIMARY KEY, value int NOT NULL);
INSERT INTO kept.counters SELECT n, 0 FROM generate_series(1, 20) AS n;
GRANT USAGE ON SCHEMA kept TO gateway;
GRANT SELECT, UPDATE ON kept.counters TO gateway;
"""
QUERIES = """
-- name: counter(id)$
-- @cache 60s
SELECT value FROM kept.counters WHERE id = :id;

-- name: counters()
-- @cache 60s
SELECT id, value, repeat('x', 1000) AS filling FROM kept.counters ORDER BY id;

-- name: briefly(id)$
-- @cache 200ms stale=30s
SELECT value FROM kept.counters WHERE id = :id AND pg_sleep(1) IS NOT NULL;

-- name: page_of(id)$
-- @cache 60s
-- @media text/plain
SELECT 'counter ' || value FROM kept.counters WHERE id = :id;

-- name: now_slowly(seconds)$
-- @param seconds float8
-- @coalesce
SELECT clock_timestamp() FROM pg_sleep(:seconds);

-- name: count_up(id)^
UPDATE kept.counters SET value = value + 1 WHERE id = :id RETURNING value;
"""
ROUNDS = int(os.environ.get("KEPT_ROUNDS", "25"))
"""Writes of each of four writers, each followed by ten reads that must see it."""
HEADER = "Gateway-Consistency-Token"


@pytest.fixture(scope="module")
def tables(cluster: Cluster) -> Iterator[Cluster]:
    cluster.primary.sql(TABLES, shop.DATABASE)
    cluster.wait_until_caught_up()
    yield cluster
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA kept CASCADE", shop.DATABASE)


@pytest.fixture(scope="module", params=["gateway", "gthread", "sync"])
def node(
    request: pytest.FixtureRequest, tables: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(f"kept-{request.param}")
    with serving_queries(QUERIES, tables, folder, {"server": {"worker": request.param}}) as running:
        yield running


def counted(node: Gateway, query: str, result: str) -> float:
    series = f'gateway_cache_total{{query="{query}",result="{result}"}}'
    lines = node.client.get("/metrics").text.splitlines()
    found = [line for line in lines if line.startswith(series)]
    return float(found[0].split()[-1]) if found else 0.0


class TestKept:
    def test_an_answer_says_how_long_it_is_good_and_comes_from_memory(self, node: Gateway) -> None:
        first, second = (node.run("counter", id=1) for _ in range(2))
        assert first.json() == second.json()
        assert "Gateway-Endpoint" in first.headers
        assert "Gateway-Endpoint" not in second.headers
        for answer in (first, second):
            assert answer.headers["Vary"] == "Authorization, Accept, Prefer"
            private, _, seconds = answer.headers["Cache-Control"].rpartition("=")
            assert (private, 0 < int(seconds) <= 60) == ("private, max-age", True)
            assert int(answer.headers["Age"]) >= 0
        assert first.headers["ETag"] == second.headers["ETag"]
        assert (counted(node, "counter", "miss"), counted(node, "counter", "hit")) == (1, 1)

    def test_whoever_has_it_is_told_so_by_get_and_head(self, node: Gateway) -> None:
        tag = node.client.get("/query/counter?id=2").headers["ETag"]
        for method in ("GET", "HEAD"):
            answer = node.client.request(method, "/query/counter?id=2", headers={"If-None-Match": tag})
            assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
            assert answer.headers["Cache-Control"].startswith("private, max-age=")
        other = node.client.get("/query/counter?id=2", headers={"If-None-Match": '"other"'})
        assert other.json() == {"value": 0}
        for method in ("POST", "QUERY"):
            answer = node.client.request(method, "/query/counter", json={"id": 2}, headers={"If-None-Match": tag})
            assert (answer.status_code, answer.json()) == (200, {"value": 0})
        lines = node.client.get("/metrics").text
        assert 'gateway_requests_total{query="counter",status="304"}' in lines

    def test_what_was_compressed_is_told_by_the_same_tag(self, node: Gateway) -> None:
        plain = node.client.get("/query/counters", headers={"Accept-Encoding": "identity"})
        packed = node.client.get("/query/counters", headers={"Accept-Encoding": "gzip"})
        assert packed.headers["ETag"] == f"W/{plain.headers['ETag']}"
        assert packed.headers["Vary"] == "Authorization, Accept, Prefer, Accept-Encoding"
        for tag in (plain.headers["ETag"], packed.headers["ETag"]):
            assert node.client.get("/query/counters", headers={"If-None-Match": tag}).status_code == 304

    def test_a_value_as_it_is_is_kept_beside_its_json(self, node: Gateway) -> None:
        texts = [node.client.get("/query/page_of?id=3", headers={"Accept": "text/plain"}) for _ in range(2)]
        assert [answer.text for answer in texts] == ["counter 0"] * 2
        assert "Gateway-Endpoint" not in texts[1].headers
        assert texts[1].headers["X-Content-Type-Options"] == "nosniff"
        assert node.run("page_of", id=3).json() == {"value": "counter 0"}

    def test_streams_lists_and_transactions_are_read_anew(self, node: Gateway) -> None:
        node.run("counters")
        lines = node.client.get("/query/counters", headers={"Accept": "application/x-ndjson"})
        assert (lines.headers["Cache-Control"], "ETag" in lines.headers) == ("no-store", False)
        assert "Gateway-Endpoint" in node.client.post("/query/counter", json=[{"id": 1}]).headers

    def test_a_failure_is_for_its_caller_alone(self, node: Gateway) -> None:
        for _ in range(2):
            answer = node.run("counter", id=2**40)
            problem(answer, 422, "invalid_arguments")
            assert "ETag" not in answer.headers

    def test_what_asks_for_a_newer_write_is_run(self, node: Gateway) -> None:
        before = node.run("counter", id=4).json()
        written = node.run("count_up", id=4)
        demanding = {HEADER: written.headers[HEADER]}
        assert node.run("counter", id=4).json() == before  # for a minute, whatever is written
        assert node.run("counter", demanding, id=4).json() == written.json()["row"]
        again = node.run("counter", demanding, id=4)
        assert (again.json(), "Gateway-Endpoint" in again.headers) == (written.json()["row"], False)

    def test_the_query_tells_that_it_is_kept(self, node: Gateway) -> None:
        described = node.client.get("/queries/briefly").json()
        assert (described["cache_ms"], described["stale_ms"], described["coalesce"]) == (200, 30000, False)


def test_an_expired_answer_is_given_while_one_request_fetches_another(node: Gateway) -> None:
    if "sync" in node.folder.name:
        pytest.skip("a synchronous worker has one request at a time")
    node.run("briefly", id=5)
    time.sleep(0.25)
    with ThreadPoolExecutor(2) as pool:
        before = counted(node, "briefly", "miss")
        fetching = pool.submit(node.run, "briefly", id=5)
        wait_until(lambda: counted(node, "briefly", "miss") > before, "it is being fetched")
        meanwhile = node.run("briefly", id=5)
        assert "Gateway-Endpoint" not in meanwhile.headers
        assert meanwhile.headers["Cache-Control"] == "private, max-age=0"
        assert "Gateway-Endpoint" in fetching.result().headers


class TestCoalesced:
    def test_identical_reads_in_flight_share_one_execution(self, node: Gateway) -> None:
        if "sync" in node.folder.name:
            pytest.skip("a synchronous worker has one request at a time")
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _: node.run("now_slowly", seconds=0.6), range(5)))
        assert len({answer.json()["value"] for answer in answers}) == 1
        assert counted(node, "now_slowly", "shared") == 4
        assert all("Gateway-Endpoint" in answer.headers for answer in answers)
        assert node.client.get("/query/now_slowly?seconds=0").headers["Cache-Control"] == "no-store"

    def test_each_caller_keeps_its_deadline_and_its_hanging_up(self, node: Gateway) -> None:
        if "sync" in node.folder.name:
            pytest.skip("a synchronous worker has one request at a time")
        hasty = {"Prefer": "wait=0.3"}
        with ThreadPoolExecutor(3) as pool:
            began = counted(node, "now_slowly", "miss")
            first = pool.submit(node.run, "now_slowly", hasty, seconds=0.7)
            wait_until(lambda: counted(node, "now_slowly", "miss") > began, "it runs")
            second = pool.submit(node.run, "now_slowly", seconds=0.7)
            with node.new_client(timeout=0.2) as leaver, pytest.raises(httpx.ReadTimeout):
                leaver.post("/query/now_slowly", json={"seconds": 0.7})
            problem(first.result(), 504, "deadline_exceeded")
            assert second.result().status_code == 200


def test_a_reload_begins_with_nothing_kept(tables: Cluster, tmp_path: Path) -> None:
    with serving_queries(QUERIES, tables, tmp_path) as node:
        node.run("counter", id=6)
        assert "Gateway-Endpoint" not in node.run("counter", id=6).headers
        assert node.operator.post("/admin/reload").status_code == 200
        with node.new_client() as client:
            assert "Gateway-Endpoint" in client.post("/query/counter", json={"id": 6}).headers


def test_no_reader_with_a_token_is_given_what_is_older(tables: Cluster, tmp_path: Path) -> None:
    """Writers count up and read with the tokens that they got; others keep the cache warm without."""
    readers = 10
    stale: list[tuple[int, int]] = []
    done = threading.Event()
    with serving_queries(QUERIES, tables, tmp_path, {"server": {"workers": 2}}) as node:

        def write_and_read(seed: int) -> int:
            choice = random.Random(seed)  # noqa: S311 -- the same mix each time
            demands = 0
            with node.new_client() as client:
                for _ in range(ROUNDS):
                    id_ = choice.randrange(7, 20)
                    written = client.post("/query/count_up", json={"id": id_})
                    demanding = {HEADER: written.headers[HEADER]}
                    for _ in range(readers):
                        read = client.post("/query/counter", json={"id": id_}, headers=demanding).json()["value"]
                        demands += 1
                        if read < written.json()["row"]["value"]:
                            stale.append((id_, read))
            return demands

        def keep_warm() -> None:
            ids = itertools.cycle(range(7, 20))
            with node.new_client() as client:
                while not done.is_set():
                    client.post("/query/counter", json={"id": next(ids)})
                    done.wait(0.002)

        with ThreadPoolExecutor(5) as pool:
            warm = pool.submit(keep_warm)
            writers = [pool.submit(write_and_read, seed) for seed in range(4)]
            demands = sum(writer.result() for writer in writers)
            done.set()
            warm.result()
        hits = counted(node, "counter", "hit")
    assert (demands, stale) == (4 * ROUNDS * readers, [])
    assert hits > demands / 4, "the answers came from memory often enough to tell"
