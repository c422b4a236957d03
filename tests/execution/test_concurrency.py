"""Calls of queries that have a limit to how many run at once."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.errors import RateLimited
from gateway.events import ignore
from gateway.execution.call import Answer
from gateway.execution.concurrency import Concurrency
from gateway.node.occupancy import Occupancy
from tests.execution.samples import query, single, transaction

READ, FREE, WRITE = query(), query("free"), query("pay", write=True)


@pytest.fixture
def concurrency() -> Concurrency:
    """One call at a time of two queries."""
    names = (READ.name, WRITE.name)
    return Concurrency({name: Occupancy(name, 1, directory=None, workers=1, observe=ignore) for name in names})


def answered(_call: Any) -> Answer:
    return Answer(body=b"{}")


def during(what: Callable[[], object]) -> Callable[[Any], Answer]:
    """What runs a call and does something else meanwhile."""

    def run(_call: Any) -> Answer:
        what()
        return Answer(body=b"{}")

    return run


def test_one_more_than_may_is_refused_and_has_not_run(concurrency: Concurrency) -> None:
    def second() -> None:
        with pytest.raises(RateLimited, match="as many calls of orders are running as may at once"):
            concurrency.run(single(READ), answered)

    concurrency.run(single(READ), during(second))
    assert concurrency.run(single(READ), answered).body == b"{}"


def test_a_query_without_a_limit_runs_beside_it(concurrency: Concurrency) -> None:
    concurrency.run(single(READ), during(lambda: concurrency.run(single(FREE), answered)))


def test_a_transaction_takes_room_for_each_of_its_queries_or_none(concurrency: Concurrency) -> None:
    def meanwhile() -> None:
        with pytest.raises(RateLimited):
            concurrency.run(transaction(WRITE, READ, READ), answered)
        concurrency.run(single(WRITE), answered)

    concurrency.run(single(READ), during(meanwhile))
    assert concurrency.run(transaction(READ, READ, WRITE), answered).body == b"{}"


def test_room_is_given_back_where_the_call_fails(concurrency: Concurrency) -> None:
    def fail() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        concurrency.run(single(READ), during(fail))
    concurrency.run(single(READ), answered)


def test_an_answer_that_is_still_being_sent_keeps_its_room(concurrency: Concurrency) -> None:
    given_up: list[str] = []
    held = ExitStack()
    held.callback(given_up.append, "lease")
    answer = concurrency.run(single(READ), lambda _call: Answer(body=b"{}", held=held))
    assert given_up == []
    with pytest.raises(RateLimited):
        concurrency.run(single(READ), answered)
    answer.close()
    assert given_up == ["lease"]
    concurrency.run(single(READ), answered)
