"""A small steady load on a node, from clients that keep their connections: what failed, and which writes there are."""

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, Self

import httpx

from tests.live.gateways import Gateway

QUERIES = """
-- name: read_entry(id)^
SELECT max(id) AS id FROM entries WHERE id <= :id;

-- name: write_entry(id)!
-- @outcome tracked
INSERT INTO entries VALUES (:id);
"""
TABLE = "CREATE TABLE entries (id int8 PRIMARY KEY); GRANT SELECT, INSERT ON entries TO gateway"
PAUSE = 0.005
"""Seconds between two requests of a client."""


class Steady:
    """``with Steady(node) as load:`` two clients read, one writes numbers in their order."""

    def __init__(self, node: Gateway, *, first: int = 1) -> None:
        self._node = node
        self._next = first
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._read)]
        self._threads.append(threading.Thread(target=self._write))
        self.failed_reads: list[str] = []
        self.reads: Counter[str] = Counter()
        """By the endpoint that answered."""
        self.outcomes: dict[int, str] = {}
        """Of each write, by its number."""
        self.gap = 0.0
        """The longest time between two writes that were committed."""

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def committed(self) -> int:
        """How many writes were."""
        return Counter(self.outcomes.values())["committed"]

    def missing(self, there: set[int]) -> set[int]:
        """Numbers that were said to be committed and are not there, or were said not to be and are."""
        said = {outcome: {number for number, of in self.outcomes.items() if of == outcome} for outcome in _OUTCOMES}
        return (said["committed"] - there) | ((said["not_executed"] | said["rolled_back"]) & there)

    def _read(self) -> None:
        with self._node.new_client() as client:
            while not self._ended.wait(PAUSE):
                try:
                    answer = client.post("/query/read_entry", json={"id": self._next})
                except httpx.TransportError as error:
                    self.failed_reads.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.reads[answer.headers["Gateway-Endpoint"]] += 1
                else:
                    self.failed_reads.append(answer.text)

    def _write(self) -> None:
        last = time.monotonic()
        with self._node.new_client() as client:
            while not self._ended.wait(PAUSE):
                number, self._next = self._next, self._next + 1
                body = _body(client, number)
                self.outcomes[number] = body.get("outcome", "not_executed")
                if self.outcomes[number] == "committed":
                    now = time.monotonic()
                    self.gap, last = max(self.gap, now - last), now


_OUTCOMES = ("committed", "rolled_back", "not_executed", "unknown")


def _body(client: httpx.Client, number: int) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = client.post("/query/write_entry", json={"id": number}).json()
    except httpx.TransportError:
        return {"outcome": "unknown"}
    return answer
