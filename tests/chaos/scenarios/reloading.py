"""Reloads and shutdowns under load: nobody's request is lost, and the connection cap holds."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.demo.cluster import Cluster
from tests.chaos.asking import post
from tests.chaos.load import Kind, tell
from tests.chaos.results import Figure
from tests.chaos.rig import QUERIES, WORKERS, Node, Stage
from tests.chaos.scenario import failures, note_stalls
from tests.chaos.scenarios.dying import WARM
from tests.chaos.servers import DATABASE, ROLE, Sampler
from tests.live.gateways import environment, toml

RATE = 300.0
READ, WRITE, REPORTING = 24, 20, 6
"""The largest sizes of the groups that come and go: enough for the load where the machine does other work, too."""
RENAMED = "another"
"""What the last endpoint is called at times."""
DELAY = 7.0
FRONT = 5.0
"""Seconds for which a front goes on sending new connections after SIGTERM."""


def variants(node: Node, cluster: Cluster) -> list[dict[str, Mapping[str, Any]]]:
    """What is served by turns: endpoints, groups, sizes and queries come and go."""
    more = node.gateway.folder / "more"
    more.mkdir()
    (more / "more.sql").write_text("-- name: more$\nSELECT 1;\n")
    endpoints = {f"endpoints.{server.name}": {"dsn": server.dsn(DATABASE, ROLE)} for server in cluster.servers}
    fewer = dict(list(endpoints.items())[:-1])
    renamed = {**fewer, f"endpoints.{RENAMED}": list(endpoints.values())[-1]}
    first = next(iter(endpoints)).removeprefix("endpoints.")
    server = {"bind": f"127.0.0.1:{node.port}", "runtime_dir": str(node.gateway.folder / "runtime")}

    def settings(workers: int, paths: list[Path], **groups: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        return {
            "server": {**server, "workers": workers, "allowed_hosts": ["h", "x"]},
            "catalogue": {"paths": [str(path) for path in paths]},
            **{f"groups.{name}": group for name, group in groups.items()},
        }

    write = {"access": "write", "size": WRITE}
    return [
        {**settings(WORKERS, [QUERIES, more], read={"size": READ}, write=write), **endpoints},
        {**settings(WORKERS, [QUERIES], read={"size": 15}, write={"access": "write", "size": 14}), **fewer},
        {
            **settings(3, [QUERIES, more], read={"size": 19}, write=write, reporting={"size": REPORTING}),
            **renamed,
        },
        {
            **settings(
                WORKERS, [QUERIES], read={"size": READ}, write=write, reporting={"endpoints": [first], "size": 3}
            ),
            **endpoints,
        },
    ]


def reloaded(stage: Stage) -> Iterator[Figure]:
    """``gateway reload`` again and again, each time with other settings and queries, and a faulty one."""
    cluster = stage.cluster
    refused, took = 0, []
    with (
        stage.serve(cluster) as node,
        Sampler(cluster.servers) as sampler,
        node.load(rate=RATE) as load,
    ):
        served = variants(node, cluster)
        file = node.gateway.folder / "gateway.toml"
        time.sleep(WARM)
        for number in range(3 if stage.short else 20):
            file.write_text(toml(served[(number + 1) % len(served)]))
            began = time.monotonic()
            done = reload(file)
            took.append(time.monotonic() - began)
            if done.returncode:
                stage.remark(done.stderr)
                refused += 1
        file.write_text(toml({**served[0], "groups.read": {"size": 0}}))
        faulty = reload(file)
        time.sleep(0.3)
        fault = node.gateway.health()["catalogue"]["fault"] or ""
        time.sleep(0.5)
    stage.remark(f"{len(load.records)} requests; a reload took {min(took):.1f} to {max(took):.1f} s")
    stage.remark(tell([one for one in load.records if not one.good]))
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield Figure("reloads refused", refused, 0)
    yield Figure(
        "the faulty one exits with 1 and is told", (faulty.returncode, "size" in fault) == (1, True), 1, least=True
    )
    yield Figure("most sessions of the gateway at any sample", sampler.most, cap(cluster))


def stopped(stage: Stage) -> Iterator[Figure]:
    """SIGTERM with ``shutdown_delay``: a front learns late, and opens a connection for each request until then."""
    with stage.serve(stage.cluster, settings={"server": {"shutdown_delay": f"{DELAY:g}s"}}) as node:
        with node.load(rate=RATE) as load:
            time.sleep(WARM)
            node.gateway.program.send_signal(signal.SIGTERM)
            began = time.monotonic()
            new, lost, ready = 0, [], 0
            while time.monotonic() < began + FRONT:
                new += 1
                ready += node.is_ready()
                answer = node.ask(post("/query/look", {"n": 1}))
                if answer.status != 200 or answer.headers.get("connection") != "close":
                    lost.append(answer)
                time.sleep(0.01)
        status = node.gateway.program.wait(DELAY + 30)
        ended = time.monotonic() - began
    stage.remark(
        f"{len(load.records)} requests of a keep-alive client, {new} new connections; ended after {ended:.1f} s"
    )
    note_stalls(stage, load)
    yield failures(stage, load, Kind.READ)
    yield failures(stage, load, Kind.WRITE)
    yield Figure("requests over new connections that failed, or were not told to close", len(lost), 0)
    yield Figure("ready after SIGTERM", ready, 2)
    yield Figure("exit status", status, 0)


def cap(cluster: Cluster) -> int:
    """The most sessions there may be: those of probes are one for each name that an endpoint has at the same time."""
    return READ + WRITE + REPORTING + len(cluster.servers) + 1


def reload(file: Path) -> "subprocess.CompletedProcess[str]":
    """Have the node with these settings reload."""
    return subprocess.run(  # noqa: S603 -- ours
        [sys.executable, "-m", "gateway", "reload", "-c", str(file)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
