"""No request holds the loop, and with it everybody else, for long. With ``-s`` the figures are printed.

A turn's length is the processor time that the worker's thread used in it, so that other programs do not count.
"""

import json
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.live.workers import Node, configure, environment, get, wait_until

LONGEST = 0.05
"""Seconds of one turn."""
MEGABYTE = 1 << 20
QUERIES = """
-- name: text(value)$
-- @param value text
SELECT length(:value);

-- name: document(value)$
-- @param value jsonb
SELECT jsonb_typeof(:value);

-- name: numbers(value)$
-- @param value int8[]
SELECT cardinality(:value);

-- name: texts(value)$
-- @param value text[]
SELECT cardinality(:value);

-- name: add(note)!
-- @param note text
INSERT INTO worker_notes VALUES (:note) ON CONFLICT DO NOTHING;

-- name: rows(n)
SELECT i AS id, repeat('x', 100) AS filler FROM (SELECT generate_series(1, :n::int) AS i) AS s;

-- name: number(value)$
-- @param value int4 minimum=1 maximum=10
SELECT :value;
"""


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of one worker that measures its turns."""
    folder = tmp_path_factory.mktemp("turns")
    address = f"127.0.0.1:{find_port()}"
    configure(cluster, folder, address)
    (folder / "queries" / "more.sql").write_text(QUERIES)
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "tests.live.turns", str(folder / "gateway.toml")]
    program = cluster.launch(command, log=log, environment=environment(), cwd=folder)
    node = Node(program, address=address, log=log, context=None)
    try:
        wait_until(lambda: node.is_ready() or program.poll() is not None, "ready")
        wait_until(lambda: node.run("echo", value="a").status == 200, "the queries are known")
        yield node
    except BaseException:
        print(f"--- {log}\n{tail(log)}")
        raise
    finally:
        node.close()


def request(head: str, body: bytes, *headers: str) -> bytes:
    lines = [head, "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def query(name: str, argument: bytes) -> bytes:
    """A POST to a query with one argument, of a megabyte or a little less."""
    return request(f"POST /query/{name} HTTP/1.1", b'{"value": %b}' % argument)


def listed(item: bytes, between: bytes = b",", ends: bytes = b"[]", size: int = MEGABYTE) -> bytes:
    """A list of this item again and again, of just under ``size`` bytes."""
    count = (size - 100) // (len(item) + len(between))
    return ends[:1] + between.join([item] * count) + ends[1:]


def chunked(chunk: bytes, count: int) -> bytes:
    head = (
        b"POST /query/text HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + chunk * count + b"0\r\n\r\n"


def steps(count: int, *, references: bool) -> bytes:
    first = {"query": "echo", "arguments": {"value": "a"}}
    other = {"query": "echo", "arguments": {"value": {"$ref": "/0/value"}}} if references else first
    return request("POST /transaction HTTP/1.1", json.dumps({"steps": [first, *[other] * (count - 1)]}).encode())


CORPUS: dict[str, bytes] = {
    "a string of 1 MB": query("text", b'"' + b"x" * (MEGABYTE - 100) + b'"'),
    "a string of 1 MB, all escapes": query("text", b'"' + b"\\u00e9" * ((MEGABYTE - 100) // 6) + b'"'),
    "a document of 1 MB, flat": query("document", listed(b"1")),
    "a document of 1 MB, of objects": query("document", listed(b'{"a":{"b":[1,2]}}')),
    "a document of 1 MB, nested too deep": query("document", b"[" * (MEGABYTE - 100)),
    "1 MB of integers": query("numbers", listed(b"1")),
    "1 MB of texts": query("texts", listed(b'"a"')),
    "1 MB that is no JSON": query("text", b"x" * (MEGABYTE - 100)),
    "1 MB of unknown arguments": request(
        "POST /query/text HTTP/1.1",
        b"{" + b",".join(b'"a%d":1' % number for number in range(90_000)) + b"}",
    ),
    "a list of 1000 objects": request("POST /query/add HTTP/1.1", listed(b'{"note":"a"}', size=13_100)),
    "a list of 1000 objects with a fault each": request(
        "POST /query/number HTTP/1.1", listed(b'{"value":11}', size=13_100)
    ),
    "a list of too many objects": request("POST /query/add HTTP/1.1", listed(b'{"note":"a"}')),
    "1000 steps": steps(1000, references=False),
    "1000 steps with references": steps(1000, references=True),
    "10,000 steps": steps(10_000, references=True),
    "the longest query string": get("/query/echo?value=" + "x" * 8100),
    "the longest query string, encoded": get("/query/echo?value=" + "%41" * 2700),
    "a query string of 4000 parameters": get("/query/echo?" + "&".join(["a="] * 2700)),
    "100 headers": get("/query/one", *[f"X-{number}: y" for number in range(98)]),
    "1000 headers": get("/query/one", *[f"X-{number}: y" for number in range(1000)]),
    "a head of 32 kB": get("/query/one", *[f"X-{number}: {'y' * 4000}" for number in range(8)]),
    "a path of 8 kB": get("/query/" + "%41" * 2700),
    "chunks of 1 byte": chunked(b"1\r\n1\r\n", MEGABYTE - 1),
    "chunks of 1 byte with extensions": chunked(b"1;a=b\r\n1\r\n", MEGABYTE - 1),
    "chunks of 16 bytes": chunked(b"10\r\n1234567890123456\r\n", MEGABYTE // 16 - 1),
    "a trailer of 8 kB": chunked(b"", 0)[:-5] + b"0\r\nX: " + b"y" * 8000 + b"\r\n\r\n",
}


def longest_turn(node: Node) -> float:
    """Since it was asked last."""
    return float(node.get("/longest-turn").body)


def measured(node: Node, name: str, attack: Callable[[], Any]) -> None:
    """Do it three times; the best of them was disturbed least by what else the worker does."""
    found = []
    for _ in range(3):
        longest_turn(node)
        attack()
        found.append(longest_turn(node))
    print(f"{name:45} {min(found) * 1000:6.1f} ms")
    assert min(found) < LONGEST, found


def answered(node: Node, data: bytes) -> None:
    """Send it, and read an answer: any."""
    with node.wire() as wire:
        try:
            wire.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused before all of it was sent
        try:
            assert wire.answer().status < 500
        except (ConnectionResetError, EOFError):
            return


@pytest.mark.parametrize("name", CORPUS)
def test_no_request_holds_the_loop_for_long(node: Node, name: str) -> None:
    measured(node, name, lambda: answered(node, CORPUS[name]))


def test_no_pipeline_holds_the_loop_for_long(node: Node) -> None:
    def attack() -> None:
        with node.wire() as wire:
            wire.send(get("/health/live") * 1000)
            for _ in range(1000):
                assert wire.answer().status == 200

    measured(node, "a pipeline of 1000 requests", attack)


def test_no_crowd_holds_the_loop_for_long(node: Node) -> None:
    def attack() -> None:
        wires = [node.wire() for _ in range(500)]
        for wire in wires:
            wire.send(get("/health/live"))
        for wire in wires:
            assert wire.answer().status == 200
        for wire in wires:
            wire.reset()

    measured(node, "500 clients that come and go at once", attack)


def test_no_slow_sender_holds_the_loop_for_long(node: Node) -> None:
    def attack() -> None:
        with node.wire() as wire:
            wire.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for each in get("/query/one", f"X: {'y' * 3000}"):
                wire.send(bytes([each]))
            assert wire.answer().status == 200

    measured(node, "a head byte by byte", attack)


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/csv"])
@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
def test_no_stream_holds_the_loop_for_long(node: Node, accept: str, coding: str) -> None:
    def attack() -> None:
        with node.wire() as wire:
            wire.send(get("/query/rows?n=100000", f"Accept: {accept}", f"Accept-Encoding: {coding}"))
            end = b""
            while not end.endswith(b"0\r\n\r\n"):
                piece = wire.sock.recv(1 << 20)
                assert piece, "it broke off"
                end = (end + piece)[-5:]

    measured(node, f"a stream of 100,000 rows, {accept}, {coding}", attack)
