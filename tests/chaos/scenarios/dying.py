"""Servers that die, freeze and come back, under load and without."""

import itertools
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from gateway.demo.server import Server
from tests.chaos import servers
from tests.chaos.asking import get, post
from tests.chaos.load import Kind, Load, Record, mixture
from tests.chaos.proxy import Mode
from tests.chaos.results import Figure
from tests.chaos.rig import WORKERS, Node, Stage, new_cluster
from tests.chaos.scenario import failures, milliseconds, misdirected, note_stalls

WARM = 0.6
"""Seconds of load before a fault."""


def replica_killed(stage: Stage) -> Iterator[Figure]:
    """SIGKILL under load, and its way back."""
    cluster = stage.cluster
    victim = cluster.replicas[1]
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        killed = victim.kill()
        out = node.watch.out(victim.name, since=killed, timeout=5)
        time.sleep(1.0)
        victim.launch()
        fit = servers.streams(victim)
        back = node.watch.back(victim.name, since=killed)
        time.sleep(1.5)
    first_use = _first_use(load, killed)
    stage.remark(f"withdrawn as {', '.join(node.watch.reasons(victim.name, killed))}")
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield milliseconds("out in every worker after the first failed use", out - first_use, 100)
    yield milliseconds("from the first worker's word to the last's", node.watch.spread(victim.name, killed), 250)
    yield Figure("back in every worker after it accepts", max(0.0, back - fit), 2, "s")
    yield misdirected(load)


def replica_killed_idle(stage: Stage) -> Iterator[Figure]:
    """SIGKILL while nobody asks anything."""
    cluster = stage.cluster
    victim = cluster.replicas[0]
    with stage.serve(cluster) as node:
        killed = victim.kill()
        yield Figure("out in every worker", node.watch.out(victim.name, since=killed, timeout=5) - killed, 1, "s")
        victim.launch()
        fit = servers.streams(victim)
        back = node.watch.back(victim.name, since=killed)
        yield Figure("back in every worker after it accepts", max(0.0, back - fit), 2, "s")


def replica_killed_with_worker(stage: Stage) -> Iterator[Figure]:
    """The same when a worker, which may be the one that looks for all, was SIGKILLed or frozen right before."""
    cluster = stage.cluster
    victim = cluster.replicas[0]
    numbers = range(1 if stage.short else WORKERS)
    for how, number in itertools.product((signal.SIGKILL, signal.SIGSTOP), numbers):
        with stage.serve(cluster) as node:
            workers = node.gateway.workers()
            struck = workers.pop(number)
            os.kill(struck, how)
            killed = victim.kill()
            out = node.watch.out(victim.name, since=killed, timeout=5, workers=workers)
            with suppress(ProcessLookupError):
                os.kill(struck, signal.SIGCONT)
            victim.launch()
            servers.streams(victim)
            # A worker that is still being started ignores SIGTERM: then the end takes as long as patience lasts.
            node.watch.known(bool, since=killed)
        what = "dead" if how is signal.SIGKILL else "frozen"
        yield Figure(f"out in the worker that is left, the other {what}", out - killed, 2.0, "s")


def replica_frozen(stage: Stage) -> Iterator[Figure]:
    """SIGSTOP of all its processes under load."""
    cluster = stage.cluster
    victim = cluster.replicas[2]
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        frozen = time.monotonic()
        victim.freeze()
        out = node.watch.out(victim.name, since=frozen, timeout=5)
        time.sleep(2.0)
        victim.thaw()
        thawed = time.monotonic()
        back = node.watch.back(victim.name, since=frozen)
        time.sleep(1.0)
    yield from _silence(stage, load, frozen, out, back - thawed)


def replica_black_holed(stage: Stage) -> Iterator[Figure]:
    """A network that drops everything from one moment on, first packets of connections included."""
    cluster = stage.cluster
    victim = cluster.replicas[2].name
    with stage.serve(cluster, proxied=[victim]) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        dropped = time.monotonic()
        with node.proxies[victim].being(Mode.BLACK_HOLE):
            out = node.watch.out(victim, since=dropped, timeout=5)
            time.sleep(2.0)
        passing = time.monotonic()
        back = node.watch.back(victim, since=dropped)
        time.sleep(1.0)
    yield from _silence(stage, load, dropped, out, back - passing)


def _silence(stage: Stage, load: Load, since: float, out: float, back: float) -> Iterator[Figure]:
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    worst = max(one.seconds for one in load.sent_between(since - 1, math.inf, Kind.READ))
    yield Figure("worst read", worst, 1.5, "s")
    yield Figure("out in every worker", out - since, 1.5, "s")
    yield Figure("back in every worker", back, 2, "s")


def backends_terminated(stage: Stage) -> Iterator[Figure]:
    """``pg_terminate_backend`` for every session of the gateway on every server at once, while reads are in flight."""
    cluster = stage.cluster
    with (
        stage.serve(cluster) as node,
        node.load(rate=20, reads=1.0, mix=mixture(read="doze")) as slow,
        node.load(rate=stage.rate) as load,
    ):
        time.sleep(WARM)
        ended = 0
        for _ in range(3):
            ended += servers.terminate_backends(cluster.servers)
            time.sleep(1.2)
    stage.remark(f"{ended} sessions were ended in 3 strokes")
    note_stalls(stage, load)
    failed = failures(stage, load, Kind.READ)
    failed_slow = failures(stage, slow, Kind.READ)
    yield Figure("failed reads", failed.value + failed_slow.value, 0)
    silent = [one for one in load.of(Kind.WRITE) if not one.good and one.outcome is None]
    yield Figure("failed writes without an outcome", len(silent), 0)
    late = [one for one in (*load.records, *slow.records) if one.kind is Kind.READ and one.attempts > 2]
    yield Figure("reads run more than twice", len(late), 0)


def replicas_down(stage: Stage) -> Iterator[Figure]:
    """Every replica SIGKILLed at once: the primary answers reads."""
    cluster = stage.cluster
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        with killed_together(cluster.replicas):
            time.sleep(2.0)
        for server in cluster.replicas:
            servers.streams(server)
        node.watch.back(*(server.name for server in cluster.replicas), since=0)
        time.sleep(0.5)
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield misdirected(load)


def everything_down(stage: Stage) -> Iterator[Figure]:
    """Every server SIGKILLed at once; then the primary starts."""
    cluster = stage.cluster
    with stage.serve(cluster) as node, node.load(rate=stage.rate / 2) as load:
        time.sleep(WARM)
        killed = time.monotonic()
        with killed_together(cluster.servers, start=False):
            time.sleep(2.0)
            cluster.primary.launch()
            up = servers.accepts(cluster.primary)
            time.sleep(1.5)
    note_stalls(stage, load)
    refused = load.sent_between(killed + 0.3, up - 0.1, Kind.READ)
    wrong = [one for one in refused if one.status != 503]
    yield Figure("reads without a 503", len(wrong), 0)
    yield milliseconds("worst 503 of a read (sent from 0.3 s after the kill on)", max(_seconds(refused)), 50)
    early = [one for one in load.sent_between(killed + 0.3, up, Kind.WRITE) if not one.good and one.seconds < 4.9]
    yield Figure("writes that did not wait", len(early), 0)
    yield milliseconds("first read after the primary accepts", _first_good(load, Kind.READ, up), 250)
    yield milliseconds("first write after the primary accepts", _first_good(load, Kind.WRITE, up), 250)


def only_server_restarted(stage: Stage) -> Iterator[Figure]:
    """A single server in all, killed and started again within the deadline: reads wait like writes."""
    with new_cluster(replicas=0) as cluster, stage.serve(cluster) as node, node.load(rate=stage.rate / 2) as load:
        time.sleep(WARM)
        killed = cluster.primary.kill()
        dead = time.monotonic()
        time.sleep(1.0)
        cluster.primary.launch()
        up = servers.accepts(cluster.primary)
        time.sleep(1.5)
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    in_flight = [one for one in load.of(Kind.WRITE) if not one.good and one.sent < killed]
    stage.remark(f"{len(in_flight)} writes were in flight at the kill and failed" if in_flight else "")
    yield failures(stage, load, Kind.WRITE, "failed writes sent after its death", first=dead)
    yield milliseconds("first read after it accepts", _first_good(load, Kind.READ, up), 250)
    yield milliseconds("first write after it accepts", _first_good(load, Kind.WRITE, up), 250)


def down_at_start(stage: Stage) -> Iterator[Figure]:
    """The gateway starts before any server: live, not ready, and serving as soon as one accepts."""
    with new_cluster(replicas=0) as cluster:
        cluster.primary.stop()
        with stage.serve(cluster, ready=False) as node:
            wait_until_live(node)
            yield Figure("ready without a server", node.is_ready(), 0)
            refused = node.ask(post("/query/look", {"n": 1}))
            yield Figure("reads answered without a server", refused.status == 200, 0)
            time.sleep(1.0)
            cluster.primary.launch()
            up = servers.accepts(cluster.primary)
            moments = {"first read": math.inf, "first write": math.inf, "ready": math.inf}
            requests = {"first read": post("/query/look", {"n": 1}), "ready": get("/health/ready")}
            for number in itertools.count(1):
                requests["first write"] = post("/query/note", {"id": -number}, prefer="wait=0.2")
                for what, moment in moments.items():
                    if moment == math.inf and node.ask(requests[what]).status == 200:
                        moments[what] = time.monotonic()
                if max(moments.values()) < math.inf or time.monotonic() > up + 5:
                    break
                time.sleep(0.005)
            for what, moment in moments.items():
                yield milliseconds(f"{what} after it accepts", moment - up, 250)


def wait_until_live(node: Node) -> None:
    """Wait until ``/health/live`` answers 200."""
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up:
        try:
            if node.ask(get("/health/live")).status == 200:
                return
        except Exception:  # noqa: BLE001 -- it is not there yet
            time.sleep(0.01)
    raise servers.RigError("the gateway does not come to life")


@contextmanager
def killed_together(victims: Sequence[Server], *, start: bool = True) -> Iterator[None]:
    """SIGKILL all of these at the same moment, for a while."""
    threads = [threading.Thread(target=server.kill) for server in victims]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        yield
    finally:
        if start:
            for server in victims:
                if server.pid is None:
                    server.launch()


def _first_use(load: Load, since: float) -> float:
    """When the first request was sent that met the fault; the fault's own moment where none did."""
    met = [one.sent for one in load.records if one.sent >= since and (one.attempts > 1 or not one.good)]
    return max(since, min(met, default=since))


def _first_good(load: Load, kind: Kind, since: float) -> float:
    """Seconds from then to the first good answer."""
    good = [one.answered for one in load.of(kind) if one.good and one.answered > since]
    return min(good, default=math.inf) - since


def _seconds(records: list[Record]) -> list[float]:
    return [one.seconds for one in records] or [math.inf]
