"""Callers at the same time, answered together by a running gateway: each gets its own answer, and its own failure."""

import http.client
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from threading import Event
from typing import Any, NamedTuple

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live import poolers
from tests.live.gateways import Gateway, serving_queries, wait_until

pytestmark = pytest.mark.skipif(
    poolers.MODE == "transaction", reason="where nothing can be prepared each call is run by itself"
)

QUERIES = """
-- name: own(id)^
-- @param id int4
SELECT :id AS id, pg_backend_pid() AS pid, statement_timestamp()::text AS at;

-- name: apart(id)^
-- @param id int4
-- @join off
SELECT :id AS id, pg_backend_pid() AS pid, statement_timestamp()::text AS at;

-- name: share(id, of)^
-- @param id int4
-- @param of int4
SELECT :id AS id, :of / nullif(:id % 50, 0) AS part, 1 / (:id % 50) AS exact;

-- name: same^
SELECT pg_backend_pid() AS pid, statement_timestamp()::text AS at;

-- name: long(id)^
-- @param id int4
-- @join on
SELECT :id AS id, pg_backend_pid() AS pid, statement_timestamp()::text AS at FROM pg_sleep(3.0);

-- name: found(id, all_of_them)
-- @param id int4
-- @param all_of_them bool = false
SELECT id FROM products WHERE :all_of_them::bool OR id = :id;
"""
CALLERS, EACH = 32, 60
ENDS_ALL = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'pg-query-gateway%'"
)


class Reply(NamedTuple):
    asked: int
    status: int
    body: dict[str, Any]
    headers: dict[str, str]


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings: dict[str, dict[str, Any]] = {"server": {"workers": 1}, "groups.read": {"access": "read", "size": 8}}
    with serving_queries(QUERIES, cluster, tmp_path_factory.mktemp("joined"), settings) as running:
        yield running


def crowd(
    node: Gateway, query: str, *, each: int = EACH, headers: Callable[[int], dict[str, str]] = lambda _: {}, **more: Any
) -> list[Reply]:
    """What so many callers are answered who ask again and again at the same time, no two for the same ``id``."""

    def ask(caller: int) -> list[Reply]:
        connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)
        replies = []
        for number in range(each):
            asked = caller * each + number + 1
            body = {"id": asked, **more} if query != "same" else {}
            connection.request("POST", f"/query/{query}", json.dumps(body), headers(asked))
            answer = connection.getresponse()
            replies.append(
                Reply(
                    asked,
                    answer.status,
                    json.loads(answer.read()),
                    {name.lower(): value for name, value in answer.getheaders()},
                )
            )
        connection.close()
        return replies

    with ThreadPoolExecutor(CALLERS) as threads:
        return [reply for replies in threads.map(ask, range(CALLERS)) for reply in replies]


def described(node: Gateway, query: str) -> dict[str, Any]:
    told: dict[str, Any] = node.client.get(f"/queries/{query}").json()
    return told


def get_joined(node: Gateway, query: str, **more: Any) -> None:
    """Have callers come at the same time until the query's calls are joined."""

    def is_joined() -> bool:
        crowd(node, query, each=20, **more)
        return bool(described(node, query)["joined"])

    wait_until(is_joined, f"calls of {query} are joined")


def statements(replies: list[Reply]) -> Counter[tuple[int, str]]:
    """How many calls each statement answered: what it says of itself is the same for all of them."""
    return Counter((reply.body["row"]["pid"], reply.body["row"]["at"]) for reply in replies)


class TestACrowd:
    def test_each_is_answered_its_own_and_many_by_one_statement(self, node: Gateway) -> None:
        get_joined(node, "own")
        replies: list[Reply] = []
        while not replies or max(statements(replies).values()) < 2:
            replies = crowd(node, "own")
            assert [(reply.status, reply.body["row"]["id"]) for reply in replies] == [(200, r.asked) for r in replies]
        assert len({reply.headers["x-request-id"] for reply in replies}) == len(replies)
        assert all("Server-Timing".lower() in reply.headers for reply in replies)

    def test_a_query_without_arguments_is_run_once_for_several(self, node: Gateway) -> None:
        replies: list[Reply] = []
        while not replies or max(statements(replies).values()) < 2:
            replies = crowd(node, "same")
            assert {reply.status for reply in replies} == {200}

    def test_one_that_is_annotated_so_is_never_joined(self, node: Gateway) -> None:
        replies = crowd(node, "apart")
        assert max(statements(replies).values()) == 1
        told = described(node, "apart")
        assert (told["joined"], told["not_joined"]) == (False, "it is annotated with @join off")

    def test_whoever_divides_by_zero_fails_alone(self, node: Gateway) -> None:
        get_joined(node, "own")
        replies = crowd(node, "share", of=100)
        for reply in replies:
            if reply.asked % 50 == 0:
                assert (reply.status, reply.body["code"]) == (422, "invalid_arguments")
            else:
                assert (reply.status, reply.body["row"]["id"]) == (200, reply.asked)

    def test_what_is_planned_by_its_arguments_is_not_joined(self, node: Gateway) -> None:
        wait_until(
            lambda: crowd(node, "found", each=10) and described(node, "found")["not_joined"] is not None,
            "it is judged",
        )

    def test_callers_of_a_slow_query_and_of_a_fast_one_do_not_wait_for_each_other(self, node: Gateway) -> None:
        get_joined(node, "own")
        slow_callers = 6  # of a group with eight connections
        with ThreadPoolExecutor(slow_callers) as threads:
            slow = [threads.submit(node.client.post, "/query/long", json={"id": n}) for n in range(slow_callers)]
            wait_until(
                lambda: node.health()["groups"]["read"]["leased"] == slow_callers, "all of them have a connection"
            )
            fast = crowd(node, "own", each=10)
            assert not any(call.done() for call in slow), "the fast ones waited for the slow ones"
            assert {call.result().status_code for call in slow} == {200}
        assert {reply.status for reply in fast} == {200}
        assert len({call.result().json()["row"]["pid"] for call in slow}) == slow_callers, "the slow ones were joined"

    def test_callers_with_little_time_do_not_end_the_others(self, node: Gateway) -> None:
        get_joined(node, "own")
        replies = crowd(node, "own", headers=lambda asked: {"Prefer": "wait=0.02"} if asked % 10 == 0 else {})
        assert {reply.status for reply in replies if reply.asked % 10} == {200}
        assert {reply.status for reply in replies if not reply.asked % 10} <= {200, 503, 504}
        assert all(reply.body["row"]["id"] == reply.asked for reply in replies if reply.status == 200)


def test_while_sessions_are_ended_again_and_again_nobody_fails_or_gets_the_row_of_another(
    node: Gateway, cluster: Cluster
) -> None:
    get_joined(node, "own")
    over = Event()

    def end_all() -> int:
        for rounds, server in enumerate(cycle(cluster.servers)):  # on one server, then on another one
            if over.wait(0.3):
                return rounds
            server.sql(ENDS_ALL, shop.DATABASE)
        raise AssertionError("a cycle has no end")

    with ThreadPoolExecutor(1) as background:
        ending = background.submit(end_all)
        replies: list[Reply] = []
        while len(replies) < 10_000 and not ending.done():
            replies += crowd(node, "own")
        over.set()
        assert ending.result() > 2
    assert Counter(reply.status for reply in replies) == {200: len(replies)}
    assert all(reply.body["row"]["id"] == reply.asked for reply in replies)
