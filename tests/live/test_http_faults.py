"""What clients see while servers, clients and workers die; each test leaves the cluster as it found it."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.server import Server
from tests.live.gateways import (
    QUERIES,
    Gateway,
    problem,
    running_marked,
    serving,
    serving_queries,
    wait_until,
    with_tables,
)

WORKERS = ["gateway", "gthread", "sync"]
CANARY = "canary-of-the-password"


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A cluster of our own, to be broken."""
    with Cluster(replicas=2) as cluster:
        cluster.primary.sql(f"CREATE DATABASE {shop.DATABASE}")
        cluster.primary.sql(f"CREATE ROLE {shop.ROLE} LOGIN IN ROLE pg_monitor")
        with with_tables(cluster):
            yield cluster
            for server in cluster.servers:
                if server.pid is None:
                    server.start()


@contextmanager
def down(*servers: Server) -> Iterator[None]:
    """These servers, dead for a while."""
    for server in servers:
        server.kill()
    try:
        yield
    finally:
        for server in servers:
            server.start()


@contextmanager
def frozen(*servers: Server) -> Iterator[None]:
    """These servers, deaf for a while."""
    for server in servers:
        server.freeze()
    try:
        yield
    finally:
        for server in servers:
            server.thaw()


@contextmanager
def node(
    cluster: Cluster, folder: Path, worker: str = "gthread", ready: bool = True, **server: Any
) -> Iterator[Gateway]:
    settings = {"server": {"worker": worker, **server}}
    with serving(cluster, folder, settings, paths=[QUERIES], ready=ready) as running:
        yield running


def rotation(running: Gateway, group: str = "read") -> list[str]:
    told: list[str] = running.health()["groups"][group]["rotation"]
    return told


def _answers(running: Gateway, path: str) -> int:
    try:
        return running.client.get(path).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize("worker", WORKERS)
def test_it_lives_says_that_it_is_not_ready_and_serves_as_soon_as_the_database_does(
    worker: str, fragile: Cluster, tmp_path: Path
) -> None:
    with down(*fragile.servers):
        context = node(fragile, tmp_path, worker, ready=False)
        running = context.__enter__()
        try:
            wait_until(lambda: _answers(running, "/health/live") == 200, "alive")
            assert _answers(running, "/health/ready") == 503
            assert running.health()["status"] == "down"
            refused = running.run("series")
            assert (refused.status_code, refused.json()["code"]) == (503, "backend_unavailable")
            fragile.primary.start()
            took = wait_until(lambda: running.run("series").status_code == 200, "a read is served")
            assert took < 2
            wait_until(running.is_ready, "ready")
            assert running.run("next_number").status_code == 200
        finally:
            fragile.primary.kill()
            context.__exit__(None, None, None)


@pytest.fixture
def running(fragile: Cluster, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of its own for each test: to one for all, servers that die in each would be flapping."""
    for server in fragile.servers:
        if server.pid is None:
            server.start()
    fragile.wait_until_streaming()
    with node(fragile, tmp_path, threads=32) as gateway:
        wait_until(lambda: rotation(gateway) == ["replica1", "replica2"], "both replicas serve")
        wait_until(lambda: rotation(gateway, "write") == ["primary"], "the primary serves")
        yield gateway


def test_when_a_replica_dies_reads_go_on_elsewhere(fragile: Cluster, running: Gateway) -> None:
    victim = fragile.replicas[0]
    for _ in range(8):
        assert running.run("series").status_code == 200
    with down(victim):
        took = wait_until(lambda: rotation(running) == ["replica2"], "the dead replica is out")
        assert took < 2
        for _ in range(20):
            answer = running.run("series")
            assert (answer.status_code, answer.headers["Gateway-Endpoint"]) == (200, "replica2")
        health = running.health()
        assert health["status"] == "degraded"
        assert health["endpoints"]["replica1"]["reason"] in ("refused", "lost")
        assert running.client.get("/health/ready").status_code == 200
    assert wait_until(lambda: rotation(running) == ["replica1", "replica2"], "it is back") < 2


def test_when_a_replica_freezes_it_is_out_within_the_probes_time(fragile: Cluster, running: Gateway) -> None:
    with frozen(fragile.replicas[0]):
        took = wait_until(lambda: rotation(running) == ["replica2"], "the frozen replica is out")
        assert took < 2
        assert running.health()["endpoints"]["replica1"]["reason"] == "timeout"
        for _ in range(20):
            began = time.monotonic()
            assert running.run("series").status_code == 200
            assert time.monotonic() - began < 2
    wait_until(lambda: rotation(running) == ["replica1", "replica2"], "it is back")


def test_a_read_on_a_server_that_freezes_ends_at_its_deadline_or_when_the_server_is_withdrawn(
    fragile: Cluster, running: Gateway
) -> None:
    with ThreadPoolExecutor() as threads:
        nap = threads.submit(running.run, "marked_nap", {"Prefer": "wait=1"}, mark="freezing", seconds=0.5)
        wait_until(lambda: any(running_marked(each, "freezing") for each in fragile.replicas), "it runs")
        began = time.monotonic()
        with frozen(*fragile.replicas):
            late = nap.result()
        assert time.monotonic() - began < 3
    assert (late.status_code, late.json()["code"]) in [(504, "deadline_exceeded"), (503, "connection_lost")]


def test_without_a_replica_reads_go_to_the_primary(fragile: Cluster, running: Gateway) -> None:
    with down(*fragile.replicas):
        wait_until(lambda: rotation(running) == ["primary"], "reads fall back")
        row = running.run("where_am_i").json()["row"]
        assert (row["server"], row["replica"], row["read_only"]) == ("primary", False, "on")
        assert running.run("next_number").status_code == 200
    wait_until(lambda: rotation(running) == ["replica1", "replica2"], "they are back")


def test_writes_never_go_to_a_replica_but_wait_for_a_primary(fragile: Cluster, running: Gateway) -> None:
    with down(fragile.primary):
        wait_until(lambda: not rotation(running, "write"), "the primary is out")
        began = time.monotonic()
        late = running.run("next_number", {"Prefer": "wait=0.5"})
        assert 0.5 <= time.monotonic() - began < 3
        told = late.json()
        assert (late.status_code, told["code"], told["outcome"]) == (503, "pool_timeout", "not_executed")
        assert "primary" in told["detail"]
        assert running.run("series").status_code == 200
        narrowed = running.client.get("/health/ready", params={"group": "write"})
        assert narrowed.json()["reasons"] == ["group write: no endpoint may answer"]
        assert running.client.get("/health/ready", params={"group": "read"}).status_code == 200
        with ThreadPoolExecutor() as threads:
            waiting = threads.submit(running.run, "where_do_i_write")
            wait_until(lambda: running.health()["groups"]["write"]["waiting"] == 1, "a write waits")
            fragile.primary.start()
            served = waiting.result()
        assert (served.status_code, served.json()["value"]) == (200, False)
        fragile.primary.kill()
    fragile.wait_until_streaming()


def test_with_everything_down_reads_are_refused_at_once(fragile: Cluster, running: Gateway) -> None:
    with down(*fragile.servers):
        wait_until(lambda: not rotation(running), "nobody is left")
        for _ in range(5):
            began = time.monotonic()
            refused = running.run("series")
            assert time.monotonic() - began < 2
            assert (refused.status_code, refused.json()["code"]) == (503, "no_endpoint")
            assert refused.headers["Retry-After"] == "1"
        assert running.health()["status"] == "down"
        fragile.primary.start()
        assert wait_until(lambda: running.run("series").status_code == 200, "reads are served") < 2
        fragile.primary.kill()
    fragile.wait_until_streaming()


def test_a_primary_that_dies_under_a_write_leaves_its_outcome_unknown(fragile: Cluster, running: Gateway) -> None:
    running.run("add_thing", name="dying")
    with ThreadPoolExecutor() as threads:
        write = threads.submit(running.run, "slow_rename", name="dying", seconds=4)
        wait_until(lambda: running_marked(fragile.primary, "dying"), "it runs")
        with down(fragile.primary):
            lost = write.result()
    told = lost.json()
    assert (lost.status_code, told["code"], told["outcome"]) == (503, "connection_lost", "unknown")
    fragile.wait_until_streaming()


def test_all_leases_are_home_after_all_of_this(fragile: Cluster, running: Gateway) -> None:
    def everybody(action: Callable[[Server], None]) -> None:
        for server in fragile.servers:
            action(server)

    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(running.run, "nap", {"Prefer": "wait=4"}, seconds=1) for _ in range(16)]
        wait_until(lambda: running.health()["groups"]["read"]["leased"] == 16, "all connections are leased")
        terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'gateway'"
        everybody(lambda server: print(server.sql(terminate)))
        statuses = {answer.result().status_code for answer in answers}
    assert statuses <= {200, 503}  # one that fled to a server that was struck later has met it twice
    assert running.run("series").status_code == 200
    busy = ("leased", "waiting")  # a connection that is being opened counts for a moment
    wait_until(lambda: not any(group[one] for group in running.health()["groups"].values() for one in busy), "all home")
    assert "a bug of ours" not in running.log


def test_it_serves_though_its_runtime_directory_is_taken_away(fragile: Cluster, tmp_path: Path) -> None:
    with down(*fragile.servers):
        context = node(fragile, tmp_path, ready=False)
        running = context.__enter__()
        try:
            wait_until(lambda: _answers(running, "/health/live") == 200, "alive")
            for file in running.runtime.iterdir():
                file.unlink()
            running.runtime.rmdir()
            fragile.primary.start()
            wait_until(lambda: running.run("series").status_code == 200, "a read is served")
            assert "not known to the others any more" in running.log
        finally:
            fragile.primary.kill()
            context.__exit__(None, None, None)


def test_what_an_earlier_run_learnt_is_not_believed(fragile: Cluster, tmp_path: Path) -> None:
    fragile.primary.sql("CREATE TABLE suite.there_is_no_such_table (id int, canary int)", shop.DATABASE)
    fragile.primary.sql("GRANT SELECT ON suite.there_is_no_such_table TO gateway", shop.DATABASE)
    fragile.wait_until_caught_up()
    try:
        with node(fragile, tmp_path) as running:
            assert running.client.get("/queries/broken_at_start").json()["columns"][0]["type"] == "integer"
        fragile.primary.sql("ALTER TABLE suite.there_is_no_such_table ALTER canary TYPE text", shop.DATABASE)
        fragile.wait_until_caught_up()
        with node(fragile, tmp_path) as running:
            assert running.client.get("/queries/broken_at_start").json()["columns"][0]["type"] == "text"
    finally:
        fragile.primary.sql("DROP TABLE suite.there_is_no_such_table", shop.DATABASE)


def test_a_migration_is_noticed_without_a_restart(fragile: Cluster, tmp_path: Path) -> None:
    with node(fragile, tmp_path) as running:
        assert running.run("broken_at_start", id=1).json()["code"] == "query_broken"
        fragile.primary.sql("CREATE TABLE suite.there_is_no_such_table (id int, canary int)", shop.DATABASE)
        fragile.primary.sql("GRANT SELECT ON suite.there_is_no_such_table TO gateway", shop.DATABASE)
        try:
            wait_until(lambda: running.run("broken_at_start", id=1).status_code == 200, "it can be served", 5)
            assert running.health()["catalogue"]["fault"] is None
        finally:
            fragile.primary.sql("DROP TABLE suite.there_is_no_such_table", shop.DATABASE)
        wait_until(lambda: running.run("broken_at_start", id=1).status_code == 500, "it is broken again", 5)


def test_a_failure_that_quotes_an_argument_is_logged_without_its_words(cluster: Cluster, tmp_path: Path) -> None:
    cluster.primary.sql(
        "CREATE FUNCTION public.size_of(name text) RETURNS bigint STABLE LANGUAGE plpgsql AS"
        " $$ DECLARE size bigint; BEGIN EXECUTE 'SELECT count(*) FROM ' || name INTO size; RETURN size; END $$",
        shop.DATABASE,
    )
    try:
        with serving_queries("-- name: size_of(name)$\nSELECT public.size_of(:name);\n", cluster, tmp_path) as node:
            answer = node.run("size_of", name="a_value_of_somebody")
            body = problem(answer, 500, "query_broken")
            assert body["sqlstate"] == "42P01"
            wait_until(lambda: f"request {body['request_id']}: 500 query_broken" in node.log, "it is logged")
            assert "a_value_of_somebody" not in node.log
    finally:
        cluster.primary.sql("DROP FUNCTION public.size_of(text)", shop.DATABASE)
