"""Answers that are sent while they come: whole or visibly not, in constant memory, and never all of the pool."""

import csv
import io
import json
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving_queries, wait_until
from tests.live.memory import forget_most, most_held
from tests.live.workers import Wire, get

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

QUERIES = """
-- name: numbers(n)
SELECT i AS id, repeat('x', 100) AS filler FROM (SELECT generate_series(1, :n::int) AS i) AS s;

-- name: limited(n)
-- @max_rows 1000
SELECT i AS id FROM (SELECT generate_series(1, :n::int) AS i) AS s;

-- name: breaks(at)
SELECT 1 / (:at::int - i) AS n FROM generate_series(1, 100000) AS i;

-- name: slowly(n, pause)
SELECT i AS id, repeat('x', 100) AS filler
  FROM (SELECT generate_series(1, :n::int) AS i) AS s, pg_sleep(:pause::float8);

-- name: paced(n, pause)
SELECT i AS id, pg_sleep(:pause::float8)::text AS nap FROM generate_series(1, :n::int) AS i;

-- name: paced_briefly(n, pause)
-- @timeout 1s
SELECT i AS id, pg_sleep(:pause::float8)::text AS nap FROM generate_series(1, :n::int) AS i;

-- name: documents()
SELECT 1 AS id, E'{"a":\\n 1}'::json AS doc, ARRAY[E'{\\r\\n}'::json] AS docs, E'two\\nlines, "quoted"' AS words
UNION ALL SELECT 2, NULL, NULL, '';

-- name: customers()
SELECT id, name, status::text AS status FROM customers ORDER BY id;

-- name: rename_customer(id, name)!
UPDATE customers SET name = :name WHERE id = :id;

-- name: picture(kind)$
-- @media image/png
SELECT CASE :kind::text WHEN 'small' THEN decode('89504e47000d0a1a0a00ff', 'hex')
                        WHEN 'large' THEN decode(repeat('00ff', 600000), 'hex') END;

-- name: page(id)$
-- @media text/html
SELECT '<p>' || name || '</p>' FROM customers WHERE id = :id;
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"timeout": "2s", "body_timeout": "2s", "max_result_bytes": "1MB"},
    "groups.read": {"access": "read", "size": 4},
    "groups.write": {"access": "write", "size": 2},
}
ARGUMENTS: dict[str, dict[str, Any]] = {"numbers": {"n": 20_000}, "customers": {}}
NDJSON = {"Accept": "application/x-ndjson"}
CSV = {"Accept": "text/csv"}


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving_queries(QUERIES, cluster, tmp_path_factory.mktemp("streams"), SETTINGS) as node:
        yield node


@pytest.fixture(scope="module", params=["gthread", "sync"])
def plain_node(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    settings = SETTINGS | {"server": SETTINGS["server"] | {"worker": request.param}}
    with serving_queries(QUERIES, cluster, tmp_path_factory.mktemp(request.param), settings) as node:
        yield node


def objects(answer: httpx.Response) -> list[dict[str, Any]]:
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert answer.text.endswith("\n") or not answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def records(answer: httpx.Response, **dialect: Any) -> list[list[str]]:
    assert answer.headers["Content-Type"].startswith("text/csv; charset=utf-8; header=")
    return list(csv.reader(io.StringIO(answer.text, newline=""), strict=True, **dialect))


def wire(node: Gateway) -> Wire:
    return Wire(node.connect())


def asking(query: str, accept: str = "application/x-ndjson") -> bytes:
    return get(f"/query/{query}", f"Accept: {accept}")


def leased(node: Gateway) -> int:
    count: int = node.health()["groups"]["read"]["leased"]
    return count


class TestWhole:
    def test_lines_are_the_rows_that_json_has(self, node: Gateway) -> None:
        rows = node.run("customers").json()["rows"]
        assert len(rows) > 100
        assert objects(node.run("customers", NDJSON)) == rows
        header, *lines = records(node.run("customers", CSV))
        assert header == ["id", "name", "status"]
        assert lines == [[str(row["id"]), row["name"], row["status"]] for row in rows]

    def test_a_get_streams_too_and_a_head_has_the_headers_alone(self, node: Gateway) -> None:
        answer = node.client.get("/query/numbers", params={"n": "3"}, headers=NDJSON)
        assert [row["id"] for row in objects(answer)] == [1, 2, 3]
        assert answer.headers["Gateway-Endpoint"] in ("replica1", "replica2")
        head = node.client.head("/query/numbers", params={"n": "3"}, headers=NDJSON)
        assert (head.status_code, head.headers["Content-Type"], head.content) == (200, "application/x-ndjson", b"")
        wait_until(lambda: leased(node) == 0, "the lease has been returned")

    @pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 12_345])
    def test_no_row_is_lost_or_twice_at_the_end_of_a_piece(self, node: Gateway, count: int) -> None:
        assert [row["id"] for row in objects(node.run("numbers", NDJSON, n=count))] == list(range(1, count + 1))
        _, *lines = records(node.run("numbers", CSV, n=count))
        assert [int(line[0]) for line in lines] == list(range(1, count + 1))

    def test_a_line_has_no_line_ends_in_it(self, node: Gateway) -> None:
        first, second = objects(node.run("documents", NDJSON))
        assert (first["doc"], first["docs"], first["words"]) == ({"a": 1}, [{}], 'two\nlines, "quoted"')
        assert second == {"id": 2, "doc": None, "docs": None, "words": ""}

    def test_csv_tells_null_from_the_empty_string(self, node: Gateway) -> None:
        text = node.run("documents", CSV).text
        assert text.endswith('2,,,""\r\n')
        assert records(node.run("documents", CSV))[1][3] == 'two\nlines, "quoted"'

    def test_csv_without_a_header_and_with_another_delimiter(self, node: Gateway) -> None:
        answer = node.run("customers", {"Accept": 'text/csv;header=absent;delimiter=";"'})
        assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=absent"
        assert records(answer, delimiter=";")[0][0] == "1"

    def test_big_numbers_may_be_strings(self, node: Gateway) -> None:
        answer = node.run("numbers", NDJSON | {"Prefer": "bigint=string"}, n=1)
        assert (objects(answer)[0]["id"], answer.headers["Preference-Applied"]) == (1, "bigint=string")

    def test_what_is_longer_than_an_answer_may_be_can_be_streamed(self, node: Gateway) -> None:
        problem(node.run("numbers", n=20_000), 507, "result_too_large")
        assert len(objects(node.run("numbers", NDJSON, n=20_000))) == 20_000

    def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection(self, node: Gateway) -> None:
        request = asking("numbers?n=2000").replace(b"HTTP/1.1", b"HTTP/1.0")
        head, _, body = node.talk(request).partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert body.count(b"\n") == 2000

    def test_it_may_take_longer_than_the_deadline_of_its_first_rows(self, node: Gateway) -> None:
        assert len(objects(node.run("paced", NDJSON, n=300, pause=0.01))) == 300


class TestCompression:
    @pytest.mark.parametrize("coding", ["gzip", "zstd"])
    def test_streams_and_long_answers_are_compressed_for_who_takes_it(self, node: Gateway, coding: str) -> None:
        asked: dict[str, Any]
        with httpx.Client(base_url=node.url, trust_env=False) as client:
            for query, headers in (("numbers", NDJSON), ("customers", {})):
                asked = {"url": f"/query/{query}", "json": ARGUMENTS[query]}
                plain = client.post(headers=headers | {"Accept-Encoding": "identity"}, **asked)
                answer = client.post(headers=headers | {"Accept-Encoding": coding}, **asked)
                assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == (coding, "Accept-Encoding")
                # httpx reads gzip by itself.
                content = zstd.decompress(answer.content) if coding == "zstd" else answer.content
                assert content == plain.content
                assert answer.num_bytes_downloaded < plain.num_bytes_downloaded / 3

    def test_a_compressed_stream_that_breaks_off_has_the_problem_and_no_end(self, node: Gateway) -> None:
        request = asking("breaks?at=50000").replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n")
        with wire(node) as client:
            head, _, body = client.send(request).rest().partition(b"\r\n\r\n")
        assert b"content-encoding: gzip" in head.lower()
        pieces = []
        while body:
            size, _, body = body.partition(b"\r\n")
            pieces.append(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        reader = zlib.decompressobj(31)
        assert b'"code":"invalid_arguments"' in reader.decompress(b"".join(pieces))
        assert not reader.eof

    def test_short_answers_are_not(self, node: Gateway) -> None:
        assert "Content-Encoding" not in node.run("numbers", n=1).headers


class TestBroken:
    def test_what_fails_before_the_first_row_is_a_problem_like_any_other(self, node: Gateway) -> None:
        problem(node.run("breaks", NDJSON, at=1), 422, "invalid_arguments")
        problem(node.run("breaks", NDJSON, at="x"), 422, "invalid_arguments")
        problem(node.run("breaks", CSV, at=50), 422, "invalid_arguments")
        problem(node.run("slowly", NDJSON, n=1, pause=3), 504, "deadline_exceeded")
        assert leased(node) == 0

    @pytest.mark.parametrize("query", ["breaks?at=50000", "limited?n=100000", "paced_briefly?n=1000&pause=0.005"])
    def test_ndjson_ends_with_the_problem_and_without_its_end(self, node: Gateway, query: str) -> None:
        with wire(node) as client:
            lines = client.send(asking(query)).rest()
        code = {"b": "invalid_arguments", "l": "result_too_large", "p": "deadline_exceeded"}[query[0]]
        assert b'{"error":{"type":"about:blank"' in lines
        assert f'"code":"{code}"'.encode() in lines
        assert lines.endswith(b"}}\n\r\n")

    def test_csv_ends_without_its_end(self, node: Gateway) -> None:
        with wire(node) as client, pytest.raises(EOFError):
            client.send(asking("breaks?at=50000", "text/csv")).answer()
        with pytest.raises(httpx.RemoteProtocolError):
            node.run("breaks", CSV, at=50_000)

    def test_a_client_of_http_1_0_sees_a_reset(self, node: Gateway) -> None:
        with pytest.raises(ConnectionResetError):
            node.talk(asking("breaks?at=50000", "text/csv").replace(b"HTTP/1.1", b"HTTP/1.0"))

    @pytest.mark.parametrize("accept", ["application/x-ndjson", "text/csv"])
    def test_a_server_that_is_lost_in_the_middle_ends_it_broken(
        self, node: Gateway, cluster: Cluster, accept: str
    ) -> None:
        with wire(node) as client:
            client.send(asking("slowly?n=3000000&pause=0", accept))
            client.sock.recv(1000)
            ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%gw\\_rows%'"
            for server in cluster.servers:
                server.sql(f"{ended} AND pid <> pg_backend_pid()")
            rest = client.rest()
        assert not rest.endswith(b"0\r\n\r\n")
        assert (b'"code":"connection_lost"' in rest) is (accept != "text/csv")
        assert "Traceback" not in node.log


class TestClients:
    @pytest.mark.parametrize("query", ["numbers?n=100000000", "paced?n=100000&pause=0.005"])
    def test_one_that_leaves_ends_the_query(self, node: Gateway, query: str) -> None:
        with wire(node) as client:
            client.send(asking(query))
            client.sock.recv(1000)
        wait_until(lambda: leased(node) == 0, "the lease has been returned", timeout=10.0)

    def test_one_that_does_not_read_is_given_up(self, node: Gateway) -> None:
        with wire(node) as client:
            client.send(asking("numbers?n=100000000"))
            client.sock.recv(1000)
            wait_until(lambda: leased(node) == 0, "the lease has been returned", timeout=15.0)

    def test_the_memory_of_the_worker_does_not_grow_with_the_rows_or_with_a_slow_reader(self, node: Gateway) -> None:
        objects(node.run("numbers", NDJSON, n=1000))
        (worker,) = node.workers()
        before = forget_most(worker)
        with wire(node) as slow, wire(node) as fast:
            slow.send(asking("numbers?n=100000000"))
            fast.send(asking("numbers?n=1000000", "text/csv"))
            total, end = 0, b""
            while not end.endswith(b"0\r\n\r\n"):
                piece = fast.sock.recv(1 << 20)
                total += len(piece)
                end = (end + piece)[-5:]
                slow.sock.recv(4096)
        assert total > 100_000_000
        assert most_held(worker) - before < 32 << 20


class TestPool:
    def test_streams_do_not_take_all_connections_of_a_group(self, node: Gateway) -> None:
        wait_until(lambda: leased(node) == 0, "no stream is left")
        with wire(node) as first, wire(node) as second:
            for client in (first, second):
                client.send(asking("paced?n=300&pause=0.01"))
            for client in (first, second):
                client.sock.recv(100)
            wait_until(
                lambda: 'gateway_streams{group="read"} 2.0' in node.client.get("/metrics").text, "they are counted"
            )
            told = problem(node.run("numbers", NDJSON | {"Prefer": "wait=0.2"}, n=1), 503, "pool_timeout")
            assert told["detail"] == "group read: 2 streams are under way, and no more may be at a time"
            assert node.run("numbers", n=1).status_code == 200
            assert len(objects(node.run("numbers", NDJSON, n=1))) == 1  # in the place of the first that ends

    def test_one_that_leaves_the_queue_takes_no_place(self, node: Gateway) -> None:
        wait_until(lambda: leased(node) == 0, "no stream is left")
        with wire(node) as first, wire(node) as second:
            for client in (first, second):
                client.send(asking("paced?n=150&pause=0.01"))
            for client in (first, second):
                client.sock.recv(100)
            with wire(node) as third:
                third.send(asking("numbers?n=1"))
            assert len(objects(node.run("numbers", NDJSON, n=1))) == 1
        wait_until(lambda: leased(node) == 0, "no stream is left")
        assert [len(objects(node.run("numbers", NDJSON, n=1))) for _ in range(3)] == [1, 1, 1]

    def test_other_requests_go_on_meanwhile(self, node: Gateway) -> None:
        with wire(node) as client:
            client.send(asking("numbers?n=100000000"))
            reader = threading.Thread(target=lambda: [client.sock.recv(1 << 16) for _ in range(300)])
            reader.start()
            times = sorted(node.run("numbers", n=1).elapsed.total_seconds() for _ in range(200))
            reader.join()
        assert times[100] < 0.05


class TestFreshness:
    def test_a_stream_shows_the_write_that_its_token_came_with(self, node: Gateway) -> None:
        for number in range(40):
            name = f"reader {number}"
            token = node.run("rename_customer", id=1, name=name).headers["Gateway-Consistency-Token"]
            rows = objects(node.run("customers", NDJSON | {"Gateway-Consistency-Token": token}))
            assert rows[0]["name"] == name


class TestRaw:
    def test_a_value_is_given_as_it_is_to_whoever_asks_for_its_type(self, node: Gateway) -> None:
        answer = node.client.get("/query/picture?kind=small", headers={"Accept": "image/webp,image/*,*/*;q=0.8"})
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
        assert answer.content == bytes.fromhex("89504e47000d0a1a0a00ff")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox")
        assert node.run("picture", kind="small").json() == {"value": "\\x89504e47000d0a1a0a00ff"}
        page = node.run("page", {"Accept": "text/html"}, id=2)
        assert (page.headers["Content-Type"], page.text[:3]) == ("text/html", "<p>")
        assert json.loads(node.run("page", id=2).text)["value"] == page.text

    def test_what_is_not_there_is_404(self, node: Gateway) -> None:
        problem(node.run("picture", {"Accept": "image/png"}, kind="none"), 404, "no_row")
        problem(node.run("page", {"Accept": "text/html"}, id=-1), 404, "no_row")

    def test_a_large_one_is_refused_and_not_sent(self, node: Gateway) -> None:
        problem(node.run("picture", {"Accept": "image/png"}, kind="large"), 507, "result_too_large")

    def test_another_type_is_not_acceptable(self, node: Gateway) -> None:
        problem(node.run("picture", {"Accept": "image/jpeg"}, kind="small"), 406, "not_acceptable")
        problem(node.run("picture", NDJSON, kind="small"), 406, "not_acceptable")


class TestOtherWorkers:
    def test_they_stream(self, plain_node: Gateway) -> None:
        assert len(objects(plain_node.run("numbers", NDJSON, n=12_345))) == 12_345
        assert len(records(plain_node.run("numbers", CSV, n=12_345))) == 12_346

    def test_they_end_what_breaks_off_without_its_end(self, plain_node: Gateway) -> None:
        with wire(plain_node) as client, pytest.raises(EOFError):
            client.send(asking("breaks?at=50000")).answer()
        with wire(plain_node) as client:
            assert b'"code":"invalid_arguments"' in client.send(asking("breaks?at=50000")).rest()
        with pytest.raises(httpx.RemoteProtocolError):
            plain_node.run("breaks", CSV, at=50_000)
        assert "Traceback" not in plain_node.log

    def test_a_client_that_leaves_ends_the_query(self, plain_node: Gateway) -> None:
        with wire(plain_node) as client:
            client.send(asking("numbers?n=100000000"))
            client.sock.recv(1000)
        wait_until(lambda: leased(plain_node) == 0, "the lease has been returned", timeout=10.0)


def test_what_a_query_with_media_must_be_is_checked(cluster: Cluster, tmp_path: Path) -> None:
    text = "-- name: number$\n-- @media image/png\nSELECT 1;\n\n-- name: fine()\nSELECT 1 AS one;"
    with serving_queries(text, cluster, tmp_path) as node:
        wait_until(lambda: node.client.get("/queries/number").json()["fault"], "it was learnt")
        problem(node.run("number"), 500, "query_broken")
        assert "@media is for a value of bytea or text, not of integer" in node.log
