"""Fresh reads: with the token of a write, or with a limit to the lag, while replicas lag and servers change roles."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import psycopg2.extensions
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from gateway.errors import TooStale
from gateway.postgres import guarding
from gateway.postgres.tokens import Token
from tests.live.databases import Desk, connect, plain, soon
from tests.live.gateways import Gateway, problem, serving_queries, wait_until

ROUNDS = int(os.environ.get("CONSISTENCY_ROUNDS", "600"))
"""Writes, each with a read that must see it."""
HEADER = "Gateway-Consistency-Token"
QUERIES = """
-- name: put(key, value)^
-- @access write
INSERT INTO notes VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING value;

-- name: put_many(count) :many
-- @max_rows 2
-- @param count int4
INSERT INTO notes SELECT -i, i FROM generate_series(1, :count) AS i ON CONFLICT (key) DO NOTHING RETURNING key;

-- name: get(key)$
SELECT value FROM notes WHERE key = :key;

-- name: divide(a, b)$
-- @param a int4
-- @param b int4
SELECT :a / :b;

-- name: number(text)$
-- @param text text
SELECT (:text)::int;

-- name: note_rows(n) :many
-- @param n int4
SELECT key, value FROM notes ORDER BY key LIMIT :n;

-- name: sessions()$
SELECT count(*) FROM sessions;
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Cluster]:
    """A cluster of our own, whose replicas may be held up."""
    with Cluster(replicas=2) as cluster:
        cluster.primary.sql(f"CREATE DATABASE {shop.DATABASE}")
        cluster.primary.sql(f"CREATE ROLE {shop.ROLE} LOGIN IN ROLE pg_monitor")
        tables = "CREATE TABLE notes (key int PRIMARY KEY, value int); GRANT SELECT, INSERT, UPDATE ON notes TO gateway"
        tables += "; CREATE UNLOGGED TABLE sessions (id int); GRANT SELECT ON sessions TO gateway"
        cluster.primary.sql(tables, shop.DATABASE)
        cluster.wait_until_caught_up()
        yield cluster


node = partial(serving_queries, QUERIES)


@pytest.fixture(scope="module")
def running(pair: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with node(pair, tmp_path_factory.mktemp("fresh")) as running:
        wait_until(lambda: both_serve(running), "both replicas serve")
        yield running


def test_an_unlogged_table_is_read_on_the_primary_as_replicas_have_not_its_rows(running: Gateway) -> None:
    answers = [running.run("sessions") for _ in range(6)]
    assert {(answer.json()["value"], answer.headers["Gateway-Endpoint"]) for answer in answers} == {(0, "primary")}
    listed = running.client.post("/query/sessions", json=[{}, {}])
    assert (listed.json(), listed.headers["Gateway-Endpoint"]) == ({"results": [{"value": 0}] * 2}, "primary")


def both_serve(running: Gateway) -> bool:
    return len(running.health()["groups"]["read"]["rotation"]) == 2


@contextmanager
def held_up(*servers: Server) -> Iterator[None]:
    """These replicas receive and do not replay."""
    for server in servers:
        server.sql("SELECT pg_wal_replay_pause()")
        wait_until(lambda: server.sql("SELECT pg_get_wal_replay_pause_state()").strip() == "paused", "paused")  # noqa: B023
    try:
        yield
    finally:
        for server in servers:
            server.sql("SELECT pg_wal_replay_resume()")


def write(running: Gateway, key: int, value: int) -> str:
    """The token of a write."""
    answer = running.run("put", key=key, value=value)
    assert answer.status_code == 200, answer.text
    return answer.headers[HEADER]


class Staller:
    """Holds up the replicas now and then, each in its own time, for as long as the ``with`` lasts."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._over = Event()

    def __enter__(self) -> None:
        self._threads = [Thread(target=self._stall, args=(server,)) for server in self._cluster.replicas]
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _stall(self, server: Server) -> None:
        dice = random.Random(server.name)  # noqa: S311 -- nothing is secret here
        with plain(server.dsn()) as cursor:
            while not self._over.wait(dice.uniform(0, 0.05)):
                cursor.execute("SELECT pg_wal_replay_pause()")
                self._over.wait(dice.choice([0.005, 0.02, 0.1, 0.3]))
                cursor.execute("SELECT pg_wal_replay_resume()")
            cursor.execute("SELECT pg_wal_replay_resume()")


def read_your_writes(running: Gateway, rounds: int, *, token: bool) -> tuple[int, Counter[str]]:
    """How many of so many reads did not see the write before them, and who answered.

    A write whose position was not known in time, as on a busy machine, is read with no token: that read may be stale.
    """

    def converse(key: int) -> tuple[int, Counter[str]]:
        stale, compared, endpoints = 0, 0, Counter[str]()
        with running.new_client() as client:
            for value in range(rounds // 8):
                put = client.post("/query/put", json={"key": key, "value": value})
                assert put.status_code == 200, put.text
                given = {HEADER: put.headers[HEADER]} if token and HEADER in put.headers else {}
                got = client.get("/query/get", params={"key": str(key)}, headers=given)
                assert got.status_code == 200, got.text
                if bool(given) is token:
                    compared += 1
                    stale += got.json()["value"] != value
                endpoints[got.headers["Gateway-Endpoint"]] += 1
        assert compared > 0.9 * (rounds // 8)
        return stale, endpoints

    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(converse, range(8)))
    return sum(stale for stale, _ in told), sum((endpoints for _, endpoints in told), Counter())


def test_a_read_with_the_token_of_a_write_sees_it_whatever_the_replicas_do(pair: Cluster, running: Gateway) -> None:
    with Staller(pair):
        stale, endpoints = read_your_writes(running, ROUNDS, token=True)
        assert read_your_writes(running, ROUNDS // 5, token=False)[0] > 0, "nothing was ever stale: this proves nothing"
    print(f"{stale} stale of {ROUNDS}; answered by {dict(endpoints)}")
    assert stale == 0
    assert endpoints["replica1"]
    assert endpoints["replica2"]


def test_a_replica_that_is_always_late_answers_when_it_has_come_that_far(pair: Cluster, running: Gateway) -> None:
    late = pair.replicas[0]
    late.configure({"recovery_min_apply_delay": "30ms"})
    late.reload()
    try:
        with held_up(pair.replicas[1]):
            for value in range(10):
                began = time.monotonic()
                got = running.run("get", {HEADER: write(running, 50, value)}, key=50)
                assert (got.json(), got.headers["Gateway-Endpoint"]) == ({"value": value}, "replica1")
                assert "Gateway-Attempts" not in got.headers
                assert time.monotonic() - began < 1
    finally:
        late.configure({"recovery_min_apply_delay": "0"})
        late.reload()


def test_when_no_replica_comes_that_far_the_primary_answers(pair: Cluster, running: Gateway) -> None:
    with held_up(*pair.replicas):
        token = write(running, 1, 7)
        began = time.monotonic()
        got = running.run("get", {HEADER: token}, key=1)
        took = time.monotonic() - began
        assert (got.json(), got.headers["Gateway-Endpoint"]) == ({"value": 7}, "primary")
        assert "Gateway-Lag-Ms" not in got.headers
        assert 0.9 < took < 2
        began = time.monotonic()
        assert running.run("get", {HEADER: token, "Prefer": "wait=0.6"}, key=1).json() == {"value": 7}
        assert time.monotonic() - began > 0.25
    got = running.run("get", {HEADER: token}, key=1)
    assert (got.json(), got.headers["Gateway-Endpoint"][:-1]) == ({"value": 7}, "replica")


def test_where_the_primary_may_not_answer_it_is_waited_for_to_the_end(pair: Cluster, tmp_path: Path) -> None:
    groups = {"groups.read": {"fallback": "none"}, "groups.write": {}}
    with node(pair, tmp_path, groups) as running, ThreadPoolExecutor() as threads:
        with held_up(*pair.replicas):
            token = write(running, 2, 8)
            began = time.monotonic()
            told = problem(running.run("get", {HEADER: token, "Prefer": "wait=0.5"}, key=2), 503, "too_stale")
            assert 0.4 < time.monotonic() - began < 3
            assert (told["outcome"], told["retryable"]) == (None, True)
            waiting = threads.submit(running.run, "get", {HEADER: token}, key=2)
            time.sleep(0.2)
            assert not waiting.done()
        assert waiting.result().json() == {"value": 8}


class TestTokens:
    def test_an_older_timeline_goes_to_the_primary_at_once(self, running: Gateway) -> None:
        token = Token.read(write(running, 3, 1))
        older = Token(system=token.system, timeline=token.timeline - 1, position=token.position)
        began = time.monotonic()
        assert running.run("get", {HEADER: str(older)}, key=3).headers["Gateway-Endpoint"] == "primary"
        assert time.monotonic() - began < 0.9

    def test_a_newer_timeline_than_anybody_writes_is_waited_for(self, running: Gateway) -> None:
        token = Token.read(write(running, 3, 2))
        newer = Token(system=token.system, timeline=token.timeline + 1, position=token.position)
        problem(running.run("get", {HEADER: str(newer), "Prefer": "wait=0.4"}, key=3), 503, "too_stale")

    def test_another_cluster_is_refused(self, running: Gateway) -> None:
        token = Token.read(write(running, 3, 3))
        foreign = Token(system=token.system ^ 1, timeline=token.timeline, position=token.position)
        told = problem(running.run("get", {HEADER: str(foreign)}, key=3), 400, "invalid_request")
        assert "another" in told["detail"]

    def test_the_cluster_is_the_servers_own(self, pair: Cluster, running: Gateway) -> None:
        system = pair.primary.sql("SELECT system_identifier FROM pg_control_system()").strip()
        assert str(Token.read(write(running, 3, 4)).system) == system

    def test_a_token_on_a_write_changes_nothing(self, running: Gateway) -> None:
        token = write(running, 3, 5)
        assert running.run("put", {HEADER: token}, key=3, value=6).json()["outcome"] == "committed"

    def test_a_guarded_query_fails_as_it_does_unguarded(self, running: Gateway) -> None:
        token = write(running, 3, 7)
        for name, arguments in (("divide", {"a": 1, "b": 0}), ("number", {"text": "gateway-0123 0/0"})):
            guarded, plain = (running.run(name, headers, **arguments) for headers in ({HEADER: token}, {}))
            told = problem(guarded, 422, "invalid_arguments")
            assert told | {"request_id": ""} == plain.json() | {"request_id": ""}

    def test_rows_come_as_they_do_unguarded(self, running: Gateway) -> None:
        token = write(running, 3, 8)
        guarded = running.client.get("/query/note_rows", params={"n": "5"}, headers={HEADER: token})
        assert guarded.json() == running.run("note_rows", n=5).json()

    def test_a_committed_write_whose_answer_is_an_error_has_its_token_too(self, running: Gateway) -> None:
        too_many = running.run("put_many", count=5)
        assert problem(too_many, 507, "result_too_large")["outcome"] == "committed"
        assert Token.read(too_many.headers[HEADER])

    def test_reads_and_failed_writes_have_none(self, running: Gateway) -> None:
        assert HEADER not in running.run("get", key=3).headers
        assert HEADER not in running.run("put", key=3, value="x").headers

    def test_where_there_is_one_server_there_is_none(self, pair: Cluster, tmp_path: Path) -> None:
        with node(pair, tmp_path, servers=(pair.primary,)) as running:
            assert HEADER not in running.run("put", key=4, value=1).headers

    def test_positions_at_the_start_of_a_page_are_reached_by_an_idle_standby(
        self, pair: Cluster, running: Gateway
    ) -> None:
        """One commit in 500 or so ends where a page does; nothing is written after it here until it was replayed."""
        with ExitStack() as stack:
            replicas = [stack.enter_context(plain(server.dsn())) for server in pair.replicas]
            met = 0
            for value in range(3000):
                token = Token.read(write(running, 5, value))
                if token.position % 8192 == 0:
                    met += 1
                    for cursor in replicas:
                        wait_until(lambda: replayed(cursor) >= token.position, "replayed", 5)  # noqa: B023
                if met == 2:
                    return
        pytest.fail("no write ended at a page's end")


def replayed(cursor: psycopg2.extensions.cursor) -> int:
    cursor.execute("SELECT (pg_last_wal_replay_lsn() - '0/0')::int8")
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("prepare", [True, False])
class TestGuards:
    """On a standby; the settings of a session behind a pooler may be the server's."""

    @pytest.fixture
    def desk(self, pair: Cluster, prepare: bool, tmp_path: Path) -> Iterator[Desk]:
        connection = connect(shop.dsn(pair.replicas[0]), read_only=True, prepare=prepare)
        if not prepare:
            connection.ask("SET default_transaction_isolation = 'repeatable read'", soon())
        yield Desk(connection, tmp_path / "queries")
        connection.close()

    def test_each_statement_behind_a_guard_has_a_snapshot_of_its_own(self, desk: Desk) -> None:
        guard = guarding.has_replayed(Token(system=1, timeline=1, position=1))
        text = "-- name: q()$\nSELECT current_setting('transaction_isolation')"
        assert desk.run(text, guard=guard).text == b'"read committed"'

    @pytest.mark.parametrize("guard", [guarding.has_replayed, guarding.writes_timeline])
    def test_what_it_stops_is_too_stale_and_harms_nothing(self, desk: Desk, guard: Callable[[Token], str]) -> None:
        far = guard(Token(system=1, timeline=1, position=2**63 - 1))
        with pytest.raises(TooStale):
            desk.run("SELECT 1 AS one", guard=far)
        with pytest.raises(TooStale):
            desk.connection.ask(far, soon())
        assert desk.rows("SELECT 1 AS one") == ['{"one":1}']

    def test_a_primary_is_stopped_by_its_timeline(self, pair: Cluster, prepare: bool) -> None:
        with closing(connect(shop.dsn(pair.primary), prepare=prepare)) as connection:
            connection.ask(guarding.writes_timeline(Token(system=1, timeline=1, position=1)), soon())
            with pytest.raises(TooStale):
                connection.ask(guarding.writes_timeline(Token(system=1, timeline=2, position=1)), soon())
            with pytest.raises(TooStale):  # it never was a standby, and has no replay position
                connection.ask(guarding.has_replayed(Token(system=1, timeline=1, position=1)), soon())


class TestStaleness:
    def test_a_replica_tells_its_lag_and_the_primary_does_not(self, pair: Cluster, running: Gateway) -> None:
        pair.wait_until_caught_up()
        wait_until(lambda: 0 <= int(running.run("get", key=1).headers.get("Gateway-Lag-Ms", "-1")) < 5000, "its lag")
        assert "Gateway-Lag-Ms" not in running.run("put", key=1, value=1).headers

    def test_a_replica_that_is_fresh_enough_answers(self, pair: Cluster, running: Gateway) -> None:
        pair.wait_until_caught_up()

        def fresh() -> bool:
            got = running.run("get", {"Prefer": "max-staleness=5, handling=strict"}, key=1)
            return got.status_code == 200 and got.headers["Gateway-Endpoint"].startswith("replica")

        wait_until(fresh, "a fresh replica")

    def test_when_none_is_the_primary_answers_or_strictly_nobody(self, pair: Cluster, running: Gateway) -> None:
        with held_up(*pair.replicas):
            write(running, 6, 1)

            def lagging() -> bool:
                got = running.run("get", {"Prefer": "max-staleness=0.3"}, key=6)
                return got.headers["Gateway-Endpoint"] == "primary"

            wait_until(lagging, "both lag")
            got = running.run("get", {"Prefer": "max-staleness=0.3"}, key=6)
            assert (got.json(), got.headers["Preference-Applied"]) == ({"value": 1}, "max-staleness=0.3")
            began = time.monotonic()
            strict = running.run("get", {"Prefer": "max-staleness=0.3, handling=strict"}, key=6)
            problem(strict, 503, "too_stale")
            assert time.monotonic() - began < 2
            assert running.run("get", {"Prefer": "max-staleness=3600, handling=strict"}, key=6).status_code == 200
        pair.wait_until_caught_up()


def test_after_a_promotion_old_tokens_go_to_the_new_primary_and_new_ones_are_waited_for(tmp_path: Path) -> None:
    with Cluster(replicas=2) as cluster:
        cluster.primary.sql(f"CREATE DATABASE {shop.DATABASE}")
        cluster.primary.sql(f"CREATE ROLE {shop.ROLE} LOGIN IN ROLE pg_monitor")
        tables = "CREATE TABLE notes (key int PRIMARY KEY, value int); GRANT SELECT, INSERT, UPDATE ON notes TO gateway"
        tables += "; CREATE UNLOGGED TABLE sessions (id int); GRANT SELECT ON sessions TO gateway"
        cluster.primary.sql(tables, shop.DATABASE)
        cluster.wait_until_caught_up()
        with node(cluster, tmp_path) as running:
            wait_until(lambda: both_serve(running), "both replicas serve")
            before = write(running, 1, 1)
            cluster.wait_until_caught_up()
            cluster.primary.stop()
            promoted = cluster.replicas[0]
            promoted.promote()
            put = running.run("put", key=1, value=2)
            assert (put.status_code, put.headers["Gateway-Endpoint"]) == (200, promoted.name)
            after = put.headers[HEADER]
            assert Token.read(after).timeline == Token.read(before).timeline + 1
            # The other replica follows nobody now, and knows neither the write nor the timeline.
            for token in (before, after):
                got = running.run("get", {HEADER: token}, key=1)
                assert (got.json(), got.headers["Gateway-Endpoint"]) == ({"value": 2}, promoted.name)
