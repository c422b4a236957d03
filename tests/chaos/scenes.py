"""Two faults under load, recorded from all sides, to be drawn (``picture``)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos import servers
from tests.chaos.load import Record
from tests.chaos.rig import Stage
from tests.chaos.scenarios.failover import promote
from tests.chaos.watching import Change

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


SCENES = {"replica-kill": replica_kill, "failover": failover}
"""By the name of their file."""
