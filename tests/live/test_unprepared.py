"""A pooler that loses what is prepared: noticed when the first statement is missing, and done without from then on."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving, wait_until
from tests.live.poolers import pgbouncer

pytestmark = pytest.mark.system
EACH, CALLERS = 40, 8


@pytest.fixture
def pooled(cluster: Cluster, tmp_path: Path) -> Iterator[Gateway]:
    """Over PgBouncer in transaction mode, of which the settings say nothing."""
    (tmp_path / "pooler").mkdir()
    with (
        pgbouncer(cluster, tmp_path / "pooler", "transaction") as dsns,
        serving(cluster, tmp_path, {"server": {"workers": 2}}, endpoints=dsns, paths=[shop.QUERIES]) as node,
    ):
        yield node


def test_a_pooler_that_loses_statements_costs_no_call_and_is_told_once(pooled: Gateway, cluster: Cluster) -> None:
    before = int(cluster.primary.sql("SELECT count(*) FROM orders", shop.DATABASE) or 0)

    def call(caller: int) -> list[int]:
        with pooled.new_client() as client:
            steps = [{"query": "create_order", "arguments": {"customer_id": caller + 1}}]
            asked = [
                ("/query/customer", {"id": caller + 1}),
                ("/query/create_order", {"customer_id": caller + 1}),
                ("/transaction", {"steps": steps}),
            ]
            return [client.post(path, json=body).status_code for _ in range(EACH) for path, body in asked]

    with ThreadPoolExecutor(CALLERS) as callers:
        statuses = [status for each in callers.map(call, range(CALLERS)) for status in each]
    assert set(statuses) == {200}
    wait_until(lambda: pooled.health()["endpoints"]["primary"]["note"], "health says so")

    def told() -> list[str]:
        lines = [line.partition("endpoint ")[2] for line in pooled.log.splitlines() if "loses prepared" in line]
        return [line.partition(":")[0] for line in lines]

    wait_until(lambda: "primary" in told(), "the log says so")
    assert len(told()) == len(set(told()))
    assert int(cluster.primary.sql("SELECT count(*) FROM orders", shop.DATABASE) or 0) == before + 2 * CALLERS * EACH
