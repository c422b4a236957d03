"""No answer later than its deadline, whatever breaks."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager

from gateway.demo.cluster import Cluster
from tests.chaos.asking import post
from tests.chaos.load import Load, mixture, tell
from tests.chaos.naming import Names
from tests.chaos.proxy import Mode
from tests.chaos.results import Figure
from tests.chaos.rig import Node, Stage
from tests.chaos.scenario import milliseconds, note_stalls
from tests.chaos.servers import DATABASE, ROLE

WAIT = 0.8
"""Seconds: the deadline of each request."""
SLACK_MS = 100
_RATE = 80.0
_WARM = 0.4
_LASTS = 1.2

Fault = Callable[[Node, Cluster], AbstractContextManager[None]]


def deadlines(stage: Stage) -> Iterator[Figure]:
    """Servers and networks of all endpoints break in every way."""
    cluster = stage.cluster
    lasts = _LASTS if stage.short else 2 * _LASTS
    everybody = [server.name for server in cluster.servers]
    faults: dict[str, Fault] = {
        "servers frozen": _frozen,
        "network forwards nothing": lambda node, _: _every_proxy(node, Mode.STOP),
        "network drops everything": lambda node, _: _every_proxy(node, Mode.BLACK_HOLE),
        "deaf port": lambda node, _: _every_proxy(node, Mode.DEAF),
        "connections reset": lambda node, _: _every_proxy(node, Mode.RESET),
        "network slow by 400 ms": _slow,
        "pool full": lambda node, _: _full(node),
    }
    with stage.serve(cluster, proxied=everybody) as node:
        for what, fault in faults.items():
            with node.load(rate=_RATE, mix=mixture(prefer=f"wait={WAIT}")) as load:
                time.sleep(_WARM)
                with fault(node, cluster):
                    time.sleep(lasts)
            yield _latest(stage, load, what)
            node.watch.back(*everybody, since=0)


def slow_names(stage: Stage) -> Iterator[Figure]:
    """Looking up the servers' names takes three seconds from one moment on, and their connections break."""
    cluster = stage.cluster
    with ExitStack() as stack:
        names = Names(cluster.make_directory())
        for server in cluster.servers:
            names.set(f"{server.name}.chaos", ["127.0.0.1"])
        endpoints = {
            server.name: f"host={server.name}.chaos port={server.port} dbname={DATABASE} user={ROLE} sslmode=disable"
            for server in cluster.servers
        }
        allowed = {f"GATEWAY_ENDPOINTS__{name.upper()}__ALLOW_INSECURE": "true" for name in endpoints}
        variables = {**names.variables, **allowed}
        node = stack.enter_context(stage.serve(cluster, endpoints=endpoints, variables=variables))
        with node.load(rate=_RATE, mix=mixture(prefer=f"wait={WAIT}")) as load:
            time.sleep(_WARM)
            for server in cluster.servers:
                names.set(f"{server.name}.chaos", ["127.0.0.1"], seconds=3)
                server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")
            time.sleep(_LASTS + 1)
            for server in cluster.servers:
                names.set(f"{server.name}.chaos", ["127.0.0.1"])
        yield _latest(stage, load, "slow DNS")


def _latest(stage: Stage, load: Load, what: str) -> Figure:
    note_stalls(stage, load)
    late = max((one for one in load.records), key=lambda one: one.seconds)
    stage.remark(f"{what}: {tell([one for one in load.records if not one.good]) or 'no failure'}; latest: {late}")
    return milliseconds(f"{what}: latest answer after its deadline", late.seconds - WAIT, SLACK_MS)


@contextmanager
def _frozen(_: Node, cluster: Cluster) -> Iterator[None]:
    for server in cluster.servers:
        server.freeze()
    try:
        yield
    finally:
        for server in cluster.servers:
            server.thaw()


@contextmanager
def _every_proxy(node: Node, mode: Mode) -> Iterator[None]:
    with ExitStack() as stack:
        for proxy in node.proxies.values():
            stack.enter_context(proxy.being(mode))
        yield


@contextmanager
def _slow(node: Node, _: Cluster) -> Iterator[None]:
    for proxy in node.proxies.values():
        proxy.delay(0.4)
    try:
        yield
    finally:
        for proxy in node.proxies.values():
            proxy.delay(0)


@contextmanager
def _full(node: Node) -> Iterator[None]:
    """Every connection of both groups is taken by something slow."""
    with ThreadPoolExecutor(40) as threads:
        for number in range(20):
            threads.submit(node.ask, post("/query/doze", {"n": 1, "seconds": _LASTS + 0.5}, prefer="wait=10"))
            slow = {"id": -number, "seconds": _LASTS + 0.5}
            threads.submit(node.ask, post("/query/note_slowly", slow, prefer="wait=10"))
        yield
