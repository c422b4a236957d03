"""Two nodes on machines of their own, over servers that both find by one name; for one of them a line breaks."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.chaos.background import Background
from tests.chaos.proxy import Proxy
from tests.live.gateways import Gateway, environment, toml, wait_until
from tests.live.namespaces import NameServer, Namespace, namespace
from tests.live.steady import QUERIES, TABLE, Steady

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces, which only root may: use sudo"),
]

NAME = "members.test"
HOSTS = (11, 12, 13)
"""Of the primary and two replicas, in each machine's own network."""
NETWORKS = {"gatewayone": "10.213.1", "gatewaytwo": "10.213.2"}


class Remote(Gateway):
    """A node on another machine, reached through a unix socket."""

    @property
    def _socket(self) -> str:
        return str(self.folder / "socket")

    def new_client(self, timeout: float = 60.0) -> httpx.Client:
        return httpx.Client(
            base_url="http://localhost", timeout=timeout, transport=httpx.HTTPTransport(uds=self._socket)
        )

    def accepts(self) -> bool:
        """NOTE: httpx leaves a unix socket open that cannot be connected."""
        with socket.socket(socket.AF_UNIX) as one:
            return one.connect_ex(self._socket) == 0

    def endpoints(self) -> dict[str, bool]:
        """Which are in the rotation, by the last number of their address."""
        with self.new_client() as client:
            found = client.get("/health").json()["endpoints"]
        return {name.rpartition("-")[2]: each["in_rotation"] for name, each in found.items()}


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Namespace]]:
    with ExitStack() as stack:
        yield [stack.enter_context(namespace(name, network, HOSTS)) for name, network in NETWORKS.items()]


@pytest.fixture(scope="module")
def nodes(cluster: Cluster, machines: list[Namespace]) -> Iterator[list[Remote]]:
    cluster.primary.sql(TABLE, shop.DATABASE)
    cluster.wait_until_caught_up()
    with Background("lines") as loop, ExitStack() as stack:
        port: int | None = None
        made = []
        for machine in machines:
            names = stack.enter_context(NameServer(NAME, machine.gateway))
            names.addresses = machine.hosts
            for host, server in zip(machine.hosts, cluster.servers, strict=True):
                proxy = stack.enter_context(Proxy(loop, server.port, address=host, **({"port": port} if port else {})))
                port = proxy.port
            assert port is not None
            made.append(start(cluster, machine, port))
            stack.callback(made[-1].close)
        for node in made:
            wait_until(lambda node=node: is_whole(node), f"serves: {node.log}", 30)  # type: ignore[misc]
        yield made
    cluster.primary.sql("DROP TABLE entries", shop.DATABASE)


def start(cluster: Cluster, machine: Namespace, port: int) -> Remote:
    folder = cluster.make_directory()
    (folder / "queries").mkdir()
    (folder / "queries" / "steady.sql").write_text(QUERIES)
    dsn = f"host={NAME} port={port} dbname={shop.DATABASE} user={shop.ROLE} sslmode=disable"
    server = {"bind": f"unix:{folder / 'socket'}", "workers": 1, "runtime_dir": str(folder / "runtime")}
    endpoint = {"dsn": dsn, "discover": "dns", "allow_insecure": True}
    (folder / "gateway.toml").write_text(toml({"server": server, "endpoints.pg": endpoint}))
    log = folder / "log"
    command = machine.command(sys.executable, "-m", "gateway", "serve", "-c", str(folder / "gateway.toml"))
    program = cluster.launch(command, log=log, environment=environment(), cwd=folder)
    return Remote(program, port=0, workers=1, log=log, folder=folder)


def is_whole(node: Remote) -> bool:
    assert node.program.poll() is None, node.log
    return node.accepts() and node.endpoints() == {str(host): True for host in HOSTS}


def test_both_find_all_servers_by_the_name(nodes: list[Remote]) -> None:
    assert [is_whole(node) for node in nodes] == [True, True]


def test_a_node_that_is_cut_off_from_a_server_does_without_it_and_the_other_does_not(
    nodes: list[Remote], machines: list[Namespace]
) -> None:
    one, two = nodes
    with Steady(one, first=1) as here, Steady(two, first=1_000_000) as there:
        wait_until(lambda: here.committed > 20 and there.committed > 20, "both serve")
        machines[0].cut_off(machines[0].hosts[1])
        out = wait_until(lambda: one.endpoints() == {"11": True, "12": False, "13": True}, "it does without")
        reads, others = here.reads.total(), there.reads[f"pg-{machines[1].hosts[1].replace('.', '-')}"]
        wait_until(lambda: here.reads.total() > reads + 100, "reads go on")
        wait_until(
            lambda: there.reads[f"pg-{machines[1].hosts[1].replace('.', '-')}"] > others + 20, "the other asks it"
        )
        assert is_whole(two)
        machines[0].mend(machines[0].hosts[1])
        wait_until(lambda: is_whole(one), "it is back", 30)
    print(f"out after {out:.2f} s")
    for load in (here, there):
        assert load.failed_reads == []
        assert set(load.outcomes.values()) == {"committed"}
