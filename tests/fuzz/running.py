"""Bodies and heads that mean harm, sent to a running gateway: what it answers, and what its server is asked to run."""

import itertools
import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from gateway.catalogue.lexing import tokens
from gateway.demo.cluster import Cluster
from gateway.demo.shop import DATABASE
from tests.fuzz.fuzzing import Finding
from tests.fuzz.mutating import Mutator
from tests.fuzz.targets import BODIES, BODY_WORDS, HEAD_WORDS, HEADS
from tests.live.gateways import Gateway, read_to_end, serving_queries
from tests.web.description import Description

LOGGED = {
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "statements",
    "log_statement": "all",
}
"""Settings of a server whose statements are looked at."""
_TABLES = """
CREATE TYPE fuzz_mood AS ENUM ('sad', 'so ''so''');
CREATE TYPE fuzz_pair AS (x text, y text[]);
CREATE TABLE fuzz_notes (note text);
"""
_QUERIES = """
-- name: everything^
-- @param b bool = null
-- @param i int4 = null
-- @param f float8 = null
-- @param n numeric = null
-- @param t text = null maxLength=2000
-- @param u uuid = null
-- @param y bytea = null
-- @param j jsonb = null
-- @param e fuzz_mood = null
-- @param a int4[] = null
-- @param c fuzz_pair = null
-- @param o interval = null
SELECT :b AS b, :i AS i, :f AS f, :n AS n, :t AS t, :u AS u, :y AS y, :j AS j, :e AS e, :a AS a, :c AS c, :o AS o;

-- name: keep(t)!
-- @param t text = null
INSERT INTO fuzz_notes VALUES (:t);
"""
_TRANSACTIONS = [
    b'{"steps": [{"query": "everything", "arguments": {"i": 7}},'
    b' {"query": "keep", "arguments": {"t": {"$ref": "/0/row/t"}}}]}',
    b'{"steps": [{"query": "keep", "arguments": {"t": {"$literal": {"$ref": 1}}}}], "isolation": "serializable"}',
    b'{"steps": [{"query": "everything"}], "read_only": true}',
]
_PATHS = {
    b"/query/everything": BODIES,
    b"/query/keep": [b'{"t": "x"}', b'[{"t": "x"}, {"t": null}]', b"{}"],
    b"/transaction": _TRANSACTIONS,
}
_THREADS = 4
_PIPELINED = 20
_TRACE = re.compile(r"/\*action='[\w%]+',traceparent='00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]'\*/")
"""What a sampled trace adds to a statement, in the only form that it may have."""
_CONSTANTS = frozenset({"SCONST", "ICONST", "FCONST"})
_NOT_HERE = frozenset({501, 505})
"""What a head is answered with that asks for what HTTP has and this server has not."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


@contextmanager
def attacked(cluster: Cluster, folder: Path) -> Iterator[Gateway]:
    """A gateway of two workers; every one of them has to be alive at the end, and to have found no bug."""
    cluster.primary.sql(_TABLES, DATABASE)
    nowhere = {"endpoint": "http://127.0.0.1:1/v1/traces", "sample": 0.0}  # what names a trace is traced
    settings = {"server": {"workers": 2, "max_body": "64kB"}, "traces": nowhere}
    with serving_queries(_QUERIES, cluster, folder, settings, servers=(cluster.primary,)) as node:
        before = set(node.workers())
        yield node
        node.wait_until_ready()
        if set(node.workers()) != before:
            raise Finding(f"a worker has ended:\n{node.log}")
        if "bug of the gateway" in node.log or "Traceback" in node.log:
            raise Finding(node.log)


def send_bodies(node: Gateway, seed: int, count: int) -> Counter[str]:
    """Send so many bodies; returns how many were answered with what. Raises Finding."""
    codes = Description.load().codes

    def send(thread: int, count: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        made = {path: Mutator(f"{seed}/{thread}", examples, BODY_WORDS) for path, examples in _PATHS.items()}
        paths = itertools.cycle(_PATHS)
        with node.connect() as wire, wire.makefile("rb") as answers:
            for _ in range(0, count, _PIPELINED):
                sent = [(path, made[path].next()) for path in itertools.islice(paths, _PIPELINED)]
                wire.sendall(b"".join(_posted(path, body) for path, body in sent))
                for path, body in sent:
                    outcomes[_judged(_read(answers), f"{path!r} {body!r}", codes)] += 1
        return outcomes

    return _side_by_side(send, count)


def send_heads(node: Gateway, seed: int, count: int) -> Counter[str]:
    """Send so many heads, each over a new connection; returns how many were answered with what. Raises Finding."""

    def send(thread: int, count: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        mutator = Mutator(f"{seed}/{thread}", HEADS, HEAD_WORDS)
        for _ in range(count):
            data = mutator.next()
            with node.connect() as wire:
                try:
                    for piece in mutator.pieces(data)[:8]:
                        wire.sendall(piece)
                    wire.shutdown(socket.SHUT_WR)
                    answer = read_to_end(wire)
                except ConnectionError:
                    outcomes["closed"] += 1  # it had said why, and did not wait for all the rest
                    continue
            status = int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
            if (answer and not status) or (status >= 500 and status not in _NOT_HERE):
                raise Finding(f"{data!r} is answered with {answer[:2000]!r}")
            outcomes[str(status) if status else "closed"] += 1
        return outcomes

    return _side_by_side(send, count)


def send_examples(node: Gateway) -> None:
    """Send what the inputs are made of, unchanged."""
    with node.connect() as wire, wire.makefile("rb") as answers:
        for path, examples in _PATHS.items():
            for body in examples:
                wire.sendall(_posted(path, body))
                _read(answers)


def refuse_new_words(cluster: Cluster, known: set[str]) -> None:
    """Raise Finding, if the server was asked to run anything with words that are not among these."""
    if new := words_run(cluster) - known:
        raise Finding(f"the server was asked to run {sorted(new)[:50]}")


def words_run(cluster: Cluster) -> set[str]:
    """All that the server was asked to run until now, as words of SQL, without strings, and numbers such as pids."""
    found: set[str] = set()
    for file in (cluster.primary.data / LOGGED["log_directory"]).glob("*.json"):
        for line in file.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            message = json.loads(line).get("message", "")
            if message.startswith("statement: "):
                text = _TRACE.sub("", message.removeprefix("statement: "))
                found |= {token.text for token in tokens(text) if token.kind not in _CONSTANTS}
    return found


def _side_by_side(send: Callable[[int, int], Counter[str]], count: int) -> Counter[str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(send, range(_THREADS), [count // _THREADS] * _THREADS), Counter())


def _posted(path: bytes, body: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


def _read(answers: BinaryIO) -> Answer:
    line = answers.readline()
    length = 0
    while (header := answers.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return Answer(int(line[9:12] or b"0"), answers.read(length))


def _judged(answer: Answer, sent: str, codes: Collection[str]) -> str:
    if answer.status == 200:
        json.loads(answer.body)
        return "200"
    if not 400 <= answer.status < 500:
        raise Finding(f"{sent} is answered with {answer}")
    problem = json.loads(answer.body)
    if problem["code"] not in codes or problem["status"] != answer.status:
        raise Finding(f"{sent} is answered with {answer}")
    return f"{answer.status} {problem['code']}"
