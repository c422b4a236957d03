"""Many clients, or none that is served for a while: nobody is forgotten, and memory has a limit."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.live import strange
from tests.live.workers import PATIENCE, Node, Wire, environment, get, wait_until

PIPELINING = 250


@contextmanager
def pipelining(node: Node, count: int) -> Iterator[None]:
    """So many clients that send more and more requests without waiting for answers."""
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-m", "tests.live.pipelining", node.address, str(count)],
        env=environment(),
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"going\n"
        try:
            yield
        finally:
            program.kill()


def test_a_newcomer_does_not_wait_for_clients_that_never_stop_asking(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node, pipelining(node, PIPELINING):
        took = []
        for _ in range(10):
            began = time.monotonic()
            assert node.get("/health/live").status == 200
            took.append(time.monotonic() - began)
        assert median(took) < 1, took  # single ones are as long as a busy machine keeps the worker from its processor


def test_what_arrives_while_the_process_stands_still_is_answered_when_it_goes_on(tmp_path: Path) -> None:
    times: dict[str, Any] = {"head_timeout": 1.0, "body_timeout": 1.0, "idle_timeout": 1.0}
    with strange.serving(tmp_path, **times) as node:
        new, begun, idle = node.wire(), node.wire(), node.wire()
        begun.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab")
        assert idle.get("/small").status == 200
        wait_until(lambda: len(connections(node)) >= 3, "all are accepted")
        processes = [node.program.pid, *node.workers()]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            new.send(get("/small"))
            idle.send(get("/small"))
            begun.send(b"cd")
            waiting = [node.wire().send(get("/small")) for _ in range(20)]  # in the backlog
            time.sleep(2)  # what is tested is that this long standstill does no harm
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        for wire in (new, begun, idle, *waiting):
            assert wire.answer().status == 200
            wire.sock.close()


def connections(node: Node) -> list[int]:
    """How many bytes have arrived that its worker has not read yet, for each client it has accepted."""
    (pid,) = node.workers()
    port = f"{int(node.address.rpartition(':')[2]):04X}"
    own = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}  # noqa: PTH115
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        int(row[4].partition(":")[2], 16)
        for row in rows
        if row[1].endswith(f":{port}") and row[3] == "01" and f"socket:[{row[9]}]" in own
    ]


def begin_body(node: Node, size: int, path: str = "/") -> Wire:
    """A request whose body is announced, and lacks its last byte."""
    wire = node.wire()
    head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n"
    return wire.send(head.encode() + b"x" * (size - 1))


def is_refused(wire: Wire) -> bool:
    """Whether the request is refused for want of room; else it is completed, and answered. Ends the connection."""
    with wire:
        wire.sock.settimeout(0.3)
        try:
            answer = wire.answer()
        except TimeoutError:
            wire.sock.settimeout(PATIENCE)
            assert wire.send(b"x").answer().status == 200
            return False
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
    assert answer.json()["retryable"]
    return True


@pytest.mark.parametrize("workers", [1, 2])
def test_bodies_in_progress_have_a_limit_that_is_the_nodes(tmp_path: Path, workers: int) -> None:
    with strange.serving(tmp_path, body_budget=1 << 20, workers=workers) as node:
        wires = [begin_body(node, 100_000) for _ in range(30)]
        refused = [is_refused(wire) for wire in wires]
        assert 15 <= refused.count(True) <= 25
        assert not is_refused(begin_body(node, 100_000))


def test_small_requests_are_served_however_much_others_hold(tmp_path: Path) -> None:
    with strange.serving(tmp_path, body_budget=200_000) as node:
        held = [begin_body(node, 90_000), begin_body(node, 90_000), begin_body(node, 15_000)]
        wait_until(lambda: connections(node) == [0, 0, 0], "all have been read")
        assert is_refused(begin_body(node, 90_000))
        assert not is_refused(begin_body(node, 10_000))
        assert node.get("/small").status == 200
        assert [is_refused(wire) for wire in held] == [False, False, False]
        assert not is_refused(begin_body(node, 90_000))


def test_a_body_counts_until_its_request_is_answered_or_its_client_is_gone(tmp_path: Path) -> None:
    with strange.serving(tmp_path, body_budget=200_000) as node:
        with begin_body(node, 150_000, "/sleep?seconds=1").send(b"x") as slow:
            wait_until(lambda: connections(node) == [0], "it has been read")
            assert is_refused(begin_body(node, 150_000))
            assert slow.answer().body == b"slept"
        gone = begin_body(node, 150_000)
        wait_until(lambda: connections(node) == [0], "it has been read")
        assert is_refused(begin_body(node, 150_000))
        gone.reset()
        wait_until(lambda: not is_refused(begin_body(node, 150_000)), "there is room again")
