"""Who gets how much, and answers that another endpoint can give better."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from tests.chaos import servers
from tests.chaos.asking import Answer, post
from tests.chaos.load import Kind, quantile, tell
from tests.chaos.proxy import Cut, When
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import failures, milliseconds, misdirected, note_stalls
from tests.chaos.scenarios.dying import WARM

SPREAD = 0.05
"""How far from its even share an endpoint's may be."""
GROUP_SIZE = 16
BUDGET = 0.1


def share_after_loss(stage: Stage) -> Iterator[Figure]:
    """One of three replicas is lost: each of the others gets half."""
    cluster = stage.cluster
    lost, *left = cluster.replicas
    seconds = 4.0 if stage.short else 8.0
    with stage.serve(cluster) as node, node.load(rate=stage.rate * 1.5) as load:
        time.sleep(WARM)
        before = load.records[0].sent
        killed = lost.kill()
        out = node.watch.out(lost.name, since=killed, timeout=5)
        time.sleep(seconds)
        ended = time.monotonic()
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    whole = _shares([one.endpoint for one in load.sent_between(before, killed, Kind.READ) if one.good])
    stage.remark(f"before the loss: {_show(whole)}")
    shares = _shares([one.endpoint for one in load.sent_between(out, ended, Kind.READ) if one.good])
    stage.remark(f"after it: {_show(shares)}")
    furthest = max(abs(shares.get(server.name, 0.0) - 1 / len(left)) for server in left)
    yield Figure("furthest from an even share", furthest * 100, SPREAD * 100, "%")
    yield misdirected(load)


def slow_replica(stage: Stage) -> Iterator[Figure]:
    """A replica becomes 500 ms slow, as seen through the network: the others' answers are as quick as before."""
    cluster = stage.cluster
    slow = cluster.replicas[0].name
    seconds = 3.0 if stage.short else 6.0
    with stage.serve(cluster, proxied=[slow]) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        begin = time.monotonic()
        time.sleep(seconds)
        slowed = time.monotonic()
        node.proxies[slow].delay(0.5)
        time.sleep(seconds)
        ended = time.monotonic()
        node.proxies[slow].delay(0)
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    others = [one for one in load.of(Kind.READ) if one.endpoint != slow and one.attempts == 1]
    before = quantile([one for one in others if begin <= one.sent < slowed], 0.95)
    after = quantile([one for one in others if slowed <= one.sent < ended], 0.95)
    stage.remark(f"others' p95 {before * 1000:.1f} ms before, {after * 1000:.1f} ms with it")
    yield Figure("p95 of reads on other endpoints, times that before", after / before, 2, "times")


def recovery_conflict(stage: Stage) -> Iterator[Figure]:
    """Replay on one replica needs what reads there hold on to: others answer them."""
    cluster = stage.cluster
    victim = cluster.replicas[1]
    conflicts = f"SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = '{servers.DATABASE}'"
    ((before,),) = servers.ask(victim, conflicts)
    with (
        servers.configured(victim, max_standby_streaming_delay="0"),
        stage.serve(cluster) as node,
        ThreadPoolExecutor(12) as threads,
    ):
        request = post("/query/doze_on_contested", {"seconds": 0.4})
        reads = []
        for _ in range(3):
            reads += [threads.submit(node.ask, request) for _ in range(12)]
            time.sleep(0.2)
            servers.ask(cluster.primary, "TRUNCATE contested")
            time.sleep(0.6)
        answers: list[Answer] = [read.result() for read in reads]
        withdrawn = node.watch.withdrawals()
    ((after,),) = servers.ask(victim, conflicts)
    stage.remark(f"answers: {Counter(answer.status for answer in answers)}, e.g. {_worst(answers).body!r}")
    yield Figure("reads that met a conflict", int(str(after)) - int(str(before)), 1, least=True)
    yield Figure("failed reads", sum(answer.status != 200 for answer in answers), 0)
    elsewhere = [one for one in answers if one.headers.get("gateway-attempts") == "2"]
    on_victim = [one for one in elsewhere if one.headers.get("gateway-endpoint") == victim.name]
    yield Figure("run again where the conflict was", len(on_victim), 0)
    yield Figure("endpoints blamed", len(withdrawn), 0)


def statement_timeout(stage: Stage) -> Iterator[Figure]:
    """Reads that take too long end with 504, and nobody is blamed."""
    cluster = stage.cluster
    request = post("/query/doze", {"n": 1, "seconds": 10}, prefer="wait=0.4")
    with stage.serve(cluster) as node, node.load(rate=stage.rate / 2) as load, ThreadPoolExecutor(6) as threads:
        time.sleep(WARM)
        began = time.monotonic()
        answers = [read.result() for read in [threads.submit(node.ask, request) for _ in range(18)]]
        withdrawn = node.watch.withdrawals(began)
    stage.remark(f"answers: {Counter(answer.status for answer in answers)}")
    yield Figure("not answered 504", sum(answer.status != 504 for answer in answers), 0)
    yield Figure("endpoints blamed", len(withdrawn), 0)
    yield failures(stage, load, Kind.READ, "other reads that failed")
    stage.remark(", ".join(f"{one.endpoint} out: {one.sight.reason}" for one in withdrawn))


def retries_bounded(stage: Stage) -> Iterator[Figure]:
    """Every connection breaks under every query for two seconds: nothing is run more than twice, writes once."""
    cluster = stage.cluster
    # Not what is only explained: how a query is planned is looked at now and then with the arguments of its calls.
    read = re.compile(rb"(?<!JSON\) )/\*[^*]*\*/ EXECUTE gw_\w+\W.*?'(\d+)'", re.DOTALL)
    with ExitStack() as stack:
        node = stack.enter_context(stage.serve(cluster, proxied=[server.name for server in cluster.servers]))
        load = stack.enter_context(node.load(rate=stage.rate / 2, mix=_tagged))
        time.sleep(WARM + 1.0)
        began = time.monotonic()
        for proxy in node.proxies.values():
            proxy.watch(read)
            proxy.cut(Cut(re.compile(rb"EXECUTE gw_"), When.AFTER, times=None))
        time.sleep(2.0)
        ended = time.monotonic()
        for proxy in node.proxies.values():
            proxy.cut(None)
        time.sleep(1.0)
    note_stalls(stage, load)
    seen = Counter(tag for proxy in node.proxies.values() for at, tag in proxy.seen if at < ended + 0.5)
    reads = {str(one.tag).encode() for one in load.of(Kind.READ)}
    writes = {str(one.tag).encode() for one in load.of(Kind.WRITE)}
    runs = [seen[tag] for tag in reads if tag in seen]
    again = sum(count - 1 for count in runs if count > 1)
    lately = len(load.sent_between(began - 8, ended, Kind.READ))
    stage.remark(f"{len(runs)} reads reached a server, {again} of them again; {lately} reads in 10 s")
    stage.remark(tell([one for one in load.records if not one.good]))
    yield Figure("cut connections", sum(proxy.opened for proxy in node.proxies.values()), 10, least=True)
    yield Figure("reads run again", again, 1, least=True)
    yield Figure("most runs of one read", max(runs, default=0), 2)
    yield Figure("most runs of one write", max((seen[tag] for tag in writes), default=0), 1)
    yield Figure("reads run again, times the budget", again / max(GROUP_SIZE, BUDGET * lately), 1, "times")
    yield milliseconds("latest answer after its deadline of 5 s", max(one.seconds for one in load.records) - 5, 100)
    failed = [one for one in load.of(Kind.WRITE) if not one.good and one.outcome is None]
    yield Figure("failed writes without an outcome", len(failed), 0)


def _tagged(kind: Kind, tag: int) -> bytes:
    """Reads that carry their tag as well, so that the proxies can tell them apart."""
    return post("/query/noted" if kind is Kind.READ else "/query/note", {"id": tag})


def _shares(endpoints: list[str | None]) -> dict[str, float]:
    counts = Counter(endpoints)
    return {str(name): count / len(endpoints) for name, count in counts.items()}


def _show(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items()))


def _worst(answers: list[Answer]) -> Answer:
    return max(answers, key=lambda answer: answer.status)
