"""Servers that come and go, that are starting up, and that are drained."""

import time
from collections.abc import Iterator

from tests.chaos import servers
from tests.chaos.load import Kind, mixture
from tests.chaos.proxy import Mode
from tests.chaos.results import Figure
from tests.chaos.rig import Stage
from tests.chaos.scenario import failures, misdirected, note_stalls
from tests.chaos.scenarios.dying import WARM

HALF = 0.5
MOST_ENTRIES = 3
"""In 30 s."""


def flapping(stage: Stage) -> Iterator[Figure]:
    """A replica is there for half a second and gone for half a second, again and again."""
    cluster = stage.cluster
    flaps = 6 if stage.short else 25
    victim = cluster.replicas[1].name
    with stage.serve(cluster, proxied=[victim]) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        began = time.monotonic()
        for _ in range(flaps):
            with node.proxies[victim].being(Mode.RESET):
                time.sleep(HALF)
            time.sleep(HALF)
        lasted = time.monotonic() - began
    note_stalls(stage, load)
    stage.remark(f"{flaps} flaps in {lasted:.1f} s; reasons: {', '.join(node.watch.reasons(victim, began))}")
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield Figure("entries into the rotation in 30 s", node.watch.entries(victim, began), MOST_ENTRIES)
    yield Figure("entries at all", node.watch.entries(victim, began), 1, least=True)


def starting_up(stage: Stage) -> Iterator[Figure]:
    """A replica answers 57P03 for some seconds while it starts: it is not used, and why is said."""
    cluster = stage.cluster
    victim = cluster.replicas[0]
    with stage.serve(cluster) as node, node.load(rate=stage.rate) as load:
        time.sleep(WARM)
        victim.kill()
        # It asks the archive before it looks at its own WAL: each time it starts up for so long.
        victim.configure({"restore_command": "sleep 0.5; false"})
        victim.launch()
        launched = time.monotonic()
        fit = servers.streams(victim)
        back = node.watch.back(victim.name, since=launched)
        time.sleep(0.5)
        reasons = node.watch.reasons(victim.name, launched)
        victim.configure({"restore_command": ""})
        victim.reload()
    note_stalls(stage, load)
    stage.remark(f"it started for {fit - launched:.1f} s; reasons: {', '.join(reasons)}")
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield Figure("not called starting_up", "starting_up" not in reasons, 0)
    yield Figure("back in every worker after it accepts", max(0.0, back - fit), 2, "s")


def drained(stage: Stage) -> Iterator[Figure]:
    """An endpoint is drained under load, and resumed."""
    cluster = stage.cluster
    victim = cluster.replicas[1].name
    with (
        stage.serve(cluster) as node,
        node.load(rate=20, reads=1.0, mix=mixture(read="doze")) as slow,
        node.load(rate=stage.rate) as load,
    ):
        time.sleep(WARM)
        asked = time.monotonic()
        with node.gateway.new_operator(35.0) as operator:
            answer = operator.post(f"/admin/endpoints/{victim}/drain?wait=30s")
        answered = time.monotonic()
        stage.remark(f"drain answered {answer.status_code} after {answered - asked:.2f} s: {answer.text[:200]}")
        out = node.watch.out(victim, since=asked, timeout=1)
        time.sleep(1.0)
        resumed = time.monotonic()
        again = node.gateway.operator.post(f"/admin/endpoints/{victim}/resume")
        back = node.watch.back(victim, since=resumed, timeout=3)
        time.sleep(0.5)
        reasons = node.watch.reasons(victim, asked)
    note_stalls(stage, load)
    stage.remark(f"resume answered {again.status_code}; reasons: {', '.join(reasons)}")
    yield Figure("not answered 200", (answer.status_code != 200) + (again.status_code != 200), 0)
    both = (*load.records, *slow.records)
    late = [one for one in both if one.endpoint == victim and answered < one.answered and one.sent < resumed]
    yield Figure("answers by it after the drain had answered", len(late), 0)
    yield Figure("out in every worker after the request", out - asked, 0.5, "s")
    yield Figure("back in every worker after resume", back - resumed, 2, "s")
    failed = failures(stage, load, Kind.READ).value + failures(stage, slow, Kind.READ).value
    yield Figure("failed reads", failed, 0)
    yield failures(stage, load, Kind.WRITE)
    yield misdirected(load)
