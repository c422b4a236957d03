"""Makes works of query texts and arguments, and runs them as one transaction."""

from collections.abc import Callable, Sequence
from typing import Any

import psycopg2.extensions
import pytest

from gateway.catalogue.json_text import split_object
from gateway.errors import GatewayError
from gateway.postgres import transaction
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from gateway.postgres.work import Step, Work
from tests.live.databases import Desk, soon
from tests.live.sessions import (
    INSERT,
)

RETURNING = "-- name: q<!\nINSERT INTO log VALUES (:id, :word) RETURNING id, word"
SERIALIZABLE = "BEGIN ISOLATION LEVEL SERIALIZABLE"


class Bench:
    """Makes works of query texts and arguments, and runs them."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.connection = desk.connection

    def steps(self, *steps: tuple[str, str]) -> list[Step]:
        return [Step(self.desk.plan(text), constant(self.desk, text, arguments)) for text, arguments in steps]

    def work(self, *steps: tuple[str, str], piled: bool = False, **more: Any) -> Work:
        accumulated = Plan.accumulating(*self.desk.learn(steps[0][0])) if piled else None
        assert accumulated is not None or not piled
        return Work(self.steps(*steps), encode, accumulated=accumulated, **more)

    def run(self, *steps: tuple[str, str], deadline: float | None = None, **more: Any) -> str:
        """The rows of all results, or the count where there are none."""
        work = self.work(*steps, **more)
        answer = transaction.run(self.connection, work, deadline=soon() if deadline is None else deadline)
        assert self.connection.settle(soon())
        return answer.body.decode()

    def fail(self, *steps: tuple[str, str], deadline: float | None = None, **more: Any) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            self.run(*steps, deadline=deadline, **more)
        if not self.connection.closed:
            assert self.connection.settle(soon())
        return caught.value


def constant(desk: Desk, text: str, arguments: str) -> Callable[[Sequence[Result]], Sequence[str]]:
    *_, binder = desk._known(text)
    literals = binder.bind_json(split_object(arguments.encode()))
    return lambda _: literals


def encode(results: Sequence[Result]) -> bytes:
    return b"|".join(result.text or b"%d" % result.row_count for result in results)


def inserts(*ids: int) -> list[tuple[str, str]]:
    return [(INSERT, f'{{"id": {number}}}') for number in ids]


def returning(*ids: int) -> list[tuple[str, str]]:
    return [(RETURNING, f'{{"id": {number}, "word": "w"}}') for number in ids]


def waits_for_a_lock(cursor: psycopg2.extensions.cursor, pid: int) -> bool:
    cursor.execute(f"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}")
    return bool(cursor.fetchall()[0][0])
