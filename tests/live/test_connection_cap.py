"""Never more server connections than the groups' sizes and one probe an endpoint, whatever becomes of the workers."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread

import httpx
import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from tests.live import gateways
from tests.live.databases import plain
from tests.live.workers import Node, serving, wait_until

EVERY = 0.02
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg-query-gateway'"
READS, WRITES = 7, 4
CAP = READS + WRITES + 1
SETTINGS = {"server": {"workers": 3}, "groups.read": {"size": READS}, "groups.write": {"size": WRITES}}


class Samples:
    """How many connections of ours the server has, fifty times a second."""

    def __init__(self, cluster: Cluster) -> None:
        self._dsn = cluster.primary.dsn()
        self._stop = Event()
        self.counts: Counter[int] = Counter()

    @contextmanager
    def running(self) -> Iterator["Samples"]:
        thread = Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        with plain(self._dsn) as cursor:
            while not self._stop.wait(EVERY):
                cursor.execute(OURS)
                self.counts[cursor.fetchone()[0]] += 1  # type: ignore[index]  # an aggregate has a row


class Crowd:
    """More clients than connections: two thirds read, one third writes."""

    def __init__(self, node: Node, clients: int = 18) -> None:
        self._node = node
        self._stop = Event()
        self._lock = Lock()
        self.seen: Counter[str] = Counter()
        self._threads = [Thread(target=self._run, args=(number,)) for number in range(clients)]

    @contextmanager
    def running(self) -> Iterator["Crowd"]:
        for thread in self._threads:
            thread.start()
        try:
            wait_until(lambda: self.seen["200"] > 100, "the crowd is served")
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def go_on(self, requests: int) -> None:
        """Wait until so many more are served."""
        count = self.seen["200"]
        wait_until(lambda: self.seen["200"] >= count + requests, "the crowd is served")

    def _run(self, number: int) -> None:
        step = 0
        while not self._stop.is_set():
            what = "lost"
            with suppress(OSError, EOFError), self._node.wire() as wire:
                while not self._stop.is_set():
                    step += 1
                    query = "note_slowly" if number % 3 == 0 else "wait"
                    more = {"note": f"{number}-{step}-{os.urandom(4).hex()}"} if number % 3 == 0 else {}
                    what = "lost"
                    answer = wire.run(query, seconds=0.02, **more)
                    what = str(answer.status)
                    with self._lock:
                        self.seen[what] += 1
                    if answer.headers.get("connection") == "close" or step % 10 == 0:
                        break  # and to whichever worker it comes next
            if what == "lost":
                with self._lock:
                    self.seen[what] += 1


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
