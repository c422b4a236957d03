"""How often and how many at once: limits that hold over all workers of a node."""

import os
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving_queries, wait_until
from tests.live.workers import Wire

SELDOM = "".join(
    f"-- name: {name}$\n-- @rate 1/h burst=5\nSELECT 1;\n" for name in ("seldom", "seldom_asked_for", "seldom_killed")
)
QUERIES = f"""
{SELDOM}
-- name: often$
-- @rate 1000/s burst=1000
SELECT 1;

-- name: note_seldom(text)!
-- @rate 1/h burst=3
-- @param text text
INSERT INTO limited_notes VALUES (:text);

-- name: notes$
SELECT count(*) FROM limited_notes;

-- name: one_at_a_time(seconds)$
-- @concurrency 1
-- @timeout 1m
-- @param seconds float8 = 0
SELECT 1 FROM pg_sleep(:seconds);
"""
WORKERS = 2


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Each test has queries of its own, as rates begin anew with another name only."""
    cluster.primary.sql("CREATE TABLE limited_notes (text text); GRANT ALL ON limited_notes TO PUBLIC", shop.DATABASE)
    folder = tmp_path_factory.mktemp("limits")
    settings = {"server": {"workers": WORKERS}}
    with serving_queries(QUERIES, cluster, folder, settings, servers=(cluster.primary,)) as node:
        yield node
    cluster.primary.sql("DROP TABLE limited_notes", shop.DATABASE)


def quotas(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["RateLimit-Policy"], answer.headers["RateLimit"]


def test_a_caller_is_told_where_it_stands_and_when_to_come_again(node: Gateway) -> None:
    answers = [node.run("seldom") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert [int(quotas(answer)[1].split(";")[1].removeprefix("r=")) for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert quotas(answers[0]) == ('"seldom";q=5;w=18000', '"seldom";r=4;t=3600')
    problem = answers[-1].json()
    assert (problem["code"], problem["retryable"], problem["outcome"]) == ("rate_limited", True, None)
    assert 3500 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert "RateLimit" not in node.run("notes").headers


def test_what_counts_is_each_object_of_a_list_and_each_step(node: Gateway) -> None:
    arguments = [{"text": "a"}, {"text": "b"}]
    assert node.client.post("/query/note_seldom", json=arguments).status_code == 200
    step = {"query": "note_seldom", "arguments": {"text": "c"}}
    refused = node.client.post("/transaction", json={"steps": [step, step]})
    assert refused.status_code == 429
    assert node.client.post("/transaction", json={"steps": [step]}).status_code == 200
    too_many = node.client.post("/query/note_seldom", json=arguments * 2)
    assert (too_many.status_code, too_many.json()["retryable"]) == (429, False)
    assert "Retry-After" not in too_many.headers
    assert node.value("notes") == 3


def test_a_get_counts_as_a_post_does(node: Gateway) -> None:
    assert [node.client.get("/query/seldom_asked_for").status_code for _ in range(6)] == [200] * 5 + [429]


def wires_to_all(node: Gateway) -> list[socket.socket]:
    """Six connections, some of them to each worker."""
    for _ in range(50):
        wires = [Wire(node.connect()) for _ in range(6)]
        if len({wire.get("/health/live").headers["x-request-id"].partition("-")[0] for wire in wires}) == WORKERS:
            return [wire.sock for wire in wires]
        for wire in wires:
            wire.sock.close()
    raise AssertionError("one worker takes all connections")


def test_a_rate_holds_over_workers_at_two_thousand_requests_a_second(node: Gateway) -> None:
    """Asked for more than twice as often as is allowed; the burst is there for a second in which nobody gets to ask."""
    seconds = 4.0
    counts: Counter[int] = Counter()
    wires = wires_to_all(node)
    began = time.monotonic()

    def ask(wire: socket.socket) -> None:
        request = b"GET /query/often HTTP/1.1\r\nHost: h\r\n\r\n" * 10
        with wire, wire.makefile("rb") as answers:
            while time.monotonic() < began + seconds:
                wire.sendall(request)
                for _ in range(10):
                    counts[int(answers.readline().split()[1])] += 1
                    length = 0
                    while (line := answers.readline()) != b"\r\n":
                        if match := re.fullmatch(rb"(?i)content-length: (\d+)\r\n", line):
                            length = int(match[1])
                    answers.read(length)

    threads = [threading.Thread(target=ask, args=(wire,)) for wire in wires]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    assert set(counts) <= {200, 429}
    if counts.total() > 2000 * took:  # else the machine was too busy to ask so often
        assert counts[200] == pytest.approx(1000 * took + 1000, rel=0.05)
    assert counts[200] <= (1000 * took + 1000) * 1.05


def test_a_killed_worker_neither_frees_nor_blocks_a_rate(node: Gateway) -> None:
    assert node.run("seldom_killed").status_code == 200
    before = node.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(node.workers()) - set(before)) == WORKERS, "other workers are there")
    node.wait_until_ready()
    assert [node.run("seldom_killed").status_code for _ in range(5)] == [200] * 4 + [429]


def test_no_more_run_at_once_than_may_and_a_killed_worker_frees_its_room(node: Gateway) -> None:
    answers: list[int] = []

    def run_long() -> None:
        with node.new_client() as client:
            try:
                while client.post("/query/one_at_a_time", json={"seconds": 50}).status_code == 429:
                    pass  # another one of this test was running
                answers.append(1)
            except httpx.TransportError:
                answers.append(0)

    thread = threading.Thread(target=run_long)
    thread.start()
    wait_until(lambda: node.run("one_at_a_time").status_code == 429, "one is running")
    refused = node.run("one_at_a_time")
    assert (refused.json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "1")
    assert "RateLimit" not in refused.headers
    for pid in node.workers():
        os.kill(pid, signal.SIGKILL)
    thread.join()
    assert answers == [0]
    node.wait_until_ready()
    assert node.run("one_at_a_time").status_code == 200
