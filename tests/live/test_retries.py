"""Reads whose server is lost under them are answered by another; writes only where nothing was executed."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import psycopg2.extensions
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from gateway.errors import NoEndpoint, Outcome
from gateway.postgres import single
from gateway.rotation.endpoint import Role
from tests.live.databases import Desk, connect, plain, soon
from tests.live.gateways import Gateway, problem, running_marked, serving_queries, wait_until

QUERIES = """
-- name: marked_nap(mark, seconds)$
-- @param mark text
-- @param seconds float8
SELECT :mark FROM pg_sleep(:seconds);

-- name: count_things(mark, seconds)$
-- @param mark text
-- @param seconds float8
SELECT count(*) FROM things, pg_sleep(:seconds) WHERE :mark <> '';

-- name: short_nap(mark)$
-- @timeout 300ms
-- @param mark text
SELECT :mark FROM pg_sleep(5);

-- name: add_thing(name, seconds)<!
-- @param name text
-- @param seconds float8 = 0
INSERT INTO things SELECT :name FROM pg_sleep(:seconds) RETURNING name;

-- name: refuse_writes(name)!
-- @access write
INSERT INTO things SELECT switch_writes_off(:name);

-- name: where_am_i$
SELECT current_setting('cluster_name');
"""
TABLES = """
CREATE TABLE things (name text);
CREATE FUNCTION switch_writes_off(name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('transaction_read_only', 'on', true);
    INSERT INTO things VALUES (name);
    RETURN name;
END $$;
GRANT SELECT, INSERT ON things TO gateway;
"""
TERMINATE = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'gateway'"


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A cluster of our own, whose replicas cancel at once what hinders them."""
    with Cluster(replicas=2, settings={"max_standby_streaming_delay": "0"}) as cluster:
        cluster.primary.sql(f"CREATE DATABASE {shop.DATABASE}")
        cluster.primary.sql(f"CREATE ROLE {shop.ROLE} LOGIN IN ROLE pg_monitor")
        cluster.primary.sql(TABLES, shop.DATABASE)
        cluster.wait_until_caught_up()
        yield cluster


node = partial(serving_queries, QUERIES)


@pytest.fixture
def running(fragile: Cluster, tmp_path: Path) -> Iterator[Gateway]:
    fragile.wait_until_streaming()
    with node(fragile, tmp_path) as running:
        wait_until(lambda: len(running.health()["groups"]["read"]["rotation"]) == 2, "both replicas serve")
        yield running


class Crowd:
    """Requests in flight."""

    def __init__(self, running: Gateway) -> None:
        self._running = running
        self._threads = ThreadPoolExecutor(32)

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def send(self, query: str, headers: dict[str, str] | None = None, **arguments: Any) -> Future[httpx.Response]:
        return self._threads.submit(self._running.run, query, headers, **arguments)


def place(cluster: Cluster, mark: str) -> Server:
    """The server on which the query with this mark runs, once it does."""
    found: list[Server] = []

    def look() -> bool:
        found.extend(server for server in cluster.servers if running_marked(server, mark))
        return bool(found)

    wait_until(look, f"{mark} runs")
    return found[0]


def terminate(server: Server) -> None:
    server.sql(TERMINATE)


def terminate_everywhere(cluster: Cluster) -> None:
    """On all servers in the same moment: not here first, so that who flees there meets it again."""
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        cursors = [stack.enter_context(plain(server.dsn())) for server in cluster.servers]
        together = Barrier(len(cursors))

        def strike(cursor: psycopg2.extensions.cursor) -> None:
            together.wait()
            cursor.execute(TERMINATE)

        for done in [threads.submit(strike, cursor) for cursor in cursors]:
            done.result()


def test_a_read_whose_backend_is_terminated_is_answered_by_another_server(fragile: Cluster, running: Gateway) -> None:
    with Crowd(running) as crowd:
        nap = crowd.send("marked_nap", mark="cut", seconds=0.5)
        victim = place(fragile, "cut")
        terminate(victim)
        answer = nap.result()
    assert (answer.status_code, answer.json()) == (200, {"value": "cut"})
    assert answer.headers["Gateway-Attempts"] == "2"
    assert answer.headers["Gateway-Endpoint"] != victim.name


@pytest.mark.parametrize("worker", ["gthread", "sync"])
def test_it_is_so_in_threads_too(worker: str, fragile: Cluster, tmp_path: Path) -> None:
    with node(fragile, tmp_path, {"server": {"worker": worker}}) as running, Crowd(running) as crowd:
        nap = crowd.send("marked_nap", mark=worker, seconds=0.5)
        victim = place(fragile, worker)
        terminate(victim)
        answer = nap.result()
    assert (answer.status_code, answer.headers["Gateway-Attempts"]) == (200, "2")
    assert answer.headers["Gateway-Endpoint"] != victim.name


def test_a_read_answered_at_once_has_had_one_attempt_and_does_not_say_so(running: Gateway) -> None:
    assert "Gateway-Attempts" not in running.run("where_am_i").headers


def test_a_read_on_a_server_that_is_shut_down_is_answered_by_another(fragile: Cluster, running: Gateway) -> None:
    with Crowd(running) as crowd:
        nap = crowd.send("marked_nap", mark="shut", seconds=0.5)
        victim = place(fragile, "shut")
        victim.stop()
        try:
            answer = nap.result()
        finally:
            victim.start()
    assert (answer.status_code, answer.headers["Gateway-Attempts"]) == (200, "2")
    assert answer.headers["Gateway-Endpoint"] != victim.name


def test_all_backends_terminated_at_once_fail_no_read(fragile: Cluster, running: Gateway) -> None:
    with Crowd(running) as crowd:
        naps = [crowd.send("marked_nap", mark="all", seconds=2) for _ in range(16)]  # longer than it takes to see them
        wait_until(lambda: running.health()["groups"]["read"]["leased"] == 16, "all run")
        wait_until(lambda: sum(running_marked(each, "all") for each in fragile.replicas) == 16, "all run")
        terminate_everywhere(fragile)
        answers = [nap.result() for nap in naps]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert {answer.headers["Gateway-Attempts"] for answer in answers} == {"2"}


def test_a_recovery_conflict_is_answered_by_another_server(fragile: Cluster, running: Gateway) -> None:
    with Crowd(running) as crowd:
        counting = crowd.send("count_things", mark="conflict", seconds=1)
        victim = place(fragile, "conflict")
        fragile.primary.sql("TRUNCATE things", shop.DATABASE)
        answer = counting.result()
    assert answer.status_code == 200
    assert answer.headers["Gateway-Attempts"] == "2"
    assert answer.headers["Gateway-Endpoint"] != victim.name


def test_a_read_that_takes_too_long_blames_nobody_and_is_not_run_again(running: Gateway) -> None:
    late = running.run("short_nap", mark="late")
    problem(late, 504, "deadline_exceeded")
    assert "Gateway-Attempts" not in late.headers
    assert len(running.health()["groups"]["read"]["rotation"]) == 2


def test_when_nobody_is_left_the_answer_is_that_of_the_first_attempt(fragile: Cluster, tmp_path: Path) -> None:
    replica = fragile.replicas[0]
    groups = {"groups.read": {"endpoints": [replica.name], "fallback": "none"}, "groups.write": {}}
    with node(fragile, tmp_path, groups) as running, Crowd(running) as crowd:
        nap = crowd.send("marked_nap", {"Prefer": "wait=1.5"}, mark="alone", seconds=1)
        place(fragile, "alone")
        replica.kill()
        try:
            told = problem(nap.result(), 503, "connection_lost")
        finally:
            replica.start()
        assert (told["outcome"], told["retryable"]) == (None, True)
        assert "Gateway-Attempts" not in nap.result().headers


def test_a_single_server_that_drops_a_read_is_asked_again(fragile: Cluster, tmp_path: Path) -> None:
    with node(fragile, tmp_path, servers=(fragile.primary,)) as running, Crowd(running) as crowd:
        nap = crowd.send("marked_nap", mark="again", seconds=0.4)
        terminate(place(fragile, "again"))
        answer = nap.result()
    assert (answer.status_code, answer.headers["Gateway-Attempts"]) == (200, "2")
    assert answer.headers["Gateway-Endpoint"] == "primary"


def test_reads_are_run_again_only_within_the_budget(fragile: Cluster, tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "server": {"retry_budget": 0.0},
        "groups.read": {"size": 2},
        "groups.write": {},
    }
    with node(fragile, tmp_path, settings, servers=(fragile.primary,)) as running, Crowd(running) as crowd:
        answers = []
        for turn in range(4):
            nap = crowd.send("marked_nap", mark=f"turn{turn}", seconds=0.3)
            place(fragile, f"turn{turn}")
            terminate(fragile.primary)
            answers.append(nap.result())
    assert [answer.status_code for answer in answers] == [200, 200, 503, 503]
    assert [answer.headers.get("Gateway-Attempts") for answer in answers] == ["2", "2", None, None]
    problem(answers[3], 503, "connection_lost")


def test_a_write_that_may_have_been_executed_is_not_done_again(fragile: Cluster, running: Gateway) -> None:
    with Crowd(running) as crowd:
        write = crowd.send("add_thing", name="once", seconds=0.5)
        assert place(fragile, "once") is fragile.primary
        terminate(fragile.primary)
        told = problem(write.result(), 503, "connection_lost")
    assert told["outcome"] == "unknown"
    assert "Gateway-Attempts" not in write.result().headers
    time.sleep(0.6)  # what a second attempt would take
    assert fragile.primary.sql("SELECT count(*) FROM things WHERE name = 'once'", shop.DATABASE).strip() == "0"


def test_a_primary_restarted_in_place_makes_writes_wait(fragile: Cluster, running: Gateway) -> None:
    assert running.run("add_thing", name="before").status_code == 200
    with Crowd(running) as crowd:
        fragile.primary.stop()
        writes = [crowd.send("add_thing", name=f"waiting{number}") for number in range(8)]
        wait_until(lambda: running.health()["groups"]["write"]["waiting"] == 8, "all wait")
        fragile.primary.start()
        answers = [write.result() for write in writes]
    assert {(answer.status_code, answer.json().get("outcome")) for answer in answers} == {(200, "committed")}
    count = "SELECT count(*) FROM things WHERE name LIKE 'waiting%'"
    assert fragile.primary.sql(count, shop.DATABASE).strip() == "8"


def test_a_primary_on_which_writes_are_switched_off_is_not_asked_again(running: Gateway) -> None:
    told = problem(running.run("refuse_writes", name="x"), 503, "backend_unavailable")
    assert (told["sqlstate"], told["outcome"]) == ("25006", "not_executed")
    assert running.health()["groups"]["write"]["rotation"] == ["primary"]


def test_a_replica_behind_a_pooler_is_known_by_its_refusal(fragile: Cluster, tmp_path: Path) -> None:
    """Answers do not tell the role there, so the one of the connect is all there is until a write is refused."""
    connection = connect(shop.dsn(fragile.replicas[0]), prepare=False)
    connection._role = Role.PRIMARY
    plan = Desk(connection, tmp_path / "queries").plan("-- name: q()!\nINSERT INTO things VALUES ('x')")
    with closing(connection), pytest.raises(NoEndpoint) as caught:
        single.run(connection, plan, [], deadline=soon())
    assert (caught.value.sqlstate, caught.value.outcome) == ("25006", Outcome.NOT_EXECUTED)
    assert connection.role is Role.REPLICA
