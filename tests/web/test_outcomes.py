"""How often servers are asked what became of a write; the answers are judged in ``tests/postgres``."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import falcon
import falcon.testing

from gateway.execution.outcomes import MOST_QUESTIONS, Outcomes
from gateway.postgres.marks import Mark
from gateway.waiting import ThreadWaits
from gateway.web.messages import Response
from gateway.web.outcomes import OutcomeResource

MARK = Mark(system=7, timeline=3, xid=3, position=1, life=100, taken=0)


class Server:
    """A primary that has not come to the mark's timeline until it has been asked so often."""

    access_write = True

    def __init__(self, *, there_after: float = float("inf")) -> None:
        self.asked = 0
        self._there_after = there_after

    @property
    def connection(self) -> "Server":
        return self

    @contextmanager
    def lease(self, _: float) -> Iterator["Server"]:
        yield self

    def ask(self, sql: str, _: float) -> list[tuple[str]]:
        if "pg_xact_status" in sql:
            return [("committed",)]
        self.asked += 1
        timeline = 3 if self.asked > self._there_after else 2
        told = {"system": "7", "writable": True, "timeline": timeline, "life": 100, "recovered_to": None}
        return [(json.dumps({**told, "promoted": False}),)]


class Servers(dict[str, Server]):
    """In the place of the pool."""

    @property
    def groups(self) -> "Servers":
        return self


def outcome(**servers: Server) -> str:
    """What the route answers who would wait for twenty seconds."""
    pool: Any = Servers(servers)
    app: falcon.App[Any, Any] = falcon.App(middleware=[Arrival()], response_type=Response)
    app.add_route("/outcome/{mark}", OutcomeResource(outcomes=Outcomes(pool=pool, waits=ThreadWaits()), timeout=20.0))
    answer: str = falcon.testing.TestClient(app).simulate_get(f"/outcome/{MARK.token()}").json["outcome"]
    return answer


class Arrival:
    """Notes when a request came."""

    def process_request(self, request: falcon.Request, _: falcon.Response) -> None:
        request.context.arrived = monotonic()


def test_what_nobody_can_tell_yet_is_asked_for_a_few_times_only() -> None:
    server = Server()
    assert outcome(write=server) == "unknown"
    assert server.asked == MOST_QUESTIONS


def test_what_is_known_a_moment_later_is_told() -> None:
    server = Server(there_after=2)
    assert outcome(write=server) == "committed"
    assert server.asked == 3
