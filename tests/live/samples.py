"""How many connections a server has, seen often, and a crowd that wants more of them than there may be."""

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from gateway.demo.cluster import Cluster
from tests.live.databases import plain
from tests.live.workers import Node, wait_until

EVERY = 0.02
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pg-query-gateway%'"


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

    def __init__(self, node: Node, clients: int = 18, *, patience: str = "") -> None:
        """``patience``: seconds for each answer."""
        self._headers = [f"Prefer: wait={patience}"] if patience else []
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
        steps = itertools.count(1)
        while not self._stop.is_set():
            try:
                self._ask(number, steps)
            except (OSError, EOFError) as error:
                print(f"a request was lost: {error!r}")
                self._note("lost")

    def _ask(self, number: int, steps: Iterator[int]) -> None:
        """Ask over one connection, for a while."""
        with self._node.wire() as wire:
            while not self._stop.is_set():
                step = next(steps)
                query = "note_slowly" if number % 3 == 0 else "wait"
                more = {"note": f"{number}-{step}-{os.urandom(4).hex()}"} if number % 3 == 0 else {}
                answer = wire.run(query, *self._headers, seconds=0.02, **more)
                self._note(str(answer.status))
                if answer.headers.get("connection") == "close" or step % 10 == 0:
                    break  # and to whichever worker it comes next

    def _note(self, what: str) -> None:
        with self._lock:
            self.seen[what] += 1
