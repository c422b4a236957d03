"""Clients that leave, and deadlines, under the gateway's own worker."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from tests.live.databases import plain
from tests.live.workers import Node, Wire, busy_backends, post, serving, wait_until

POOL = 20


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings: dict[str, dict[str, Any]] = {
        "server": {"head_timeout": "1s", "body_timeout": "1s", "timeout": "1s"},
        "groups.read": {"access": "read", "size": POOL, "queue": 300},
        "groups.write": {"access": "write", "size": 2},
    }
    with serving(cluster, tmp_path_factory.mktemp("clients"), settings) as node:
        yield node


# -- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_hangs_up_ends_its_read(node: Node, cluster: Cluster, how: str) -> None:
    wires = [node.wire() for _ in range(POOL)]
    for wire in wires:
        wire.send(post("wait", seconds=20, mark=f"left-{how}"))
    wait_until(lambda: busy_backends(cluster, f"left-{how}") == POOL, "all connections read")
    for wire in wires:
        wire.reset() if how == "reset" else wire.sock.close()
    took = wait_until(lambda: busy_backends(cluster, f"left-{how}") == 0, "no read runs")
    assert took < 5
    wait_until(lambda: node.group()["leased"] == 0, "the connections are back")


def test_a_write_runs_to_its_end_though_nobody_waits(node: Node, cluster: Cluster) -> None:
    wire = node.wire().send(post("note_slowly", note="left alone", seconds=0.5))
    wait_until(lambda: busy_backends(cluster, "left alone"), "the write runs")
    wire.reset()
    wait_until(
        lambda: cluster.primary.sql("SELECT note FROM worker_notes WHERE note = 'left alone'"), "it is written", 10
    )


def test_who_hangs_up_in_the_queue_costs_no_connection(node: Node, cluster: Cluster) -> None:
    busy = [node.wire().send(post("wait", seconds=0.6)) for _ in range(POOL)]
    wait_until(lambda: node.group()["leased"] == POOL, "no connection is free")
    waiting = [node.wire().send(post("wait", seconds=20, mark="queued")) for _ in range(40)]
    wait_until(lambda: node.group()["waiting"] == 40, "forty wait")
    for wire in waiting:
        wire.reset()
    for wire in busy:
        assert wire.answer().status == 200
        wire.sock.close()
    wait_until(lambda: node.group()["waiting"] == 0, "nobody waits", 10)
    assert busy_backends(cluster, "queued") == 0
    assert node.run("one").status == 200


def test_two_hundred_that_hang_up_end_two_hundred_reads(node: Node, cluster: Cluster) -> None:
    slowest = 0.0
    for batch in range(200 // POOL):
        mark = f"batch-{batch}-"
        wires = [node.wire().send(post("wait", seconds=20, mark=mark)) for _ in range(POOL)]
        wait_until(lambda: node.group()["leased"] == POOL, "all connections read")
        began = time.monotonic()
        for number, wire in enumerate(wires):
            wire.reset() if number % 2 else wire.sock.close()
        wait_until(lambda: node.group()["leased"] == 0, "given up", 10)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    wait_until(lambda: busy_backends(cluster, "batch-") == 0, "no backend is left", 10)


# -- deadlines -------------------------------------------------------------------------------------------------------


def timed(wire: Wire) -> tuple[int, str, float]:
    began = time.monotonic()
    answer = wire.answer()
    return answer.status, answer.json()["code"], time.monotonic() - began


def test_a_slow_query_is_answered_at_its_deadline(node: Node) -> None:
    with node.wire() as wire:
        wire.send(post("hurry", seconds=9))
        status, code, took = timed(wire)
        assert (status, code) == (504, "deadline_exceeded")
        assert took < 2


def test_an_answer_that_is_taken_too_slowly_is_given_up_at_the_deadline(node: Node) -> None:
    with node.wire() as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        began = time.monotonic()
        wire.send(post("big", bytes=8_000_000))
        took = got = 0.0
        while not took and time.monotonic() < began + 5:  # at 2 MB/s: far more than the least rate
            got += len(wire.sock.recv(50_000))
            time.sleep(0.025)
            if "did not take its answer in time" in node.log:
                took = time.monotonic() - began
        assert 1.0 <= took < 3
        while piece := wire.sock.recv(1 << 20):
            got += len(piece)
    assert 0 < got < 8_000_000
    with node.wire() as wire:
        wire.send(post("big", bytes=8_000_000))
        assert len(wire.answer().body) > 8_000_000


def test_a_full_pool_is_answered_at_the_deadline(node: Node) -> None:
    busy = [node.wire().send(post("wait", seconds=1.2)) for _ in range(POOL)]
    wait_until(lambda: node.group()["leased"] == POOL, "no connection is free")
    with node.wire() as wire:
        wire.send(post("hurry", seconds=0))
        status, code, took = timed(wire)
        assert (status, code) == (503, "pool_timeout")
        assert took < 2
    for one in busy:
        assert one.answer().status == 200
        one.sock.close()


def test_a_frozen_server_is_answered_for_at_the_deadline(tmp_path: Path) -> None:
    with Cluster(replicas=0) as frozen, serving(frozen, tmp_path, {"server": {"timeout": "1s"}}) as node:
        wires = [node.wire() for _ in range(10)]
        for wire in wires:
            wire.get("/query/one")
        frozen.primary.freeze()
        try:
            for wire in wires:
                wire.send(post("hurry", seconds=0))
            for wire in wires:
                status, _, took = timed(wire)
                assert status in (503, 504)
                assert took < 2
            assert node.get("/health/live").status == 200
        finally:
            frozen.primary.thaw()
        wait_until(lambda: node.run("one").status == 200, "it serves again")
        for wire in wires:
            wire.sock.close()


def test_waiting_requests_are_served_in_their_order(node: Node, cluster: Cluster) -> None:
    waiting = []
    with plain(cluster.primary.dsn()) as cursor:
        cursor.execute(f"SELECT pg_advisory_lock(key) FROM generate_series(1, {POOL}) key")
        busy = [node.wire().send(post("wait_for_lock", key=1 + number)) for number in range(POOL)]
        wait_until(lambda: node.group()["leased"] == POOL, "no connection is free")
        for number in range(30):
            waiting.append(node.wire().send(post("moment")))
            wait_until(lambda expected=number + 1: node.group()["waiting"] == expected, "it waits")  # type: ignore[misc]
        cursor.execute("SELECT pg_advisory_unlock(1)")  # one connection comes free, and serves them one by one
        moments = [wire.answer().json()["value"] for wire in waiting]
    assert moments == sorted(moments)
    for wire in [*busy, *waiting]:
        wire.sock.close()


def test_a_socket_is_told_apart_from_its_number(node: Node, cluster: Cluster) -> None:
    """Clients and servers leave at once, so that the kernel gives the numbers of their sockets to others."""
    for _ in range(5):
        wires = [node.wire().send(post("wait", "Prefer: wait=1.5", seconds=20, mark="numbers")) for _ in range(POOL)]
        wait_until(lambda: busy_backends(cluster, "numbers") == POOL, "all connections read")
        cluster.primary.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE '%numbers%' AND pid <> pg_backend_pid()"
        )
        for wire in wires[:2]:
            wire.reset()
        fresh = [node.wire() for _ in range(8)]
        for number, wire in enumerate(fresh):
            assert wire.run("echo", value=str(number)).json() == {"value": str(number)}
        for wire in wires[2:]:
            assert wire.answer().status in (503, 504)  # they are run again, until their deadline
        for wire in [*wires, *fresh]:
            wire.sock.close()
