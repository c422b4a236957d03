"""Connections: how many, and when no more can be had; names and passwords that change."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from os import kill

import psycopg2

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from tests.chaos import servers
from tests.chaos.load import Kind, mixture, tell
from tests.chaos.naming import Names
from tests.chaos.proxy import Proxy
from tests.chaos.results import Figure
from tests.chaos.rig import Stage, new_cluster
from tests.chaos.scenario import failures, note_stalls
from tests.chaos.scenarios.dying import WARM
from tests.chaos.servers import DATABASE, ROLE, Sampler

HOG = "hog"
"""Who takes the connections: no superuser, for whom some are reserved."""
CAP = 16 + 8 + 4
"""The default sizes of both groups, and one probe connection for each of four endpoints."""


def slots_exhausted(stage: Stage) -> Iterator[Figure]:
    """Somebody else takes every connection that a server has left: the pooled ones go on serving."""
    with (
        new_cluster(replicas=1, max_connections="40") as cluster,
        stage.serve(cluster) as node,
        node.load(rate=stage.rate) as load,
        ExitStack() as hogs,
    ):
        time.sleep(WARM)
        taken = time.monotonic()
        count = sum(_take_all(hogs, server) for server in cluster.servers)
        time.sleep(2.0)
        withdrawn = node.watch.withdrawals(taken)
    note_stalls(stage, load)
    stage.remark("; ".join(f"{one.endpoint} out: {one.sight.reason}" for one in withdrawn))
    yield Figure("connections others took", count, 10, least=True)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield Figure("endpoints blamed", len(withdrawn), 0)


def cap(stage: Stage) -> Iterator[Figure]:
    """A crowd, a killed replica, ended backends, a SIGKILLed worker and reloads: sessions counted every 20 ms."""
    cluster = stage.cluster
    with (
        stage.serve(cluster) as node,
        Sampler(cluster.servers) as sampler,
        node.load(rate=stage.rate, lines=64) as load,
        node.load(rate=40, reads=1.0, mix=mixture(read="doze", prefer="wait=1")) as crowd,
    ):
        time.sleep(WARM)
        for number in range(1 if stage.short else 3):
            victim = cluster.replicas[number]
            victim.kill()
            time.sleep(0.7)
            victim.start()
            servers.terminate_backends(cluster.servers)
            time.sleep(0.5)
            kill(node.gateway.workers()[0], signal.SIGKILL)
            time.sleep(1.5)
            kill(node.gateway.program.pid, signal.SIGHUP)
            time.sleep(2.0)
    stage.remark(tell([one for one in (*load.records, *crowd.records) if not one.good]))
    yield Figure("samples", len(sampler.counts), 50, least=True)
    yield Figure("most sessions of the gateway at any sample", sampler.most, CAP)


def name_moved(stage: Stage) -> Iterator[Figure]:
    """An endpoint's host name gets another address: its connections move there within five seconds."""
    cluster = stage.cluster
    first, second, *_ = cluster.replicas
    with ExitStack() as stack:
        here = stack.enter_context(Proxy(stage.wires, first.port, address="127.0.0.2", port=first.port))
        there = stack.enter_context(Proxy(stage.wires, second.port, address="127.0.0.3", port=here.port))
        names = Names(cluster.make_directory())
        names.set("moving.chaos", [here.address])
        endpoints = {
            "primary": cluster.primary.dsn(DATABASE, ROLE),
            "moving": f"host=moving.chaos port={here.port} dbname={DATABASE} user={ROLE} sslmode=disable",
        }
        variables = {**names.variables, "GATEWAY_ENDPOINTS__MOVING__ALLOW_INSECURE": "true"}
        node = stack.enter_context(stage.serve(cluster, endpoints=endpoints, variables=variables))
        with node.load(rate=stage.rate) as load:
            time.sleep(WARM)
            moved = time.monotonic()
            names.set("moving.chaos", [there.address])
            while here.open and time.monotonic() < moved + 6.5:
                time.sleep(0.02)
            time.sleep(0.5)
            left = here.open
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    answered_by = Counter(one.server for one in load.of(Kind.READ))
    stage.remark(f"answered by {dict(answered_by)}")
    yield Figure("answered by the new address", answered_by[second.name], 1, least=True)
    old = [one.sent for one in load.of(Kind.READ) if one.server == first.name]
    last = max(old, default=moved)
    yield Figure("last read by the old address", max(0.0, last - moved), 5, "s")
    yield Figure("connections to the old address at the end", left, 0)


def password_changed(stage: Stage) -> Iterator[Figure]:
    """The role gets another password under load, and every session is ended so that all log in again."""
    with new_cluster(replicas=1) as cluster:
        folder = cluster.make_directory()
        secret = folder / "password"
        secret.write_text("the-first\n")
        servers.ask(cluster.primary, f"ALTER ROLE {ROLE} PASSWORD 'the-first'")
        cluster.wait_until_caught_up()
        for server in cluster.servers:
            _ask_for_passwords(server)
        sections = {
            f"endpoints.{server.name}": {"dsn": server.dsn(DATABASE, ROLE), "password_file": str(secret)}
            for server in cluster.servers
        }
        with stage.serve(cluster, settings=sections) as node, node.load(rate=stage.rate) as load:
            time.sleep(WARM)
            servers.ask(cluster.primary, f"ALTER ROLE {ROLE} PASSWORD 'the-second'")
            secret.write_text("the-second\n")
            cluster.wait_until_caught_up()
            changed = time.monotonic()
            servers.terminate_backends(cluster.servers, patience=1.0)
            ended = time.monotonic()
            time.sleep(1.5)
            withdrawn = [one for one in node.watch.changes if one.at > changed and one.sight.reason == "auth"]
    note_stalls(stage, load)
    _check_passwords(cluster)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE, "failed writes sent after the sessions were ended", first=ended)
    yield Figure("endpoints blamed for the password", len(withdrawn), 0)


def _take_all(hogs: ExitStack, server: Server) -> int:
    count = 0
    with suppress(psycopg2.OperationalError):
        while True:
            connection = psycopg2.connect(server.dsn(DATABASE, HOG))
            hogs.callback(connection.close)
            count += 1
    return count


def _ask_for_passwords(server: Server) -> None:
    rules = server.data / "pg_hba.conf"
    rules.write_text(f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    servers.ask(server, "SELECT pg_reload_conf()")


def _check_passwords(cluster: Cluster) -> None:
    """The rig's own check: the first password opens no door any more."""
    for server in cluster.servers:
        with suppress(psycopg2.OperationalError):
            psycopg2.connect(f"{server.dsn(DATABASE, ROLE)} password=the-first").close()
            raise servers.RigError(f"{server.name} still takes the first password")
