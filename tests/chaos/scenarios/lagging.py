"""Replicas behind their primary."""

import asyncio
import time
from collections.abc import Iterator

from tests.chaos import servers
from tests.chaos.asking import post
from tests.chaos.load import Kind, Lines
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import failures, misdirected, note_stalls
from tests.chaos.scenarios.dying import WARM

MAX_LAG = 1.0
_LIMIT = {"groups.read": {"access": "read", "max_lag": f"{MAX_LAG:g}s"}, "groups.write": {"access": "write"}}


def lagging(stage: Stage) -> Iterator[Figure]:
    """Replay stands still on one replica under load, with ``max_lag = "1s"``."""
    cluster = stage.cluster
    victim = cluster.replicas[1]
    with stage.serve(cluster, settings=_LIMIT) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        with servers.replay_paused(victim):
            paused = time.monotonic()
            crossed = paused + MAX_LAG
            out = node.watch.out(victim.name, since=paused, timeout=6)
            time.sleep(0.5)
            reasons = node.watch.reasons(victim.name, paused)
        resumed = time.monotonic()
        back = node.watch.back(victim.name, since=resumed)
        time.sleep(0.5)
    note_stalls(stage, load)
    stage.remark(f"withdrawn as {', '.join(reasons)}")
    yield Figure("out in every worker after crossing max_lag", out - crossed, 1, "s")
    yield Figure("before crossing it", max(0.0, crossed - out - 0.05), 0, "s")
    yield Figure("given another reason than lagging", len(set(reasons) - {"lagging"}), 0)
    yield Figure("back in every worker after replay went on", back - resumed, 2, "s")
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield misdirected(load)


def idle(stage: Stage) -> Iterator[Figure]:
    """Nothing is written for a while, with ``max_lag = "1s"``: silence is no lag."""
    cluster = stage.cluster
    with stage.serve(cluster, settings=_LIMIT) as node:
        time.sleep(0.5)
        quiet = time.monotonic()
        time.sleep(5.0 if stage.short else 60.0)
        yield Figure("withdrawals", len(node.watch.withdrawals(quiet)), 0)


def idle_for_long(stage: Stage) -> Iterator[Figure]:
    """Ten minutes of the same."""
    cluster = stage.cluster
    with stage.serve(cluster, settings=_LIMIT) as node:
        time.sleep(0.5)
        quiet = time.monotonic()
        time.sleep(600)
        yield Figure("withdrawals", len(node.watch.withdrawals(quiet)), 0)


def receiver_dead(stage: Stage) -> Iterator[Figure]:
    """A replica's WAL receiver finds its primary no more."""
    cluster = stage.cluster
    victim = cluster.replicas[0]
    with stage.serve(cluster) as node, node.load(rate=stage.rate / 2) as load:
        time.sleep(WARM)
        with servers.cut_off(victim):
            cut = time.monotonic()
            out = node.watch.out(victim.name, since=cut, timeout=6)
            time.sleep(0.3)
            reasons = node.watch.reasons(victim.name, cut)
        fit = servers.streams(victim)
        back = node.watch.back(victim.name, since=cut)
        time.sleep(0.3)
    note_stalls(stage, load)
    stage.remark(f"withdrawn as {', '.join(reasons)}")
    yield Figure("out in every worker", out - cut, 3, "s")
    yield Figure("not called not_streaming", "not_streaming" not in reasons, 0)
    yield Figure("back in every worker after it streams", max(0.0, back - fit), 2, "s")
    yield failures(stage, load, Kind.READ)


def read_your_writes(stage: Stage) -> Iterator[Figure]:
    """Each write is read at once with its consistency token, while one replica applies everything 150 ms late."""
    cluster = stage.cluster
    count = 600 if stage.short else 10_000
    with servers.configured(cluster.replicas[1], recovery_min_apply_delay="150ms"), stage.serve(cluster) as node:
        found = node.background.run(_write_and_read(node.port, count), timeout=600)
    by_replica = sum(one.endswith("replica") for one in found)
    stage.remark(f"{by_replica} of {len(found)} were answered by a replica")
    yield Figure("reads with a token", len(found) - found.count("no token"), count, least=True)
    yield Figure("stale reads", sum(one.startswith("stale") for one in found), 0)
    yield Figure("failed requests", sum(one.startswith("failed") for one in found), 0)
    yield Figure("answered by a replica", by_replica / len(found) * 100, 50, "%", least=True)
    for text in dict.fromkeys(one for one in found if one.startswith("failed")):
        stage.remark(text)


async def _write_and_read(port: int, count: int, callers: int = 8) -> list[str]:
    """So many callers at the same time, each with one write and its read after the other; a word on each pair."""
    lines = Lines(port)
    begin = time.time_ns() // 1000
    found: list[str] = []

    async def call(numbers: range) -> None:
        found.extend([await _one(lines, number) for number in numbers])

    await asyncio.gather(*(call(range(begin + caller, begin + count, callers)) for caller in range(callers)))
    lines.close()
    return found


async def _one(lines: Lines, number: int) -> str:
    write = await lines.ask(post("/query/note", {"id": number}))
    if write.status != 200:
        return f"failed write: {write.status} {write.json.get('code')}"
    token = write.headers.get("gateway-consistency-token")
    if token is None:
        return "no token"
    read = await lines.ask(post("/query/noted", {"id": number}, gateway_consistency_token=token))
    if read.status != 200:
        return f"failed read: {read.status} {read.json.get('code')}"
    role = "primary" if read.headers.get("gateway-endpoint") == "primary" else "replica"
    return ("fresh by " if read.json["value"] == 1 else "stale by ") + role
