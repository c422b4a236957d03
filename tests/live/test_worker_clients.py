"""Slow, hostile and leaving clients hold nothing but a socket; streams go as fast as they are taken."""

import contextlib
import os
import resource
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from tests.live import strange
from tests.live.databases import plain
from tests.live.workers import Node, Wire, busy_backends, get, post, serving, wait_until

POOL = 20
TIMES: dict[str, Any] = {"head_timeout": 1.0, "body_timeout": 1.0, "idle_timeout": 60.0}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node without PostgreSQL."""
    with strange.serving(tmp_path_factory.mktemp("odd"), **TIMES) as node:
        yield node


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    settings: dict[str, dict[str, Any]] = {
        "server": {"head_timeout": "1s", "body_timeout": "1s", "timeout": "1s"},
        "groups.read": {"access": "read", "size": POOL, "queue": 300},
        "groups.write": {"access": "write", "size": 2},
    }
    with serving(cluster, tmp_path_factory.mktemp("clients"), settings) as node:
        yield node


def memory(node: Node) -> int:
    """Bytes that are the worker's own."""
    (pid,) = node.workers()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def descriptors(node: Node) -> int:
    """Of all workers."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in node.workers())  # noqa: PTH208 - names are enough


def latency(node: Node, count: int = 200) -> float:
    """Median seconds of a small request."""
    with node.wire() as wire:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            assert wire.get("/small").status == 200
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)


# -- streams ---------------------------------------------------------------------------------------------------------


def test_an_answer_without_a_length_is_streamed_in_chunks(odd: Node) -> None:
    with odd.wire() as wire:
        answer = wire.get("/stream?count=500&size=20000")
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == b"x" * 10_000_000
        assert wire.get("/small").status == 200


def test_to_http_1_0_a_stream_ends_with_the_connection(odd: Node) -> None:
    with odd.wire() as wire:
        head, _, body = wire.send(b"GET /stream?count=10&size=1000 HTTP/1.0\r\n\r\n").rest().partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"x" * 10_000


def test_a_stream_that_breaks_off_does_not_look_whole(odd: Node) -> None:
    with odd.wire() as wire:
        told = wire.send(get("/stream?count=3&size=10&fail=1")).rest()
        assert told.endswith(b"a\r\n" + b"x" * 10 + b"\r\n")


def test_a_stream_waits_for_its_reader_and_is_closed_when_that_leaves(odd: Node) -> None:
    before = int(odd.get("/closed").body)
    used = memory(odd)
    with odd.wire() as wire:
        wire.send(get("/stream?count=100000&size=100000"))
        wire.sock.recv(1000)
        assert latency(odd) < 0.05
        assert memory(odd) - used < 8_000_000
        wire.reset()
    wait_until(lambda: int(odd.get("/closed").body) == before + 1, "the stream is closed")


def test_a_stream_that_nobody_takes_is_closed_in_time(odd: Node) -> None:
    before = int(odd.get("/closed").body)
    with odd.wire() as wire:
        wire.send(get("/stream?count=100000&size=100000"))
        took = wait_until(lambda: int(odd.get("/closed").body) == before + 1, "the stream is closed", 5)
        assert took > 0.5


# -- bugs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/raise", "/exit", "/header"])
def test_a_bug_costs_its_own_request_only(odd: Node, path: str) -> None:
    with odd.wire() as other:
        assert other.get("/small").status == 200
        answer = odd.get(path)
        assert (answer.status, answer.json()["code"]) == (500, "internal_error")
        assert b"Injected" not in answer.body
        assert other.get("/small").status == 200


# -- slow and hostile clients ----------------------------------------------------------------------------------------


def test_clients_that_dribble_or_stop_half_way_do_not_slow_others(odd: Node) -> None:
    wires = [odd.wire() for _ in range(600)]
    for number, wire in enumerate(wires):
        wire.send(b"G" if number % 2 else b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{")
    stop = Event()

    def dribble() -> None:
        while not stop.wait(0.05):
            for wire in wires[::7]:
                with contextlib.suppress(OSError):
                    wire.sock.send(b"E")

    dribbling = Thread(target=dribble)
    dribbling.start()
    try:
        assert latency(odd) < 0.05
        for wire in wires[:20]:
            assert b"408 Request Timeout" in wire.rest() or wire.is_closed(5)
    finally:
        stop.set()
        dribbling.join()
        for wire in wires:
            wire.sock.close()


def test_a_reader_who_stops_costs_its_answer_and_is_closed_in_time(odd: Node) -> None:
    used, before = memory(odd), descriptors(odd)
    size = 4_000_000
    wires = [odd.wire() for _ in range(10)]
    for wire in wires:
        wire.send(get(f"/big?size={size}"))
    assert latency(odd) < 0.05
    assert memory(odd) - used < 10 * size * 1.3 + 8_000_000
    wait_until(lambda: descriptors(odd) <= before, "all of them are closed", 6)
    wait_until(lambda: memory(odd) - used < 2 * size, "their answers are forgotten", 5)
    for wire in wires:
        wire.sock.close()


def test_a_slow_reader_that_reads_gets_its_answer(odd: Node) -> None:
    with odd.wire() as wire:
        wire.send(get("/big?size=6000000"))
        got, ends = 0, time.monotonic() + 2.5
        while time.monotonic() < ends:  # longer than body_timeout, and faster than the least rate
            got += len(wire.sock.recv(50_000))
            time.sleep(0.05)
        rest = b"x"
        while got < 6_000_000 and rest:
            rest = wire.sock.recv(1 << 20)
            got += len(rest)
        assert got > 6_000_000


def test_who_pipelines_without_reading_is_held_back(odd: Node) -> None:
    used = memory(odd)
    wire = odd.wire()
    wire.sock.settimeout(0.5)
    with contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(3000):
            wire.send(post("x", value="y" * 20_000))
    assert latency(odd) < 0.05
    assert memory(odd) - used < 8_000_000
    wire.sock.close()


def test_clients_that_never_close_after_the_last_answer_are_closed(odd: Node) -> None:
    before = descriptors(odd)
    wires = [odd.wire() for _ in range(100)]
    for wire in wires:
        assert wire.get("/small", "Connection: close").status == 200
        assert wire.sock.recv(1) == b""
    wait_until(lambda: descriptors(odd) <= before, "they are let go", 6)
    for wire in wires:
        wire.sock.close()


def test_an_answer_arrives_though_the_client_goes_on_sending(odd: Node) -> None:
    with odd.wire() as wire:
        wire.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                wire.send(b"x" * 10_000)
        assert wire.answer().status == 413


def test_ten_thousand_idle_connections_cost_less_than_four_kilobytes_each(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with strange.serving(tmp_path, **TIMES) as node:
        latency(node)
        used = memory(node)
        wires = []
        for _ in range(count):
            wires.append(node.wire())
            assert wires[-1].get("/small").status == 200
        cost = (memory(node) - used) / count
        print(f"an idle connection costs {cost:.0f} bytes")
        assert cost < 4096
        assert latency(node) < 0.05
        for wire in wires:
            wire.sock.close()
        wait_until(lambda: descriptors(node) < 100, "all are forgotten")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_connections_wait_while_descriptors_are_used_up(tmp_path: Path) -> None:
    with strange.serving(tmp_path, **TIMES) as node:
        (pid,) = node.workers()
        _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors(node) + 5, hard))
        wires = [node.wire() for _ in range(30)]
        wait_until(lambda: "cannot accept connections" in node.log, "it says so")
        served = [wire for wire in wires if _is_served(wire)]
        assert 3 <= len(served) < 30
        for wire in served:
            wire.sock.close()
        wait_until(lambda: _is_served(wires[-1]) or any(map(_is_served, wires[len(served) :])), "the next are served")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        for wire in wires:
            wire.sock.close()
        assert node.get("/small").status == 200


def _is_served(wire: Wire) -> bool:
    if wire.sock.fileno() < 0:
        return False
    wire.sock.settimeout(0.1)
    try:
        return wire.get("/small").status == 200
    except (OSError, EOFError):
        return False


# -- clients that leave ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_who_hangs_up_ends_its_read(node: Node, cluster: Cluster, how: str) -> None:
    wires = [node.wire() for _ in range(POOL)]
    for wire in wires:
        wire.send(post("wait", seconds=20, mark=f"left-{how}"))
    wait_until(lambda: busy_backends(cluster, f"left-{how}") == POOL, "all connections read")
    for wire in wires:
        wire.reset() if how == "reset" else wire.sock.close()
    took = wait_until(lambda: busy_backends(cluster, f"left-{how}") == 0, "no read runs", 2)
    assert took < 1.2
    wait_until(lambda: node.group()["leased"] == 0, "the connections are back")


def test_a_write_runs_to_its_end_though_nobody_waits(node: Node, cluster: Cluster) -> None:
    wire = node.wire().send(post("note_slowly", note="left alone", seconds=0.5))
    wait_until(lambda: busy_backends(cluster, "left alone"), "the write runs")
    wire.reset()
    wait_until(
        lambda: cluster.primary.sql("SELECT note FROM worker_notes WHERE note = 'left alone'"), "it is written", 3
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
    wait_until(lambda: node.group()["waiting"] == 0, "nobody waits", 1)
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
        wait_until(lambda: node.group()["leased"] == 0, "given up", 2)
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 1.0
    wait_until(lambda: busy_backends(cluster, "batch-") == 0, "no backend is left", 1.5)


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


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Node]:
    """Two workers, without PostgreSQL."""
    with strange.serving(tmp_path, workers=2) as node:
        wait_until(lambda: len(node.workers()) == 2, "both workers are there")
        yield node


def burst(node: Node) -> list[int]:
    """How many of 40 clients that come at once each worker has; both have seen them leave."""
    with contextlib.ExitStack() as clients:
        wires = [clients.enter_context(node.wire()) for _ in range(40)]
        pids = [int(wire.get("/worker").body) for wire in wires]
        most = descriptors(node)
    wait_until(lambda: descriptors(node) <= most - 36, "they are gone")
    return [pids.count(pid) for pid in node.workers()]


def test_a_burst_of_clients_is_spread_evenly_over_the_workers(pair: Node) -> None:
    wait_until(lambda: all(burst(pair)), "both workers accept")
    bursts = [burst(pair) for _ in range(5)]
    assert all(min(taken) >= 12 for taken in bursts), bursts


def test_a_worker_that_is_stuck_with_few_clients_keeps_nobody_waiting(pair: Node) -> None:
    stuck, _ = pair.workers()
    os.kill(stuck, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as clients:
            for _ in range(20):
                began = time.monotonic()
                assert clients.enter_context(pair.wire()).get("/small").status == 200
                assert time.monotonic() - began < 1
    finally:
        os.kill(stuck, signal.SIGCONT)
