"""Servers that are not plain PostgreSQL: the functions of the write-ahead log are refused, or are others."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import TABLES, Gateway, serving, wait_until

REFUSED = (
    "pg_current_wal_insert_lsn()",
    "pg_last_wal_replay_lsn()",
    "pg_last_wal_receive_lsn()",
    "pg_last_xact_replay_timestamp()",
    "pg_walfile_name(pg_lsn)",
    "pg_control_system()",
    "pg_stat_get_wal_receiver()",
)
AURORA = """
CREATE FUNCTION pg_catalog.aurora_db_instance_identifier() RETURNS text LANGUAGE sql AS $$
    SELECT current_setting('cluster_name') $$;
CREATE FUNCTION pg_catalog.aurora_replica_status(OUT server_id text, OUT replica_lag_in_msec float8)
RETURNS SETOF record LANGUAGE sql AS $$ VALUES ('primary', 0.0), ('replica1', 17.5) $$;
"""


@pytest.fixture(scope="module")
def managed() -> Iterator[Cluster]:
    """A primary and a replica that tell nothing of their write-ahead log."""
    with Cluster(replicas=1) as cluster:
        shop.load(cluster)
        cluster.primary.run_file(TABLES, shop.DATABASE)
        for function in REFUSED:
            cluster.primary.sql(
                f"REVOKE EXECUTE ON FUNCTION pg_catalog.{function} FROM PUBLIC, pg_monitor", shop.DATABASE
            )
        cluster.wait_until_caught_up()
        yield cluster


@pytest.fixture(scope="module")
def node(managed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(managed, tmp_path_factory.mktemp("managed")) as node:
        yield node


def test_servers_that_hide_their_wal_serve_and_health_says_so(node: Gateway) -> None:
    endpoints = node.health()["endpoints"]
    assert {name: (each["role"], each["in_rotation"], each["wal"]) for name, each in endpoints.items()} == {
        "primary": ("primary", True, "unavailable"),
        "replica1": ("replica", True, "unavailable"),
    }
    assert {each["lag_ms"] for each in endpoints.values()} == {None}


def test_reads_go_to_the_replica_and_writes_to_the_primary(node: Gateway) -> None:
    assert node.run("customer", id=7).headers["Gateway-Endpoint"] == "replica1"
    written = node.run("create_order", customer_id=7)
    assert (written.status_code, written.json()["outcome"]) == (200, "committed")
    assert "Gateway-Consistency-Token" not in written.headers


def test_a_token_from_elsewhere_and_a_limit_to_staleness_lead_to_the_primary(node: Gateway) -> None:
    fresh = node.run("customer", {"Prefer": "max-staleness=5"}, id=7)
    assert (fresh.status_code, fresh.headers["Gateway-Endpoint"]) == (200, "primary")


def test_a_transaction_and_a_write_with_a_key_succeed(node: Gateway) -> None:
    steps = [{"query": "create_order", "arguments": {"customer_id": 7}}]
    answer = node.client.post("/transaction", json={"steps": steps})
    assert (answer.status_code, answer.json()["outcome"]) == (200, "committed"), answer.text
    first, again = (node.run("create_order", {"Idempotency-Key": "managed"}, customer_id=7) for _ in range(2))
    assert first.status_code == again.status_code == 200
    assert first.content == again.content


def test_auroras_own_function_tells_the_lag(managed: Cluster, tmp_path: Path) -> None:
    managed.primary.sql(AURORA, shop.DATABASE)
    managed.wait_until_caught_up()
    with serving(managed, tmp_path) as node:
        wait_until(lambda: node.health()["endpoints"]["replica1"]["lag_ms"] is not None, "a lag")
        replica = node.health()["endpoints"]["replica1"]
        assert (replica["lag_ms"], replica["wal"], replica["in_rotation"]) == (17.5, "unavailable", True)
        near, far = (node.run("customer", {"Prefer": f"max-staleness={each}"}, id=7) for each in ("5", "0.01"))
        assert (near.headers["Gateway-Endpoint"], far.headers["Gateway-Endpoint"]) == ("replica1", "primary")
