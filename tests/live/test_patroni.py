"""Real Patroni as the source of who the servers are: switchover, a new member, and failover, under load."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving, wait_until
from tests.live.patronis import TTL, Patronis, patronis
from tests.live.steady import QUERIES, TABLE, Steady

pytestmark = pytest.mark.system
SOON = 20
"""Seconds for a new leader where Patroni knows that one is needed: it takes three, and the machine may be busy."""


@pytest.fixture(scope="module")
def patroni() -> Iterator[Patronis]:
    with patronis(2) as running:
        running.sql(TABLE, shop.DATABASE)
        yield running


@pytest.fixture(scope="module")
def node(cluster: Cluster, patroni: Patronis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "queries").mkdir()
    (folder / "queries" / "steady.sql").write_text(QUERIES)
    dsn = f"dbname={shop.DATABASE} user={shop.ROLE} sslmode=disable"
    settings: dict[str, dict[str, Any]] = {
        "endpoints.pg": {"dsn": dsn, "discover": [member.url for member in patroni.members]},
        "probe": {"discovery": "500ms"},
        "server": {"workers": 2},
    }
    with serving(cluster, folder, settings, endpoints={"pg": dsn}, paths=[folder / "queries"]) as running:
        yield running


def endpoints(node: Gateway) -> dict[str, Any]:
    """What a worker of the newest generation says of them."""
    with node.new_client() as client:
        found: dict[str, Any] = client.get("/health").json()["endpoints"]
        return found


def serving_as(node: Gateway) -> dict[str, str]:
    """The roles of those in the rotation."""
    return {name: each["role"] for name, each in endpoints(node).items() if each["in_rotation"]}


def entries(patroni: Patronis) -> set[int]:
    return set(map(int, patroni.sql("SELECT id FROM entries", shop.DATABASE).split()))


def test_the_servers_are_those_that_patroni_names(patroni: Patronis, node: Gateway) -> None:
    roles = {f"pg-{name}": "primary" if role == "leader" else "replica" for name, role in patroni.cluster().items()}
    wait_until(lambda: serving_as(node) == roles, "all serve")


def test_a_member_that_is_added_serves_without_a_failed_request(patroni: Patronis, node: Gateway) -> None:
    with Steady(node, first=2_000_000) as load:
        patroni.add("node3")
        wait_until(lambda: "pg-node3" in serving_as(node), "it serves")
        wait_until(lambda: load.reads["pg-node3"] > 20, "it is asked")
    assert load.failed_reads == []
    assert set(load.outcomes.values()) == {"committed"}
    assert "endpoint pg stands for node1, node2, node3 from now on" in node.log


def test_a_switchover_fails_no_read_and_every_outcome_is_true(patroni: Patronis, node: Gateway) -> None:
    with Steady(node, first=1_000_000) as load:
        wait_until(lambda: load.committed > 20, "writes")
        leader = patroni.switch_over()
        before = load.committed
        wait_until(lambda: load.committed > before + 50, "writes go on")
        patroni.wait_until_whole()
    assert load.failed_reads == []
    assert load.missing(entries(patroni)) == set()
    assert serving_as(node)[f"pg-{leader.name}"] == "primary"
    assert load.gap < SOON


def test_when_the_machine_of_the_leader_dies_reads_go_on_and_writes_with_the_next(
    patroni: Patronis, node: Gateway
) -> None:
    patroni.wait_until_whole()
    leader = patroni.leader()
    assert leader is not None
    with Steady(node, first=3_000_000) as load:
        wait_until(lambda: load.committed > 20, "writes")
        leader.kill()
        before = load.committed
        wait_until(lambda: load.committed > before + 50, "writes go on")
        patroni.members.remove(leader)
        wait_until(lambda: f"pg-{leader.name}" not in endpoints(node), "it is no member any more")
    assert load.failed_reads == []
    assert load.missing(entries(patroni)) == set()
    assert load.gap < TTL + SOON
