"""A worker on a loop whose servers go: what it notices by itself, and what becomes of the reads in flight there."""

import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving, wait_until

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"timeout": "20s"},
    "probe": {"interval": "4s", "timeout": "500ms"},
    "groups.read": {"size": 4, "endpoints": ["replica1"], "fallback": "none"},
    "groups.write": {"access": "write", "size": 2},
}
NAP = "-- name: nap$\nSELECT pg_sleep(:seconds) IS NULL\n"


@pytest.fixture
def gateway(cluster: Cluster, tmp_path: Path) -> Iterator[Gateway]:
    queries = tmp_path / "queries"
    queries.mkdir()
    (queries / "nap.sql").write_text(NAP, encoding="utf-8")
    with serving(cluster, tmp_path, SETTINGS, paths=[queries]) as gateway:
        assert gateway.run("nap", seconds=0).status_code == 200  # a connection is open now
        yield gateway


def state(gateway: Gateway) -> dict[str, Any]:
    view: dict[str, Any] = gateway.health()["endpoints"]["replica1"]
    return view


def test_a_server_whose_idle_connections_die_is_looked_at_at_once_without_any_request(
    gateway: Gateway, cluster: Cluster
) -> None:
    replica = cluster.replicas[0]
    replica.kill()
    try:
        took = wait_until(lambda: not state(gateway)["in_rotation"], "out of the rotation")
        assert took < 2  # the next probe by the clock may be four seconds away
    finally:
        replica.start()


def test_backends_that_are_ended_while_idle_cost_no_read(gateway: Gateway, cluster: Cluster) -> None:
    ended = cluster.replicas[0].sql(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    assert int(ended) >= 1
    for _ in range(20):
        assert gateway.run("nap", seconds=0).status_code == 200


def test_a_read_in_flight_on_a_server_that_freezes_is_called_back_long_before_its_deadline(
    gateway: Gateway, cluster: Cluster
) -> None:
    details: list[str] = []

    def ask() -> None:
        with gateway.new_client(30) as client:
            answer = client.post("/query/nap", json={"seconds": 15})
            details.append(problem(answer, 503, "connection_lost")["detail"])

    reading = threading.Thread(target=ask)
    reading.start()
    replica = cluster.replicas[0]
    wait_until(lambda: int(replica.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")), "asleep")
    frozen = monotonic()
    replica.freeze()
    try:
        reading.join()
        took = monotonic() - frozen
    finally:
        replica.thaw()
    assert took < 8
    assert details == ["the endpoint was withdrawn while the query was running there"]
