"""Workers are told to end, replaced, killed, blocked: nobody's request is lost that need not be."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from gateway.server.options import GRACE
from tests.live import strange
from tests.live.workers import (
    Node,
    Wire,
    busy_backends,
    configure,
    environment,
    get,
    post,
    serving,
    wait_until,
)

ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # as systemd passes it on
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""
TWO: dict[str, dict[str, Any]] = {"server": {"workers": 2}, "groups.read": {"size": 8}, "groups.write": {"size": 4}}


class Load:
    """Clients that ask again and again until told to stop, and what became of every request.

    A connection that ends between two answers is opened anew, as a client's library does. A request counts as lost
    when it was sent over a connection that had been accepted and no answer came.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = Event()
        self._lock = Lock()
        self.seen: Counter[str] = Counter()
        self._threads = [
            *(Thread(target=self._run, args=(self._keep_alive,)) for _ in range(6)),
            *(Thread(target=self._run, args=(self._anew,)) for _ in range(2)),
        ]

    def _run(self, work: Callable[[], Iterator[str]]) -> None:
        while not self._stop.is_set():
            for what in work():
                with self._lock:
                    self.seen[what] += 1

    def _anew(self) -> Iterator[str]:
        """A connection for each request; refused is refused, not lost."""
        try:
            wire = self._node.wire()
        except ConnectionRefusedError:
            yield "not accepted"
            self._stop.wait(0.01)
            return
        with wire:
            yield self._ask(wire)

    def _keep_alive(self) -> Iterator[str]:
        try:
            wire = self._node.wire()
        except ConnectionRefusedError:
            yield "not accepted"
            self._stop.wait(0.01)
            return
        with wire:
            while not self._stop.is_set():
                try:
                    wire.send(post("wait", seconds=0.005))
                except ConnectionError:
                    return  # it had ended before
                try:
                    answer = wire.answer()
                except (EOFError, ConnectionError):
                    yield "lost"
                    return
                yield str(answer.status)
                if answer.headers.get("connection") == "close":
                    return

    def _ask(self, wire: Wire) -> str:
        try:
            return str(wire.get("/query/one").status)
        except (EOFError, ConnectionError):
            return "lost"

    @contextmanager
    def running(self) -> Iterator["Load"]:
        """Under way, and warm."""
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: self.seen["200"] > 100, "the load is on")
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()


def test_sigterm_loses_nothing_of_what_was_accepted_or_waits_to_be(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, TWO) as node, Load(node).running() as load:
        slow = [node.wire().send(post("wait", seconds=1.0)) for _ in range(4)]
        time.sleep(0.2)
        node.signal(signal.SIGTERM)
        for wire in slow:
            assert wire.answer().status == 200
            wire.sock.close()
        assert node.program.wait(10) == 0
    assert set(load.seen) <= {"200", "not accepted"}, load.seen


def test_what_waits_in_the_backlog_is_answered_before_the_end(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node:
        (pid,) = node.workers()
        blocked = node.wire().send(get("/block?seconds=0.6"))
        time.sleep(0.2)
        waiting = [node.wire().send(get("/small")) for _ in range(50)]  # nobody can accept them now
        os.kill(pid, signal.SIGTERM)
        for wire in [blocked, *waiting]:
            assert wire.answer().status == 200
            wire.sock.close()


def test_a_draining_worker_says_so_and_answers_idle_connections_once_more(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node:
        idle, asking, slow = node.wire(), node.wire(), node.wire()
        assert "connection" not in asking.get("/health/ready").headers
        assert idle.get("/small").status == 200
        slow.send(get("/sleep?seconds=2"))
        time.sleep(0.1)
        node.signal(signal.SIGTERM)
        time.sleep(0.2)
        answer = asking.get("/health/ready")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert idle.is_closed(within=2)
        assert slow.answer().body == b"slept"
        for wire in (idle, asking, slow):
            wire.sock.close()
        assert node.program.wait(5) == 0


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_worker_that_ends_closes_its_application(tmp_path: Path, worker: str) -> None:
    with strange.serving(tmp_path, worker=worker, workers=2) as node:
        workers: set[str] = set()

        def both_serve() -> bool:
            workers.add(node.get("/worker").body.decode())
            return len(workers) == 2

        wait_until(both_serve, "both workers serve")
        assert node.end() == 0
        assert all(f"{pid} was closed" in node.log for pid in workers), node.log
        assert sum("was closed" in line for line in node.log.splitlines()) == 2


def test_what_still_waits_when_the_time_to_drain_is_over_is_answered_and_not_cut(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node, node.wire() as waiting, node.wire() as slow:
        waiting.send(get("/until-the-end"))
        slow.send(get("/sleep?seconds=20"))
        wait_until(lambda: node.get("/small").status == 200, "they have been read")
        node.signal(signal.SIGTERM)
        answer = waiting.answer()
        assert (answer.status, answer.body, answer.headers["connection"]) == (503, b"ended", "close")
        assert slow.is_closed(within=5)


def test_readiness_is_denied_while_draining(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path) as node, node.wire() as asking, node.wire() as slow:
        assert asking.get("/health/ready").status == 200
        slow.send(post("wait", seconds=1))
        time.sleep(0.1)
        node.signal(signal.SIGTERM)
        time.sleep(0.2)
        assert asking.get("/health/ready").status == 503
        assert slow.answer().status == 200


def test_sighup_under_load_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, TWO) as node, Load(node).running() as load:
        for _ in range(3):
            before = set(node.workers())
            node.signal(signal.SIGHUP)
            wait_until(lambda before=before: before.isdisjoint(now := node.workers()) and len(now) == 2, "new ones")  # type: ignore[misc]
            node.wait_until_ready(2)
        count = load.seen["200"]
        wait_until(lambda: load.seen["200"] > count + 50, "they serve")
    assert set(load.seen) == {"200"}, load.seen


def test_sigquit_ends_at_once(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, TWO) as node, node.wire() as wire:
        wire.send(post("wait", seconds=20, mark="quit"))
        wait_until(lambda: busy_backends(cluster, "quit"), "it runs")
        began = time.monotonic()
        node.signal(signal.SIGQUIT)
        node.program.wait(10)
        assert time.monotonic() - began < 5
        assert wire.is_closed(within=5)
    wait_until(lambda: busy_backends(cluster, "quit") == 0, "no backend is left", 10)


def test_a_killed_worker_is_replaced_and_its_backends_end(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path) as node, node.wire() as wire:
        (pid,) = node.workers()
        wire.send(post("wait", seconds=20, mark="killed"))
        wait_until(lambda: busy_backends(cluster, "killed"), "it runs")
        os.kill(pid, signal.SIGKILL)
        assert wire.is_closed(within=5)
        assert wait_until(lambda: busy_backends(cluster, "killed") == 0, "no backend is left") < 5
        wait_until(lambda: node.workers() not in ([], [pid]), "another one")
        wait_until(node.is_ready, "it serves")


def test_slow_queries_do_not_silence_the_heartbeat(cluster: Cluster, tmp_path: Path) -> None:
    """The heartbeat is of the loop, and the loop turns: a worker with its only query running is no dead worker."""
    with serving(cluster, tmp_path) as node, node.wire() as wire:
        (pid,) = node.workers()
        beat = next(
            link for link in Path(f"/proc/{pid}/fd").iterdir() if "wgunicorn" in os.readlink(link)  # noqa: PTH115
        )  # fmt: skip
        wire.send(post("wait", seconds=2.5))
        beats = set()
        ends = time.monotonic() + 2.3
        while time.monotonic() < ends:
            beats.add(beat.stat().st_mtime)
            time.sleep(0.05)
        assert len(beats) >= 2
        assert wire.answer().status == 200
        assert "did not turn" not in node.log


def test_what_holds_the_loop_is_told_with_its_place(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node:
        assert node.get("/block?seconds=0.4").status == 200
        wait_until(lambda: "the event loop did not turn for" in node.log, "it is told")
        assert "strange.py" in node.log.partition("did not turn")[2]
        assert node.get("/sleep?seconds=0.4").status == 200
        assert node.log.count("did not turn") == 1


def test_sockets_of_systemd_are_served(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", find_port())) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        command = configure(cluster, tmp_path, f"127.0.0.1:{find_port()}")
        log = tmp_path / "gateway.log"
        with log.open("ab") as output:
            program = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-c", ACTIVATE, str(listener.fileno()), *command],
                pass_fds=[listener.fileno()],
                env=environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Node(program, address=address, log=log, context=None)
        try:
            node.wait_until_ready(1)
            assert node.run("echo", value="a").json() == {"value": "a"}
            assert node.end() == 0
            waiting = node.wire().send(get("/query/one"))  # the socket is systemd's, and outlives us
            waiting.sock.close()
        finally:
            node.close()


def test_gateways_that_follow_each_other_on_a_socket_of_systemds_lose_nothing(cluster: Cluster, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", find_port()), backlog=512) as listener, contextlib.ExitStack() as stack:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def start(name: str) -> Node:
            folder = tmp_path / name
            folder.mkdir()
            log = folder / "gateway.log"
            with log.open("ab") as output:
                program = subprocess.Popen(  # noqa: S603 - our own words
                    [sys.executable, "-c", ACTIVATE, str(listener.fileno()), *configure(cluster, folder, address)],
                    pass_fds=[listener.fileno()],
                    env=environment(),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            node = stack.enter_context(contextlib.closing(Node(program, address=address, log=log, context=None)))
            wait_until(lambda: "in the rotation" in node.log, "it looks at its servers")
            return node

        old = start("old")
        old.wait_until_ready(1)
        with Load(old).running() as load:
            start("new")
            count = load.seen["200"]
            wait_until(lambda: load.seen["200"] > count + 100, "both serve")
            assert old.end() == 0
            count = load.seen["200"]
            wait_until(lambda: load.seen["200"] > count + 200, "the new one serves")
        assert set(load.seen) == {"200"}, load.seen


def test_gateways_that_share_a_port_replace_each_other(cluster: Cluster, tmp_path: Path) -> None:
    address = f"127.0.0.1:{find_port()}"
    with (
        serving(cluster, tmp_path / "old", address=address, options=["--reuse-port"]) as old,
        serving(cluster, tmp_path / "new", address=address, options=["--reuse-port"]) as new,
    ):
        wait_until(lambda: node_of(old) in new.workers(), "the new one answers")
        with Load(old).running() as load:
            old.signal(signal.SIGTERM)
            assert old.program.wait(10) == 0
            count = load.seen["200"]
            wait_until(lambda: load.seen["200"] > count + 50, "the new one serves")
        # The kernel resets who connects between our last look at a backlog of our own and its end (tcp_migrate_req).
        assert load.seen["lost"] <= 2, load.seen
        assert set(load.seen) <= {"200", "lost"}, load.seen


def node_of(node: Node) -> int:
    """The worker that happens to answer at a node's address."""
    pid: int = node.get("/health").json()["workers"][0]["pid"]
    return pid


def test_a_worker_without_its_master_ends(tmp_path: Path) -> None:
    with strange.serving(tmp_path) as node:
        (pid,) = node.workers()
        node.program.kill()
        node.program.wait()

        def is_gone() -> bool:
            with contextlib.suppress(FileNotFoundError):
                return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
            return True

        wait_until(is_gone, "it ends", 6)


@pytest.mark.parametrize("worker", ["gateway", "gthread"])
def test_a_node_that_is_told_to_go_while_its_workers_come_up_goes_at_once(tmp_path: Path, worker: str) -> None:
    for turn in range(14):
        node = strange.start(tmp_path / str(turn), workers=2, worker=worker)
        with contextlib.closing(node):
            wait_until(lambda node=node: "Listening at" in node.log, "the master is there")  # type: ignore[misc]
            time.sleep(0.03 * max(0, turn - 4))  # each time at another point of the workers' way up
            node.signal(signal.SIGTERM)
            # A worker that has not heard of it ends after ``GRACE``; a busy machine needs some seconds to start one.
            assert node.program.wait(GRACE / 2) == 0
