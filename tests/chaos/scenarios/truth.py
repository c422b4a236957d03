"""Writes of every kind under every fault: what clients were told is what the database holds."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos import servers
from tests.chaos.asking import post
from tests.chaos.ledger import Findings, Said, Write, compare, runs_on
from tests.chaos.proxy import COMMIT, Cut, Swap, When
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.storm import Storm, ledgers, rage
from tests.chaos.writers import Writers

KEYED = 0.4
"""Share of writes with a key."""
HURRIED = 0.5
"""Share of writes with a deadline that is shorter than some outages."""
HURRY = (0.2, 0.7)
ARRAY = 5
STEPS = 3
TEN = 10
ISOLATIONS = ("read committed", "repeatable read", "serializable")
_KINDS = ("plain", "plain back", "tracked", "tracked quietly", "array", "tracked array", "transaction")


def make(tag: int, chance: random.Random) -> Write:
    """A write of some kind."""
    kind = chance.choice(_KINDS)
    path, body, parts = wish(kind, tag)
    headers = {}
    key = None
    if chance.random() < KEYED:
        key = headers["idempotency_key"] = f"key-{tag}"
    if chance.random() < HURRIED:
        headers["prefer"] = f"wait={chance.uniform(*HURRY):.2f}"
    return Write(tag, kind, post(path, body, **headers), parts, key)


def wish(kind: str, tag: int, **more: str) -> tuple[str, Any, int]:
    """Path, body and number of rows of a write; ``more`` goes into a transaction."""
    match kind:
        case "plain":
            return "/query/jot", {"id": tag}, 1
        case "plain back":
            return "/query/jot_back", {"id": tag}, 1
        case "tracked":
            return "/query/jot_tracked", {"id": tag}, 1
        case "tracked quietly":
            return "/query/jot_tracked_quietly", {"id": tag}, 1
        case "array":
            return "/query/jot_back", [{"id": tag, "part": part} for part in range(ARRAY)], ARRAY
        case "tracked array":
            return "/query/jot_tracked_quietly", [{"id": tag, "part": part} for part in range(ARRAY)], ARRAY
    steps = [
        {"query": "jot_back", "arguments": {"id": tag}},
        {"query": "jot_back", "arguments": {"id": tag, "part": {"$ref": "/0/row/next"}}},
        {"query": "jotted", "arguments": {"id": tag}},
        {"query": "jot", "arguments": {"id": tag, "part": {"$ref": "/1/row/next"}}},
    ]
    return "/transaction", {"steps": steps, **more}, STEPS


def every_kind(stage: Stage) -> Iterator[Figure]:
    """Lines cut, backends ended, workers killed, the primary restarted, and replicas promoted, again and again."""
    rounds, promotions, least = (1, 1, 500) if stage.short else (7, 2, 10_000)
    cluster = stage.cluster
    with ledgers(stage, cluster) as node:
        storm = Storm(cluster, node)
        storm.replicate_synchronously()
        with Writers(node, make, rate=stage.rate * 1.5) as writers:
            rage(storm, rounds, promotions, 0.3 if stage.short else 0.6)
            while len(writers.writes) < least:
                time.sleep(0.1)
    old, timeline = storm.left_behind("ledger", "part"), servers.timeline(storm.primary)
    findings = compare(writers.writes, runs_on(storm.primary), old, timeline)
    stage.spoil()
    yield from figures(stage, findings, storm)
    yield Figure("writes", findings.writes, least, least=True)
    if not stage.short:
        yield Figure("keys", findings.keys, 1000, least=True)


def figures(stage: Stage, findings: Findings, storm: Storm) -> Iterator[Figure]:
    """What the audit has found; the counts go to the remarks."""
    stage.say(f"{findings}; {dict(storm.counts)}")
    stage.remark(f"{findings}; {dict(storm.counts)}")
    for example in findings.examples[:5]:
        stage.remark(example)
    yield Figure("kills, cuts and other faults", sum(storm.counts.values()), 10, least=True)
    yield Figure("requests answered unknown or not at all", findings.unknown, 1, least=True)
    yield Figure("of those with a mark", findings.marked, 0 if stage.short else 10, least=True)
    share = 100 * findings.resolved / findings.marked if findings.marked else 100
    yield Figure("of those resolved", share, 99, "%", least=True)
    yield Figure("answered writes lost by a promotion", findings.lost, 0)
    yield from findings.figures()


def repeats(stage: Stage) -> Iterator[Figure]:
    """Ten clients send the same key at once, while sessions are ended and lines cut at COMMITs."""
    count = 14 if stage.short else 140
    writes: list[Write] = []
    cluster = stage.cluster
    with ledgers(stage, cluster) as node, ThreadPoolExecutor(TEN) as threads:
        proxy = node.proxies[cluster.primary.name]
        cuts = 0
        for number in range(count):
            tag = next(node.tags)
            kind = _KINDS[number % len(_KINDS)]
            more = {"isolation": ISOLATIONS[number // len(_KINDS) % 3]} if kind == "transaction" else {}
            path, body, parts = wish(kind, tag, **more)
            write = Write(tag, kind, post(path, body, idempotency_key=f"key-{tag}"), parts, f"key-{tag}")
            cut = Cut(COMMIT, tuple(When)[number // 3 % 2])
            proxy.cut(cut if number % 3 else None)
            if number % 3 == 2:
                servers.terminate_backends([cluster.primary])
            asking = [threads.submit(node.ask, write.request) for _ in range(TEN)]
            write.said = [Said.of(one.result()) for one in asking]
            cuts += cut.made
            writes.append(write)
        proxy.cut(None)
        others = [
            node.ask(post("/query/jot", {"id": 1, "part": 99}, idempotency_key=str(write.key))) for write in writes
        ]
    findings = compare(writes, runs_on(cluster.primary), {})
    stage.remark(str(findings))
    for example in findings.examples[:5]:
        stage.remark(example)
    answers = [one for write in writes for one in write.said]
    first = [sum(one.status == 200 and not one.replayed for one in write.said) for write in writes]
    mismatches = sum(answer.status == 422 and answer.json["code"] == "idempotency_mismatch" for answer in others)
    yield Figure("keys, each sent ten times at once", count, count, least=True)
    yield Figure("lines cut at their COMMIT", cuts, count // 3, least=True)
    yield Figure("not answered 200", sum(one.status != 200 for one in answers), 0)
    yield Figure("most first answers of a key", max(first), 1)
    yield Figure("other arguments not answered 422", count - mismatches, 0)
    yield from findings.figures()


def commit_refused(stage: Stage) -> Iterator[Figure]:
    """COMMITs that the server answers with ROLLBACK, and COMMITs that fail; then the same keys again."""
    count = 40 if stage.short else 400
    writes: list[Write] = []
    failing: list[Write] = []
    cluster = stage.cluster
    with ledgers(stage, cluster) as node:
        proxy = node.proxies[cluster.primary.name]
        swap = Swap(COMMIT, b"ROLLBACK")
        proxy.swap(swap)
        for number in range(count):
            tag = next(node.tags)
            path, body, parts = wish(_KINDS[2 + number % (len(_KINDS) - 2)], tag)
            key = f"key-{tag}" if number % 2 else None
            headers = {"idempotency_key": key} if key else {}
            write = Write(tag, path, post(path, body, **headers), parts, key)
            write.said.append(Said.of(node.ask(write.request)))
            writes.append(write)
        proxy.swap(None)
        before = runs_on(cluster.primary)
        told = Counter(one.outcome for write in writes for one in write.said)
        for number in range(count // 4):
            tag = next(node.tags)
            steps = [{"query": name, "arguments": {"id": tag}} for name in ("jot", "refuse")]
            requests = [post("/query/refuse", {"id": tag}), post("/query/refuse", [{"id": tag}])]
            requests += [post("/transaction", {"steps": steps})]
            failing.append(Write(tag, "refused", requests[number % 3]))
            failing[-1].said.append(Said.of(node.ask(failing[-1].request)))
        for write in writes:
            if write.key:
                write.said.append(Said.of(node.ask(write.request)))
    findings = compare([*writes, *failing], runs_on(cluster.primary), {})
    stage.remark(f"{findings}; COMMITs answered with ROLLBACK: {dict(told)}")
    refused = [one for write in failing for one in write.said]
    again = [write.said[-1].outcome for write in writes if write.key]
    yield Figure("COMMITs answered with ROLLBACK", swap.made, count, least=True)
    yield Figure("of those not answered rolled_back", count - told["rolled_back"], 0)
    yield Figure("of those with rows", len(before), 0)
    yield Figure("COMMITs that failed", len(refused), count // 4, least=True)
    yield Figure("of the failed not answered rolled_back", sum(one.outcome != "rolled_back" for one in refused), 0)
    yield Figure("keys not free afterwards", sum(outcome != "committed" for outcome in again), 0)
    yield from findings.figures()
