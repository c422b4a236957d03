"""Two faults, reloads and a shutdown under load, recorded from all sides, to be drawn (``picture``)."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos import servers
from tests.chaos.load import Record
from tests.chaos.rig import TABLES, Stage, new_cluster
from tests.chaos.scenarios import reloading
from tests.chaos.scenarios.failover import promote
from tests.chaos.watching import Change
from tests.live.gateways import toml, wait_until
from tests.live.patronis import TTL, patronis

_BEFORE = 1.0
_AFTER = 1.0


@dataclass(frozen=True)
class Mark:
    """Something that was done, or happened, to a server."""

    at: float
    text: str


@dataclass(frozen=True)
class Scene:
    """What there is to draw. Points in time are of ``time.monotonic``."""

    title: str
    begin: float
    end: float
    marks: Sequence[Mark]
    """The first is the fault; time counts from there."""
    endpoints: Sequence[str]
    workers: Sequence[int]
    changes: Sequence[Change]
    records: Sequence[Record]
    sessions: Sequence[tuple[float, int]] = ()
    """How many the gateway had on all servers, at these moments."""
    cap: int = 0
    """The most of these that there may be."""

    @property
    def zero(self) -> float:
        """The moment of the fault."""
        return self.marks[0].at


def replica_kill(stage: Stage) -> Scene:
    """A replica is SIGKILLed under load and started again."""
    cluster = stage.cluster
    victim = cluster.replicas[1]
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(_BEFORE + 0.5)
        marks = [Mark(victim.kill(), f"SIGKILL {victim.name}")]
        time.sleep(1.5)
        marks.append(Mark(time.monotonic(), "started again"))
        victim.launch()
        marks.append(Mark(servers.streams(victim), "accepts and streams"))
        node.watch.back(victim.name, since=marks[-1].at)
        time.sleep(_AFTER)
        end, workers = time.monotonic(), node.gateway.workers()
    names = [server.name for server in cluster.servers]
    title = f"A replica is killed: {stage.rate:g} requests a second, 70 % reads, two workers"
    return Scene(title, marks[0].at - _BEFORE, end, marks, names, workers, node.watch.changes, load.records)


def failover(stage: Stage) -> Scene:
    """The primary is SIGKILLed under load and a replica promoted; the others follow it."""
    cluster = stage.cluster
    old, new, *others = cluster.servers
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(_BEFORE + 0.5)
        marks = [Mark(old.kill(), f"SIGKILL {old.name}")]
        time.sleep(1.0)
        marks.append(Mark(time.monotonic(), f"pg_promote {new.name}"))
        marks.append(Mark(promote(new), "finished"))
        for server in others:
            servers.follow(server, new)
        time.sleep(1.5)
        marks.append(Mark(time.monotonic(), f"{old.name} started, on the old timeline"))
        old.launch()
        servers.accepts(old)
        time.sleep(1.0 + _AFTER)
        end, workers = time.monotonic(), node.gateway.workers()
    stage.spoil()
    names = [server.name for server in cluster.servers]
    title = f"Failover: {stage.rate:g} requests a second, 70 % reads, two workers"
    return Scene(title, marks[0].at - _BEFORE, end, marks, names, workers, node.watch.changes, load.records)


def patroni(stage: Stage) -> Scene:
    """Patroni's leader is switched over, and the next one's machine dies."""
    with patronis(3) as members, new_cluster(replicas=0) as launching:
        members.sql(f"CREATE DATABASE {servers.DATABASE}")
        members.run_file(TABLES, servers.DATABASE)
        dsn = f"dbname={servers.DATABASE} user={servers.ROLE} sslmode=disable"
        endpoint = {"dsn": dsn, "discover": [member.url for member in members.members]}
        settings = {"endpoints.pg": endpoint}
        with (
            stage.serve(launching, endpoints={"pg": dsn}, settings=settings) as node,
            node.load(rate=stage.rate) as load,
        ):
            time.sleep(_BEFORE + 0.5)
            marks = [Mark(time.monotonic(), "switchover is asked for")]
            new = members.switch_over()
            wait_until(lambda: members.leader() is new, "switched over")
            marks.append(Mark(time.monotonic(), f"{new.name} leads, Patroni says"))
            members.wait_until_whole()
            marks.append(Mark(time.monotonic(), "the old leader streams"))
            time.sleep(2.0)
            marks.append(Mark(time.monotonic(), f"SIGKILL of Patroni and PostgreSQL of {new.name}"))
            new.kill()
            members.members.remove(new)
            wait_until(members.leader, "failed over")
            marks.append(Mark(time.monotonic(), "another leads, Patroni says"))
            time.sleep(1.0 + _AFTER)
            end, workers = time.monotonic(), node.gateway.workers()
    for record in load.records:
        record.server = record.endpoint
    names = sorted({change.endpoint for change in node.watch.changes})
    title = f"Patroni: switchover, then failover (ttl {TTL} s); {stage.rate:g} requests a second, two workers"
    return Scene(title, marks[0].at - _BEFORE, end, marks, names, workers, node.watch.changes, load.records)


def reloads(stage: Stage) -> Scene:
    """Each time the last one is done, other endpoints, groups, sizes and queries are served."""
    cluster = stage.cluster
    with (
        stage.serve(cluster) as node,
        servers.Sampler(cluster.servers) as sampler,
        node.load(rate=reloading.RATE) as load,
    ):
        variants = reloading.variants(node, cluster)
        file = node.gateway.folder / "gateway.toml"
        time.sleep(_BEFORE + 0.5)
        marks = []
        for number in range(1, 3):
            file.write_text(toml(variants[number % len(variants)]))
            marks.append(Mark(time.monotonic(), "gateway reload"))
            if reloading.reload(file).returncode:
                raise servers.RigError("a reload was refused")
            marks.append(Mark(time.monotonic(), "the new workers serve"))
            time.sleep(_BEFORE)
        time.sleep(_AFTER)
        end = time.monotonic()
    names = [*(server.name for server in cluster.servers), reloading.RENAMED]
    title = f"Two reloads: {reloading.RATE:g} requests a second, 70 % reads, two or three workers"
    cap = reloading.cap(cluster)
    return Scene(title, marks[0].at - _BEFORE, end, marks, names, (), (), load.records, sampler.counts, cap)


def shutdown(stage: Stage) -> Scene:
    """SIGTERM, while a front that learns late goes on sending."""
    cluster = stage.cluster
    with (
        stage.serve(cluster, settings={"server": {"shutdown_delay": "4s"}}) as node,
        servers.Sampler(cluster.servers) as sampler,
    ):
        with node.load(rate=reloading.RATE) as load:
            time.sleep(_BEFORE + 0.5)
            marks = [Mark(time.monotonic(), "SIGTERM, with shutdown_delay = 4s")]
            node.gateway.program.send_signal(signal.SIGTERM)
            time.sleep(3.0)
        marks.append(Mark(time.monotonic(), "the front sends no more"))
        node.gateway.program.wait(30)
        marks.append(Mark(time.monotonic(), "ended"))
        time.sleep(_AFTER)
        end = time.monotonic()
    names = [server.name for server in cluster.servers]
    title = f"A node is stopped: {reloading.RATE:g} requests a second, 70 % reads, two workers"
    cap = reloading.cap(cluster)
    return Scene(title, marks[0].at - _BEFORE, end, marks, names, (), (), load.records, sampler.counts, cap)


SCENES = {
    "replica-kill": replica_kill,
    "failover": failover,
    "reload": reloads,
    "shutdown": shutdown,
    "patroni": patroni,
}
"""By the name of their file."""
