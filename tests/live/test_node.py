"""What the workers of one node know together, while some of them are killed, stopped and replaced."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.node.board import Board
from gateway.rotation.endpoint import EndpointState, EndpointView
from gateway.settings import EndpointSettings
from tests.live.gateways import Gateway, serving, wait_until

INTERVAL = 0.2
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"workers": 2},
    "probe": {"interval": "200ms", "timeout": "500ms"},
    "groups.read": {"size": 4},
    "groups.write": {"access": "write", "size": 4},
}


class Node:
    """A gateway, and its board as its workers see it."""

    def __init__(self, gateway: Gateway, cluster: Cluster) -> None:
        self.gateway = gateway
        endpoints = {server.name: repr(EndpointSettings(dsn=shop.dsn(server))) for server in cluster.servers}
        self._board = Board(gateway.runtime, endpoints=endpoints)

    def view(self, name: str) -> EndpointView:
        return self._board.read()[name]

    def prober(self) -> int:
        """The worker that said last that it had found a server."""
        return int(re.findall(r"\[(\d+)\] \[INFO\] endpoint \w+: in the rotation", self.gateway.log)[-1])

    def probed_since(self, moment: float) -> Callable[[], bool]:
        """Whether every endpoint was looked at since then."""
        return lambda: all((view.ping_at or 0) > moment for view in self._board.read().values())


@contextmanager
def node(cluster: Cluster, folder: Path) -> Iterator[Node]:
    with serving(cluster, folder, SETTINGS, paths=[shop.QUERIES]) as gateway:
        yield Node(gateway, cluster)


def test_another_worker_takes_over_from_a_prober_that_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    with node(cluster, tmp_path) as running:
        prober = 0
        for _ in range(2):
            since = running.view("primary").since
            wait_until(lambda last=prober: running.prober() != last, "the log tells of the prober")  # type: ignore[misc]
            prober = running.prober()
            killed = monotonic()
            os.kill(prober, signal.SIGKILL)
            took = wait_until(running.probed_since(killed), "all probed by another")
            assert took < 2
            assert running.view("primary").since == since  # nothing was forgotten, nobody withdrawn
            running.gateway.wait_until_ready()
            # For the next round, have the new prober say something.
            cluster.replicas[0].freeze()
            wait_until(lambda: running.view("replica1").state is EndpointState.OUT, "out")
            cluster.replicas[0].thaw()
            wait_until(lambda: running.view("replica1").state is EndpointState.IN, "in")


def test_a_prober_that_is_stopped_is_stood_in_for_and_then_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    with node(cluster, tmp_path) as running:
        prober = running.prober()
        stopped = monotonic()
        os.kill(prober, signal.SIGSTOP)
        try:
            assert wait_until(running.probed_since(stopped + 0.5), "all probed by another") < 4
            assert {running.view(server.name).state for server in cluster.servers} == {EndpointState.IN}
        finally:
            os.kill(prober, signal.SIGCONT)
        wait_until(running.probed_since(monotonic()), "all probed")
        assert "out of the rotation" not in running.gateway.log
        assert "suspect" not in running.gateway.log


def says_in_rotation(client: httpx.Client, endpoint: str) -> bool:
    """What the worker at the other end says."""
    return bool(client.get("/health").json()["endpoints"][endpoint]["in_rotation"])


def test_every_worker_knows_of_a_withdrawal(cluster: Cluster, tmp_path: Path) -> None:
    with node(cluster, tmp_path) as running:
        cluster.replicas[1].freeze()
        try:
            wait_until(lambda: running.view("replica2").state is EndpointState.OUT, "out")
            withdrawn = running.view("replica2").since
            clients = [running.gateway.new_client() for _ in range(8)]
            try:
                wait_until(
                    lambda: not any(says_in_rotation(client, "replica2") for client in clients), "out for all", 0.25
                )
            finally:
                for client in clients:
                    client.close()
        finally:
            cluster.replicas[1].thaw()
        wait_until(lambda: running.view("replica2").since > withdrawn, "back")
        told = re.findall(r"endpoint replica2: out of the rotation", running.gateway.log)
        assert len(told) == 1  # by the worker that made the change, and by no other


def test_a_replaced_worker_can_serve_at_once(cluster: Cluster, tmp_path: Path) -> None:
    with node(cluster, tmp_path) as running:
        before = set(running.gateway.workers())
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(running.gateway.workers()) == 2 and set(running.gateway.workers()) != before, "replaced")
        since = running.view("primary").since
        running.gateway.wait_until_ready()
        assert running.view("primary").since == since


def test_a_reload_keeps_what_is_known(cluster: Cluster, tmp_path: Path) -> None:
    with node(cluster, tmp_path) as running:
        before = set(running.gateway.workers())
        since = running.view("primary").since
        os.kill(running.gateway.program.pid, signal.SIGHUP)
        wait_until(lambda: not before & set(running.gateway.workers()), "a new generation")
        wait_until(running.probed_since(monotonic()), "probed by the new generation")
        assert running.view("primary").since == since
        assert running.gateway.value("order_total", order_id=1) > 0


@pytest.mark.parametrize("worker", ["gthread", "sync"])
def test_workers_with_threads_share_it_too(cluster: Cluster, tmp_path: Path, worker: str) -> None:
    settings = {**SETTINGS, "server": {"workers": 2, "worker": worker}}
    with serving(cluster, tmp_path, settings, paths=[shop.QUERIES]) as gateway:
        running = Node(gateway, cluster)
        killed = monotonic()
        os.kill(running.prober(), signal.SIGKILL)
        assert wait_until(running.probed_since(killed), "all probed by another") < 2
