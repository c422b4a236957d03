"""Many requests at once in one process: nobody gets another's answer, nobody waits for ever, every lease comes home."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import psycopg2
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import QUERIES, Gateway, serving, wait_until, with_tables

NARROW = """
-- name: narrow_nap(seconds)$
-- @group narrow
-- @timeout 3s
-- @param seconds float8
SELECT 'awake' FROM pg_sleep(:seconds);

-- name: lonely_rename(name, seconds)!
-- @group lonely
-- @timeout 3s
-- @param seconds float8
UPDATE suite.things SET size = size + 1 FROM pg_sleep(:seconds) WHERE name = :name;
"""
SETTINGS = {
    "server": {"worker": "gthread", "threads": 64, "verbose_errors": True},
    "groups.read": {"access": "read", "size": 8},
    "groups.write": {"access": "write", "size": 4},
    "groups.narrow": {"access": "read", "size": 2, "queue": 2},
    "groups.lonely": {"access": "write", "size": 1, "queue": 1},
}
AT_ONCE = 50
REQUESTS = 400


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "narrow.sql").write_text(NARROW)
    paths = [folder / "narrow.sql", QUERIES, shop.QUERIES]
    with with_tables(cluster), serving(cluster, folder, SETTINGS, paths=paths) as running:
        yield running


@pytest.fixture
def crowd() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield threads


def group(node: Gateway, name: str) -> dict[str, Any]:
    told: dict[str, Any] = node.health()["groups"][name]
    return told


def counts(node: Gateway, name: str) -> tuple[int, int]:
    told = group(node, name)
    return told["leased"], told["waiting"]


def all_home(node: Gateway) -> bool:
    health = node.health()
    return sum(each["in_flight"] for each in health["workers"]) == 1 and all(
        each["leased"] == each["waiting"] == 0 for each in health["groups"].values()
    )


def ask(client: httpx.Client, number: int) -> tuple[str, Any]:
    """One request of a mixed crowd: what came, and what should have."""
    mark = f"mark-{number}"
    match number % 8:
        case 0 | 1 | 2:
            return "200 " + mark, _told(client.post("/query/echo_text", json={"x": mark}))
        case 3:
            return "422 " + mark, _told(
                client.post("/query/echo_int4", json={"x": "no"}, headers={"X-Request-Id": mark})
            )
        case 4:
            return "400 " + mark, _told(client.post("/query/refuse", json={"message": mark}))
        case 5:
            headers = {"Prefer": "wait=0.1", "X-Request-Id": mark}
            return "50x " + mark, _told(client.post("/query/nap", json={"seconds": 9}, headers=headers))
        case 6:
            return "200 " + mark, _told(client.post("/query/add_thing", json={"name": mark}))
        case _:
            return "200 " + mark, _told(client.get("/query/marked_nap", params={"mark": mark, "seconds": "0.01"}))


def _told(answer: httpx.Response) -> str:
    body = answer.json()
    match answer.status_code:
        case 200:
            return f"200 {body['value'] if 'value' in body else body['row']['name']}"
        case 400:
            return f"400 {body['title']}"
        case 503 | 504:  # at the deadline, in the queue or on the server; or at once, where it could not be met
            assert body["code"] in ("pool_timeout", "queue_full", "deadline_exceeded")
            return f"50x {body['request_id']}"
        case status:
            return f"{status} {body['request_id']}"


def test_everybody_gets_their_own_answer_and_every_lease_comes_home(node: Gateway, crowd: ThreadPoolExecutor) -> None:
    here = threading.local()
    clients: list[httpx.Client] = []

    def one(number: int) -> tuple[str, str]:
        if not hasattr(here, "client"):
            here.client = node.new_client()
            clients.append(here.client)
        return ask(here.client, number)

    numbers = random.Random(7).sample(range(REQUESTS), REQUESTS)  # noqa: S311 - an order, not a secret
    answers = list(crowd.map(one, numbers))
    for client in clients:
        client.close()
    assert [told for _, told in answers] == [wanted for wanted, _ in answers]
    wait_until(lambda: all_home(node), "every lease is home")
    for told in node.health()["groups"].values():
        assert told["idle"] + told["empty"] == told["size"]
    assert "a bug of ours" not in node.log


def test_a_full_pool_says_how_full_it_is_and_a_full_queue_refuses_at_once(
    node: Gateway, crowd: ThreadPoolExecutor
) -> None:
    def nap(seconds: float, wait: float) -> "Future[httpx.Response]":
        return crowd.submit(node.run, "narrow_nap", {"Prefer": f"wait={wait}"}, seconds=seconds)

    sleeping = [nap(2, 5), nap(2, 5)]
    wait_until(lambda: counts(node, "narrow")[0] == 2, "both connections are leased")
    began = time.monotonic()
    waiting = [nap(0, 0.8), nap(0, 0.8)]
    wait_until(lambda: counts(node, "narrow") == (2, 2), "two wait")
    refused = node.run("narrow_nap", seconds=0)
    assert time.monotonic() - began < 0.75
    assert (refused.status_code, refused.json()["code"]) == (503, "queue_full")
    assert refused.headers["Retry-After"] == "1"
    late = waiting[0].result()
    assert 0.8 <= time.monotonic() - began < 1.9
    assert (late.status_code, late.json()["code"]) == (503, "pool_timeout")
    assert late.json()["detail"].startswith("group narrow: 2 leased, 0 idle, 0 empty, ")
    assert (late.json()["outcome"], late.json()["retryable"]) == (None, True)
    assert waiting[1].result().status_code == 503
    assert [answer.result().json() for answer in sleeping] == [{"value": "awake"}] * 2
    assert counts(node, "narrow") == (0, 0)


def test_a_write_that_got_no_connection_was_not_executed(node: Gateway, crowd: ThreadPoolExecutor) -> None:
    node.run("add_thing", name="lonely")
    slow = crowd.submit(node.run, "lonely_rename", name="lonely", seconds=0.6)
    wait_until(lambda: counts(node, "lonely")[0] == 1, "the connection is leased")
    late = node.run("lonely_rename", {"Prefer": "wait=0.2"}, name="lonely", seconds=0)
    assert (late.status_code, late.json()["code"], late.json()["outcome"]) == (503, "pool_timeout", "not_executed")
    assert slow.result().json() == {"affected": 1, "outcome": "committed"}


def test_a_write_that_waits_for_a_lock_says_so_before_its_deadline(node: Gateway, cluster: Cluster) -> None:
    node.run("add_thing", name="locked")
    somebody = psycopg2.connect(cluster.primary.dsn(shop.DATABASE))
    try:
        somebody.cursor().execute("SELECT FROM suite.things WHERE name = 'locked' FOR UPDATE")
        began = time.monotonic()
        refused = node.run("rename_thing", {"Prefer": "wait=0.4"}, name="locked", new_name="other")
        assert time.monotonic() - began < 2
    finally:
        somebody.close()
    told = refused.json()
    assert (refused.status_code, told["code"], told["outcome"]) == (503, "lock_timeout", "rolled_back")


class TestVerboseErrors:
    def test_the_servers_own_words_are_shown_where_that_is_switched_on(self, node: Gateway) -> None:
        broken = node.run("broken_at_run").json()
        assert 'relation "suite.gone_since" does not exist' in broken["detail"]
        refused = node.run("several", a=1, c="no-date").json()
        assert 'invalid input syntax for type date: "no-date"' in refused["detail"]

    def test_the_fault_of_a_query_is_told_in_the_catalogue(self, node: Gateway) -> None:
        fault = node.client.get("/queries/broken_at_start").json()["fault"]
        assert 'relation "suite.there_is_no_such_table" does not exist' in fault
