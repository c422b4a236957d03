"""Never more server connections than the groups' sizes and one probe an endpoint, whatever becomes of the workers."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from tests.live import gateways
from tests.live.samples import Crowd, Samples
from tests.live.workers import Node, serving, wait_until

READS, WRITES = 7, 4
CAP = READS + WRITES + 1
SETTINGS = {"server": {"workers": 3}, "groups.read": {"size": READS}, "groups.write": {"size": WRITES}}


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Iterator[Node]:
    with serving(cluster, tmp_path, SETTINGS) as node:
        yield node


def reload(node: Node) -> None:
    before = set(node.workers())
    node.signal(signal.SIGHUP)
    wait_until(lambda: before.isdisjoint(now := node.workers()) and len(now) == 3, "a new generation")


def kill_one(node: Node) -> None:
    victim = node.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in (now := node.workers()) and len(now) == 3, "there are three again")


@pytest.mark.parametrize(("harm", "times"), [(reload, 3), (kill_one, 3)])
def test_the_cap_holds_through(harm: Callable[[Node], None], times: int, node: Node, cluster: Cluster) -> None:
    with Crowd(node).running() as crowd, Samples(cluster).running() as samples:
        for _ in range(times):
            harm(node)
            crowd.go_on(200)
        wait_until(lambda: samples.counts[CAP] + samples.counts[CAP - 1], "nearly every connection is used")
    assert max(samples.counts) <= CAP, samples.counts
    assert crowd.seen.keys() <= ({"200"} if harm is reload else {"200", "lost", "503"}), crowd.seen


def test_what_is_pooled_goes_on_serving_when_somebody_else_has_taken_every_connection(
    fragile: Cluster, tmp_path: Path
) -> None:
    settings = {"groups.read": {"size": 8}, "groups.write": {"size": 4}}
    taken: list[psycopg2.extensions.connection] = []
    with serving(fragile, tmp_path, settings) as node:
        assert node.run("wait", seconds=0).status == 200
        assert node.run("note", note="before").status == 200
        try:
            with pytest.raises(psycopg2.OperationalError, match=r"too many clients|remaining connection slots"):  # noqa: PT012
                while len(taken) < 20:
                    taken.append(psycopg2.connect(fragile.primary.dsn()))
            with Crowd(node, clients=12).running() as crowd:
                crowd.go_on(300)
            assert set(crowd.seen) == {"200"}
            endpoint = node.get("/health").json()["endpoints"]["primary"]
            assert endpoint["in_rotation"], endpoint
        finally:
            for connection in taken:
                connection.close()


def test_a_server_that_has_no_connection_left_from_the_start_is_told_with_its_words(
    fragile: Cluster, tmp_path: Path
) -> None:
    taken: list[psycopg2.extensions.connection] = []
    try:
        with pytest.raises(psycopg2.OperationalError, match=r"too many clients|remaining connection slots"):  # noqa: PT012
            while len(taken) < 20:
                taken.append(psycopg2.connect(fragile.primary.dsn()))
        dsn = {"primary": fragile.primary.dsn()}
        with gateways.serving(fragile, tmp_path, endpoints=dsn, paths=[gateways.QUERIES], ready=False) as node:

            def answers() -> bool:
                with suppress(httpx.TransportError):
                    return bool(node.health()["endpoints"]["primary"]["message"])
                return False

            wait_until(answers, "the server has said something")
            endpoint = node.health()["endpoints"]["primary"]
            assert (endpoint["in_rotation"], endpoint["reason"]) == (False, "refused")
            assert re.search("too many clients|remaining connection slots", endpoint["message"])
            assert f"endpoint primary: out of the rotation, refused: {endpoint['message']}" in node.log
            while taken:
                taken.pop().close()
            wait_until(lambda: node.health()["endpoints"]["primary"]["in_rotation"], "it serves")
    finally:
        for connection in taken:
            connection.close()
