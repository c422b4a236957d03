"""Which writes share a question for their token."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from gateway.errors import ConnectionLost, GatewayError
from gateway.execution import tokens
from gateway.execution.tokens import Tokens
from gateway.postgres.marks import Origin
from gateway.postgres.run import Run
from gateway.postgres.tokens import Token
from gateway.waiting import ThreadWaits

HERE, THERE = Origin(system=7, life=1), Origin(system=7, life=2)


class Server:
    """Answers questions for its position when it is let, each with a later one."""

    def __init__(self) -> None:
        self.position = 1000
        self.asked = threading.Semaphore(0)
        self.answers = threading.Semaphore(0)
        self.is_broken = False

    def answer(self) -> list[tuple[str | None, ...]]:
        self.asked.release()
        assert self.answers.acquire(timeout=10)
        if self.is_broken:
            self.is_broken = False
            raise ConnectionLost("gone")
        self.position += 1000
        return [(str(self.position), "1")]


class Connection:
    """As much of a session as a token takes."""

    def __init__(self, server: Server, origin: Origin | None = HERE, *, prepares: bool = True) -> None:
        self.run = Run(0.0)
        self.prepares = prepares
        self._server = server
        self._origin = origin

    def origin(self) -> Origin | None:
        return self._origin

    def ask(self, _sql: str, _deadline: float) -> list[tuple[str | None, ...]]:
        return self._server.answer()


class View:
    system = "7"


class Lease:
    """As much of a lease."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.view = View()


class Desk:
    """Writes that ask for their tokens, each in a thread of its own."""

    def __init__(self, crowd: ThreadPoolExecutor) -> None:
        self.server = Server()
        self.tokens = Tokens(ThreadWaits())
        self._crowd = crowd

    def commit(self, connection: Connection | None = None, seconds: float = 10.0) -> "Future[str | None]":
        lease: Any = Lease(connection or Connection(self.server))
        return self._crowd.submit(self.tokens.after_commit, lease, monotonic() + seconds)

    def waiting(self, count: int, origin: Origin = HERE) -> None:
        """Return once so many writes wait for the question that is under way to be answered."""
        ends = monotonic() + 10
        while len(self.tokens._waiting.get(origin, [])) != count:
            assert monotonic() < ends
            threading.Event().wait(0.001)


def at(position: int) -> str:
    return str(Token(system=7, timeline=1, position=position))


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(tokens, "TIMEOUT", 30.0)
    with ThreadPoolExecutor(20) as crowd:
        yield Desk(crowd)


def test_one_write_asks_for_itself(desk: Desk) -> None:
    for position in (2000, 3000):
        token = desk.commit()
        desk.server.answers.release()
        assert token.result(10) == at(position)
    assert not desk.tokens._waiting


def test_writes_that_commit_during_a_question_are_answered_by_the_next_one_together(desk: Desk) -> None:
    first = desk.commit()
    assert desk.server.asked.acquire(timeout=10)
    later = [desk.commit() for _ in range(5)]
    desk.waiting(5)
    desk.server.answers.release()
    assert first.result(10) == at(2000)
    assert desk.server.asked.acquire(timeout=10)
    last = desk.commit()
    desk.waiting(1)
    desk.server.answers.release()
    assert [token.result(10) for token in later] == [at(3000)] * 5
    desk.server.answers.release()
    assert last.result(10) == at(4000)
    assert not desk.tokens._waiting


def test_another_server_is_asked_for_itself(desk: Desk) -> None:
    desk.commit()
    assert desk.server.asked.acquire(timeout=10)
    desk.commit(Connection(desk.server, THERE))
    assert desk.server.asked.acquire(timeout=10)
    desk.commit(Connection(desk.server, None))
    assert desk.server.asked.acquire(timeout=10)
    desk.commit(Connection(desk.server, prepares=False))
    assert desk.server.asked.acquire(timeout=10)
    desk.server.answers.release(4)


def test_when_the_connection_breaks_that_asked_for_all_each_asks_for_itself(desk: Desk) -> None:
    first = desk.commit()
    assert desk.server.asked.acquire(timeout=10)
    later = [desk.commit() for _ in range(3)]
    desk.waiting(3)
    desk.server.answers.release()
    assert first.result(10) == at(2000)
    assert desk.server.asked.acquire(timeout=10)
    desk.server.is_broken = True
    desk.server.answers.release(3)
    told = [token.result(10) for token in later]
    assert told.count(None) == 1
    assert {token for token in told if token is not None} == {at(3000), at(4000)}


def test_a_write_that_has_waited_for_long_enough_goes_without(desk: Desk) -> None:
    first = desk.commit()
    assert desk.server.asked.acquire(timeout=10)
    assert desk.commit(seconds=0.02).result(10) is None
    desk.server.answers.release()
    assert first.result(10) == at(2000)
    assert not desk.tokens._waiting


def test_a_server_that_does_not_say_who_it_is_costs_nobody_else_a_token(desk: Desk) -> None:
    class Silent(Connection):
        def origin(self) -> Origin | None:
            raise GatewayError("no")

    token = desk.commit(Silent(desk.server))
    desk.server.answers.release()
    assert token.result(10) == at(2000)
