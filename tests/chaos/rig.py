"""A stage for scenarios: real servers, a gateway over them, load, and somebody who watches."""

import itertools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from tests.chaos import servers
from tests.chaos.asking import PATIENCE, Answer, Line, get
from tests.chaos.background import Background
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy
from tests.chaos.servers import DATABASE, ROLE, RigError
from tests.chaos.watching import Watch
from tests.live.gateways import Gateway, serving, wait_until

FOLDER = Path(__file__).parent
QUERIES = FOLDER / "queries"
TABLES = FOLDER / "chaos.sql"
WORKERS = 2
REPLICAS = 3


@dataclass
class Node:
    """A running gateway, its proxies by the name of their endpoint, and what its workers say."""

    gateway: Gateway
    watch: Watch
    proxies: Mapping[str, Proxy]
    background: Background
    tags: Iterator[int]
    """Numbers for requests, none of them twice on this stage."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.gateway.port

    def load(self, **more: Any) -> Load:
        """Load on it; ``more`` as ``Load`` takes it."""
        return Load(self.background, self.port, tags=self.tags, **more)

    def ask(self, request: bytes, patience: float = PATIENCE) -> Answer:
        """One request over a connection of its own; raises NoAnswer."""

        async def asking() -> Answer:
            line = await Line.open(self.port)
            try:
                return await line.ask(request, patience)
            finally:
                line.close()

        return self.background.run(asking(), patience + PATIENCE)

    def is_ready(self) -> bool:
        """Whether the worker asked says so."""
        return self.ask(get("/health/ready")).status == 200


@dataclass
class Stage:
    """What scenarios are given. A scenario leaves its servers running, or calls ``spoil``."""

    short: bool = False
    rate: float = 200.0
    say: Callable[[str], None] = print
    remarks: list[str] = field(default_factory=list)
    """Of the run under way: what helps to understand a miss."""

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._tags = itertools.count(1)
        self._of_cluster = ExitStack()
        self._cluster: Cluster | None = None
        self.clients = self._stack.enter_context(Background("clients"))
        self.wires = self._stack.enter_context(Background("wires"))

    def close(self) -> None:
        """End everything."""
        self.spoil()
        self._stack.close()

    @property
    def cluster(self) -> Cluster:
        """A primary and three replicas, all of them well; the same as last time if they could be mended."""
        if self._cluster is not None:
            try:
                self._mend(self._cluster)
            except Exception as error:  # noqa: BLE001 -- then another one will do
                self.say(f"another cluster, since this one cannot be mended: {error}")
                self.spoil()
        if self._cluster is None:
            self._cluster = self._of_cluster.enter_context(new_cluster())
        return self._cluster

    def spoil(self) -> None:
        """The cluster cannot be used again: a replica was promoted."""
        self._cluster = None
        self._of_cluster.close()

    def remark(self, text: str) -> None:
        """Note something that helps to understand a miss."""
        if text:
            self.remarks.append(text)

    @contextmanager
    def serve(
        self,
        cluster: Cluster,
        *,
        proxied: Collection[str] = (),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        endpoints: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        ready: bool = True,
    ) -> Iterator[Node]:
        """A gateway with two workers and default settings; ``proxied`` names the endpoints behind a proxy each."""
        with ExitStack() as stack:
            proxies = {
                server.name: stack.enter_context(Proxy(self.wires, server.port))
                for server in cluster.servers
                if server.name in proxied
            }
            direct = {server.name: server.dsn(DATABASE, ROLE) for server in cluster.servers}
            through = {name: proxy.dsn(DATABASE, ROLE) for name, proxy in proxies.items()}
            ours = settings or {}
            running = stack.enter_context(
                serving(
                    cluster,
                    cluster.make_directory(),
                    {**ours, "server": {"workers": WORKERS, **ours.get("server", {})}},
                    endpoints=endpoints or {**direct, **through},
                    paths=[QUERIES],
                    ready=False,
                    variables=variables or {},
                )
            )
            watch = stack.enter_context(Watch(self.clients, running.port, lambda: _workers(running)))
            node = Node(running, watch, proxies, self.clients, self._tags)
            if ready:
                self._wait_until_ready(node)
            yield node

    def _wait_until_ready(self, node: Node) -> None:
        def all_in() -> bool:
            if node.gateway.program.poll() is not None:
                raise RigError(f"the gateway ended with {node.gateway.program.returncode}")
            said = node.watch.latest
            return len(said) >= WORKERS and all(
                all(sight.inside or sight.role == "primary" for sight in sights.values()) for sights in said.values()
            )

        wait_until(all_in, "every endpoint is in the rotation of every worker", 20)
        wait_until(node.is_ready, "ready")
        time.sleep(0.3)  # the connections that the first look has opened

    def _mend(self, cluster: Cluster) -> None:
        for server in cluster.servers:
            server.thaw()
            if server.pid is None:
                server.start()
        for server in cluster.replicas:
            servers.streams(server)


@contextmanager
def new_cluster(replicas: int = REPLICAS, **settings: str) -> Iterator[Cluster]:
    """Servers with the suite's tables, and the role the gateway connects as."""
    with Cluster(replicas=replicas, settings=settings) as cluster:
        cluster.primary.sql(f"CREATE ROLE {ROLE} LOGIN IN ROLE pg_monitor")
        cluster.primary.sql("CREATE ROLE hog LOGIN")
        cluster.primary.sql(f"CREATE DATABASE {DATABASE}")
        cluster.primary.run_file(TABLES, DATABASE)
        if replicas:
            cluster.wait_until_caught_up()
        yield cluster


def server_of(cluster: Cluster, name: str) -> Server:
    """The server with this name."""
    return next(server for server in cluster.servers if server.name == name)


def _workers(running: Gateway) -> list[int]:
    try:
        return running.workers()
    except OSError:
        return []
