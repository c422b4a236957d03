"""Sessions that go on after their connection was closed: the server has never more of them than the cap."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from tests.live.samples import Crowd, Samples
from tests.live.workers import Node, post, serving, wait_until

READS, WRITES = 3, 4
CAP = READS + WRITES + 1
SETTINGS = {"server": {"workers": 3}, "groups.read": {"size": READS}, "groups.write": {"size": WRITES}}


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A server that the tests may do anything to, as long as they mend it."""
    with Cluster(replicas=0) as cluster:
        yield cluster


@pytest.fixture
def node(own: Cluster, tmp_path: Path) -> Iterator[Node]:
    with serving(own, tmp_path, SETTINGS) as node:
        yield node


def closing(node: Node) -> int:
    return int(node.get("/health").json()["endpoints"]["primary"]["closing"])


@contextmanager
def no_standby(cluster: Cluster) -> Iterator[None]:
    """COMMITs wait for a standby that does not exist."""
    cluster.primary.configure({"synchronous_standby_names": "nobody"})
    cluster.primary.reload()
    try:
        yield
    finally:
        cluster.primary.configure({"synchronous_standby_names": ""})
        cluster.primary.reload()


def kill_one(node: Node) -> None:
    victim = node.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in (now := node.workers()) and len(now) == 3, "there are three again")


def test_commits_that_wait_for_a_lost_standby_never_exceed_the_cap_though_workers_are_killed(
    node: Node, own: Cluster
) -> None:
    with Samples(own).running() as samples, Crowd(node, patience="0.5").running() as crowd:
        with no_standby(own):
            wait_until(lambda: closing(node) == WRITES, "every session for writes hangs in COMMIT")
            for _ in range(2):
                kill_one(node)
                crowd.go_on(100)
            wait_until(lambda: closing(node) >= WRITES, "what the dead had counts too")
            assert crowd.seen["503"] + crowd.seen["504"] > 0
        wait_until(lambda: closing(node) == 0, "they have ended, and that is known")
        crowd.go_on(300)
    assert max(samples.counts) <= CAP, samples.counts
    assert node.run("note", note="afterwards").json()["outcome"] == "committed"


def test_work_that_cannot_be_interrupted_counts_until_it_has_ended(node: Node, own: Cluster) -> None:
    stopped: list[int] = []
    try:
        with Samples(own).running() as samples:
            for number in range(READS):
                wire = node.wire()
                wire.send(b"GET /query/wait?seconds=9&mark=m%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
                wait_until(lambda: len(reading(own.primary)) == len(stopped) + 1, "it runs")
                (pid,) = reading(own.primary) - set(stopped)
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
                wire.reset()
            wait_until(lambda: closing(node) == READS, "all were given up")
            kill_one(node)
            assert node.run("wait", "Prefer: wait=1", seconds=0).status == 503
            assert closing(node) == READS
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
            wait_until(lambda: closing(node) == 0, "they have ended, and that is known")
            assert node.run("wait", seconds=0).status == 200
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    assert max(samples.counts) <= CAP, samples.counts


def reading(server: Server) -> set[int]:
    """The processes at work on ``wait``."""
    found = server.sql(
        "SELECT coalesce(string_agg(pid::text, ','), '') FROM pg_stat_activity"
        " WHERE state = 'active' AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()"
    )
    return {int(pid) for pid in found.strip().split(",") if pid}


def test_a_server_that_stood_still_has_no_more_sessions_than_the_cap_when_it_goes_on(node: Node, own: Cluster) -> None:
    with Crowd(node, patience="0.5").running() as crowd, Samples(own).running() as samples:
        own.primary.freeze()
        try:
            wait_until(lambda: not node.get("/health").json()["endpoints"]["primary"]["in_rotation"], "it is out")
            wait_until(lambda: crowd.seen["503"] > 50, "nobody is served")
        finally:
            own.primary.thaw()
        crowd.go_on(200)
        wait_until(lambda: closing(node) == 0, "what was given up has ended, and that is known")
    assert max(samples.counts) <= CAP, samples.counts


def test_a_probe_that_reconnects_takes_nothing_from_a_write_group_of_one(own: Cluster, tmp_path: Path) -> None:
    settings = {"groups.read": {"size": 1}, "groups.write": {"size": 1}}
    with serving(own, tmp_path, settings) as node:
        for number in range(5):
            with psycopg2.connect(own.primary.dsn()) as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'pg-query-gateway%'"
                )
            connection.close()
            answer = node.run("note", "Prefer: wait=5", note=f"after {number}")
            assert (answer.status, answer.json().get("outcome")) == (200, "committed")


def test_sessions_on_a_replica_that_stands_still_take_nothing_from_the_primary(tmp_path: Path) -> None:
    with Cluster(replicas=1) as cluster:
        replica = cluster.replicas[0]
        settings: dict[str, dict[str, object]] = {
            "endpoints.replica1": {"dsn": replica.dsn()},
            "groups.read": {"size": 2, "endpoints": ["replica1", "primary"]},
            "groups.write": {"size": 1, "endpoints": ["primary"]},
        }
        with serving(cluster, tmp_path, settings) as node:
            wait_until(lambda: node.run("one").headers.get("gateway-endpoint") == "replica1", "the replica reads")
            with node.wire() as first, node.wire() as second:
                for wire in (first, second):
                    wire.send(post("wait", "Prefer: wait=5", seconds=1))
                wait_until(lambda: len(reading(replica)) == 2, "both sessions are at work")
                replica.freeze()
                try:
                    answers = [wire.answer() for wire in (first, second)]
                    assert [answer.status for answer in answers] == [200, 200]
                    assert {answer.headers["gateway-endpoint"] for answer in answers} == {"primary"}
                    assert node.get("/health").json()["endpoints"]["replica1"]["closing"] == 2
                finally:
                    replica.thaw()
            wait_until(
                lambda: node.get("/health").json()["endpoints"]["replica1"]["closing"] == 0, "they are known to be gone"
            )
            wait_until(lambda: node.run("one").headers["gateway-endpoint"] == "replica1", "the replica reads again")
