"""One embedded cluster for all tests against real servers. A test that harms its servers starts a cluster itself.

``oracle`` and ``desk`` are over the database whose DSN the module's own fixture ``dsn`` gives.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.cli.starting import Serve, Served, settle
from tests.live.cutting import Wire, wire_to
from tests.live.databases import Desk, connect
from tests.live.gateways import with_tables
from tests.live.sessions import logged, watching
from tests.live.works import Bench


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A primary and two replicas with the sample shop; left as it was found, but for rows of the shop."""
    with Cluster(replicas=2) as cluster:
        shop.load(cluster)
        yield cluster


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A server of our own, to freeze and to fill."""
    with Cluster(replicas=0, settings={"max_connections": "12", "superuser_reserved_connections": "2"}) as cluster:
        cluster.primary.sql("CREATE ROLE member LOGIN")
        yield cluster


@pytest.fixture
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    """A plain cursor that looks on."""
    with watching(dsn) as cursor:
        yield cursor


@pytest.fixture
def desk(dsn: str, tmp_path: Path) -> Iterator[Desk]:
    """A connection of ours, and queries to run on it."""
    connection = connect(dsn)
    yield Desk(connection, tmp_path / "queries")
    connection.close()


@pytest.fixture
def bench(desk: Desk, oracle: psycopg2.extensions.cursor) -> Bench:
    """What runs works in tables that are empty; the module's ``dsn`` is that of a ``small_database``."""
    assert logged(oracle) == []
    return Bench(desk)


@pytest.fixture(scope="module")
def tables(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with what the queries of ``http_queries`` work on."""
    with with_tables(cluster):
        yield cluster


@pytest.fixture(scope="module")
def wire(tables: Cluster) -> Iterator[Wire]:
    """What can be cut between a gateway and the primary."""
    with wire_to(tables.primary) as wire:
        yield wire


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test is, with nothing of ours in the environment."""
    settle(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:  # noqa: ARG001 -- where they write
    """Start gateways over a server that is down; they are stopped at the end of the test."""
    started: list[Served] = []

    def start(*arguments: str, inherited: socket.socket | None = None, **environ: str) -> Served:
        served = Served(*arguments, inherited=inherited, **environ)
        started.append(served)
        served.wait_until(served.answers)
        return served

    yield start
    for served in started:
        served.stop()
