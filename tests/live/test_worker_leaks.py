"""Many requests whose clients leave at random points: nothing of them stays behind.

The long form, 100,000 requests: ``GATEWAY_LEAK_REQUESTS=100000 make test ARGS="-k leak"``.
"""

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from tests.live.workers import Node, Wire, get, post, serving, wait_until

REQUESTS = int(os.environ.get("GATEWAY_LEAK_REQUESTS", "5000"))
CLIENTS = 6
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"head_timeout": "1s", "body_timeout": "1s", "timeout": "1s"},
    "groups.read": {"access": "read", "size": 8, "queue": 300},
    "groups.write": {"access": "write", "size": 4},
}


class Leaver:
    """A client that asks and, at a point that the dice choose, leaves; ``asked`` counts its requests."""

    def __init__(self, node: Node, dice: random.Random) -> None:
        self._node = node
        self._dice = dice
        self.asked = 0
        self.answers: Counter[int] = Counter()
        self._ways: tuple[tuple[int, Callable[[Wire], None]], ...] = (
            (6, self._stay),
            (2, self._leave_within_the_request),
            (2, self._leave_at_once),
            (2, self._leave_in_flight),
            (1, self._leave_within_the_answer),
            (1, self._half_close),
            (1, self._pipeline_and_leave),
            (1, self._speak_nonsense),
        )

    def run(self, count: int) -> None:
        """Ask so often."""
        goal = self.asked + count
        weights, ways = zip(*self._ways, strict=True)
        while self.asked < goal:
            wire = self._node.wire()
            with contextlib.suppress(EOFError, OSError):
                self._dice.choices(ways, weights)[0](wire)
            with contextlib.suppress(OSError):
                wire.reset() if self._dice.random() < 0.5 else wire.sock.close()

    def _request(self) -> bytes:
        self.asked += 1
        kind = self._dice.randrange(10)
        if kind < 5:
            return post("echo", value="x" * self._dice.randrange(3000))
        if kind < 7:
            return post("wait", seconds=self._dice.random() * 0.02)
        if kind < 8:
            return post("nothing") if self._dice.random() < 0.5 else post("echo", value=1, more=2)
        if kind < 9:
            return get("/query/big?bytes=50000")
        return post("note", note=f"leak {self._dice.random()}")

    def _stay(self, wire: Wire) -> None:
        for _ in range(self._dice.randrange(1, 12)):
            self.answers[wire.send(self._request()).answer().status] += 1

    def _leave_within_the_request(self, wire: Wire) -> None:
        request = self._request()
        wire.send(request[: self._dice.randrange(len(request))])

    def _leave_at_once(self, wire: Wire) -> None:
        wire.send(self._request())

    def _leave_in_flight(self, wire: Wire) -> None:
        wire.send(post("wait", seconds=0.05))
        self.asked += 1
        time.sleep(self._dice.random() * 0.02)

    def _leave_within_the_answer(self, wire: Wire) -> None:
        self.asked += 1
        wire.send(get("/query/big?bytes=400000"))
        wire.sock.recv(self._dice.randrange(1, 100_000))

    def _half_close(self, wire: Wire) -> None:
        wire.send(self._request()).end()
        if self._dice.random() < 0.5:
            wire.rest()

    def _pipeline_and_leave(self, wire: Wire) -> None:
        wire.send(b"".join(self._request() for _ in range(self._dice.randrange(2, 20))))
        if self._dice.random() < 0.5:
            wire.answer()

    def _speak_nonsense(self, wire: Wire) -> None:
        self.asked += 1
        wire.send(self._dice.randbytes(self._dice.randrange(1, 300)))


def crowd(leavers: list[Leaver], count: int) -> None:
    threads = [Thread(target=leaver.run, args=(count // len(leavers),)) for leaver in leavers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at_rest(node: Node) -> bool:
    """Whether nothing is under way, and no client there but the one that asks."""
    health = node.get("/health").json()
    groups = health["groups"].values()
    is_quiet = all(group["leased"] == group["waiting"] == 0 for group in groups)
    return is_quiet and health["workers"][0]["in_flight"] == 1


def kept(node: Node) -> tuple[int, int]:
    """Descriptors, but those of pooled connections (of which there may be more or fewer), and private bytes."""
    pooled = sum(group["idle"] for group in node.get("/health").json()["groups"].values())
    (pid,) = node.workers()
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    private = sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) - pooled, private


@pytest.fixture
def leavers(cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Node, list[Leaver]]]:
    with serving(cluster, tmp_path, SETTINGS) as node:
        yield node, [Leaver(node, random.Random(number)) for number in range(CLIENTS)]  # noqa: S311 - no secrets


def test_nothing_leaks_when_clients_leave_at_random(leavers: tuple[Node, list[Leaver]]) -> None:
    node, crowd_of = leavers
    crowd(crowd_of, REQUESTS // 3)  # pools and caches fill
    wait_until(lambda: at_rest(node), "at rest")
    descriptors, before = kept(node)
    crowd(crowd_of, REQUESTS)
    wait_until(lambda: at_rest(node), "at rest")
    wait_until(lambda: kept(node)[0] <= descriptors + 1, "the descriptors are back")
    grown = kept(node)[1] - before
    print(f"{REQUESTS} requests: {grown / 1024:.0f} kB more, {kept(node)[0] - descriptors} descriptors more")
    # libpq keeps the largest result of each connection; a leak of 1 kB a request would be more than this.
    assert grown < min(8_000_000, 800 * REQUESTS)
    told = sum((leaver.answers for leaver in crowd_of), Counter[int]())
    assert told[200] > REQUESTS // 4
    assert told.keys() <= {200, 404, 422, 503, 504}, told
    assert "a bug of ours" not in node.log
    assert "Traceback" not in node.log
