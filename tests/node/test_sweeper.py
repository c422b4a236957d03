"""Old idempotency keys are forgotten, by the one worker that is to do it."""

import threading
import time
from collections.abc import Iterator

import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.events import Event, KeysNotSwept, ignore
from gateway.node.sweeper import MOST, Sweeper
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.driver import Address, Driver
from gateway.postgres.idempotency import DDL, SWEPT_AT_ONCE
from gateway.postgres.session import Session
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from tests.live.databases import plain
from tests.live.sessions import wait_until


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with Cluster(replicas=0) as cluster:
        yield cluster


@pytest.fixture
def table(server: Cluster) -> Iterator[psycopg2.extensions.cursor]:
    with plain(server.primary.dsn()) as cursor:
        cursor.execute(DDL)
        yield cursor
        cursor.execute("DROP TABLE IF EXISTS gateway_idempotency")


@pytest.fixture
def pool(server: Cluster) -> Iterator[Pool[Session]]:
    rotation = Rotation(views=LocalViews(["primary"]))
    rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))
    groups = [
        Group(
            GroupConfig(name=name, access_write=name == "write", endpoints=("primary",), size=1, queue_limit=2),
            driver=Driver({"primary": Address(dsn=server.primary.dsn())}, read_only=name == "read"),
            rotation=rotation,
            waits=ThreadWaits(),
        )
        for name in ("read", "write")
    ]
    pool = Pool(rotation=rotation, groups=groups)
    yield pool
    pool.close()


def keys(cursor: psycopg2.extensions.cursor) -> int:
    cursor.execute("SELECT count(*) FROM gateway_idempotency")
    return int(cursor.fetchall()[0][0])


def fill(cursor: psycopg2.extensions.cursor, count: int, age: str) -> None:
    cursor.execute(
        "INSERT INTO gateway_idempotency (caller, key, request_hash, created_at)"
        f" SELECT '{age}', i::text, '', now() - interval '{age}' FROM generate_series(1, {count}) i"
    )


def test_what_is_old_is_forgotten_however_much_it_is(pool: Pool[Session], table: psycopg2.extensions.cursor) -> None:
    fill(table, 2 * SWEPT_AT_ONCE + 5, "2 hours")
    fill(table, 3, "10 minutes")
    sweeper = Sweeper(pool=pool, retention=3600, is_wanted=lambda: True, every=0.01, observe=ignore)
    sweeper.start()
    wait_until(lambda: keys(table) == 3)
    sweeper.close()


def test_a_sweep_ends_when_all_is_forgotten_and_not_before(
    pool: Pool[Session], table: psycopg2.extensions.cursor
) -> None:
    """However fast keys come, the table does not grow for ever."""
    fill(table, MOST * SWEPT_AT_ONCE + 5, "2 hours")
    rounds: list[float] = []

    def wanted() -> bool:
        rounds.append(time.monotonic())
        return True

    sweeper = Sweeper(pool=pool, retention=3600, is_wanted=wanted, every=3, observe=ignore)
    sweeper.start()
    wait_until(lambda: keys(table) == 0)
    sweeper.close()
    assert rounds[1] - rounds[0] < 3  # not only when it is time again


def test_who_is_not_to_sweep_does_not(pool: Pool[Session], table: psycopg2.extensions.cursor) -> None:
    fill(table, 3, "2 hours")
    asked = threading.Semaphore(0)
    is_wanted = False

    def wanted() -> bool:
        asked.release()
        return is_wanted

    sweeper = Sweeper(pool=pool, retention=3600, is_wanted=wanted, every=0.01, observe=ignore)
    sweeper.start()
    for _ in range(3):
        assert asked.acquire(timeout=10)
    assert keys(table) == 3
    is_wanted = True
    wait_until(lambda: keys(table) == 0)
    sweeper.close()


def test_a_table_that_cannot_be_swept_is_told_once_and_one_that_is_not_there_never(
    pool: Pool[Session], table: psycopg2.extensions.cursor
) -> None:
    table.execute("DROP TABLE gateway_idempotency")
    observed: list[Event] = []
    asked = threading.Semaphore(0)

    def wanted() -> bool:
        asked.release()
        return True

    sweeper = Sweeper(pool=pool, retention=3600, is_wanted=wanted, every=0.01, observe=observed.append)
    sweeper.start()
    for _ in range(3):
        assert asked.acquire(timeout=10)
    assert not observed
    table.execute("CREATE VIEW gateway_idempotency AS SELECT now() AS created_at")
    wait_until(lambda: bool(observed))
    for _ in range(3):
        assert asked.acquire(timeout=10)
    sweeper.close()
    assert [type(event) for event in observed] == [KeysNotSwept]
    table.execute("DROP VIEW gateway_idempotency")
