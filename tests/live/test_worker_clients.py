"""Slow and hostile clients hold nothing but a socket; streams go as fast as they are taken."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.live import strange
from tests.live.usage import descriptors, latency, memory
from tests.live.workers import Node, Wire, get, post, wait_until

TIMES: dict[str, Any] = {"head_timeout": 1.0, "body_timeout": 1.0, "idle_timeout": 60.0}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node without PostgreSQL."""
    with strange.serving(tmp_path_factory.mktemp("odd"), **TIMES) as node:
        yield node


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
        assert latency(odd) < 0.25
        assert memory(odd) - used < 8_000_000
        wire.reset()
    wait_until(lambda: int(odd.get("/closed").body) == before + 1, "the stream is closed")


def test_a_stream_that_nobody_takes_is_closed_in_time(odd: Node) -> None:
    before = int(odd.get("/closed").body)
    with odd.wire() as wire:
        wire.send(get("/stream?count=100000&size=100000"))
        took = wait_until(lambda: int(odd.get("/closed").body) == before + 1, "the stream is closed")
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
        assert latency(odd) < 0.25
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
    assert latency(odd) < 0.25
    assert memory(odd) - used < 10 * size * 1.3 + 8_000_000
    wait_until(lambda: descriptors(odd) <= before, "all of them are closed")
    wait_until(lambda: memory(odd) - used < 2 * size, "their answers are forgotten")
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
    assert latency(odd) < 0.25
    assert memory(odd) - used < 8_000_000
    wire.sock.close()


def test_clients_that_never_close_after_the_last_answer_are_closed(odd: Node) -> None:
    before = descriptors(odd)
    wires = [odd.wire() for _ in range(100)]
    for wire in wires:
        assert wire.get("/small", "Connection: close").status == 200
        assert wire.sock.recv(1) == b""
    wait_until(lambda: descriptors(odd) <= before, "they are let go")
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
        assert latency(node) < 0.25
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
