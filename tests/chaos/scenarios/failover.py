"""Another primary, or the same one again."""

import math
import time
from collections.abc import Iterator

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server, Stop
from tests.chaos import servers
from tests.chaos.audit import audit
from tests.chaos.load import Kind, Load, tell
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import failures, milliseconds, note_stalls
from tests.chaos.scenarios.dying import WARM


def primary_lost(stage: Stage) -> Iterator[Figure]:
    """The primary is SIGKILLed, a replica promoted, the others follow it; then the old primary comes back writable."""
    cluster = stage.cluster
    old, new, *others = cluster.servers
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        killed = old.kill()
        dead = time.monotonic()
        time.sleep(0.5)
        promoted = promote(new)
        for server in others:
            servers.follow(server, new)
        time.sleep(2.0)
        old.launch()
        returned, returned_wall = servers.accepts(old), time.time()
        time.sleep(2.0)
        reasons = node.watch.reasons(old.name, returned)
    on_old = writes_since(old, returned_wall)
    stage.spoil()
    note_stalls(stage, load)
    yield milliseconds("first write after the promotion", _first_write(load, promoted), 500)
    yield failures(stage, load, Kind.READ)
    _note_in_flight(stage, load, killed, dead)
    yield failures(stage, load, Kind.WRITE, "failed writes sent after the death", first=dead)
    yield Figure("writes on the old primary that came back", on_old, 0)
    stage.remark(f"the old primary: {', '.join(reasons)}")
    yield Figure("the old primary not called old_timeline", "old_timeline" not in reasons, 0)


def primary_left_alive(stage: Stage) -> Iterator[Figure]:
    """A replica is promoted while the old primary lives and takes writes: none goes there any more."""
    cluster = stage.cluster
    old, new, *_ = cluster.servers
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        promoted = promote(new)
        promoted_wall = time.time()
        time.sleep(2.5)
        reasons = node.watch.reasons(old.name, promoted)
    on_old = writes_since(old, promoted_wall)
    stage.spoil()
    note_stalls(stage, load)
    stage.remark(f"the old primary: {', '.join(reasons)}")
    yield milliseconds("first write on the new primary", _first_write(load, promoted, new.name), 500)
    yield Figure("writes to the older timeline after pg_promote finished", on_old, 0)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)


def primary_restarted(stage: Stage) -> Iterator[Figure]:
    """The primary is restarted in place: writes wait and succeed."""
    yield from _restarted(stage, Stop.FAST)


def primary_crashed(stage: Stage) -> Iterator[Figure]:
    """The primary dies and is started again: writes wait and succeed."""
    yield from _restarted(stage, None)


def promote(server: Server) -> float:
    """Promote it; when ``pg_promote`` had returned."""
    if servers.ask(server, "SELECT pg_promote(true, 30)") != [(True,)]:
        raise servers.RigError(f"{server.name} was not promoted")
    return time.monotonic()


def writes_since(server: Server, wall: float) -> int:
    """How many writes of the load this server itself has taken since this time of day."""
    sql = f"SELECT count(*) FROM audit WHERE server = '{server.name}' AND at > to_timestamp({wall!r})"
    ((count,),) = servers.ask(server, sql)
    return int(str(count))


def _restarted(stage: Stage, how: Stop | None) -> Iterator[Figure]:
    cluster = stage.cluster
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        began = time.monotonic()
        cluster.primary.kill() if how is None else cluster.primary.stop(how)
        down = time.monotonic()
        time.sleep(0.5)
        cluster.primary.launch()
        up = servers.accepts(cluster.primary)
        time.sleep(1.5)
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    _note_in_flight(stage, load, began, down)
    yield failures(stage, load, Kind.WRITE, "failed writes sent while it was down", first=down)
    yield milliseconds("first write after it accepts", _first_write(load, up), 500)
    yield from _audited(stage, cluster, load)


def _audited(stage: Stage, cluster: Cluster, load: Load) -> Iterator[Figure]:
    found = audit(cluster.primary, load.of(Kind.WRITE))
    stage.remark(str(found))
    yield Figure("writes that took place twice", found.double, 0)
    yield Figure("false committed", found.false_committed, 0)
    yield Figure("false not_executed or rolled_back", found.false_denied, 0)


def _first_write(load: Load, since: float, endpoint: str | None = None) -> float:
    """Seconds from then to the first write's good answer (from this endpoint)."""
    good = [
        one for one in load.of(Kind.WRITE) if one.good and one.answered > since and endpoint in (None, one.endpoint)
    ]
    return min((one.answered for one in good), default=math.inf) - since


def _note_in_flight(stage: Stage, load: Load, began: float, down: float) -> None:
    failed = [one for one in load.sent_between(began - 5, down, Kind.WRITE) if not one.good]
    if failed:
        stage.remark(f"in flight or sent while it went down: {tell(failed)}")
