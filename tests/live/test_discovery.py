"""A name with many addresses: the servers of an endpoint come and go with them, while clients ask."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.chaos.background import Background
from tests.chaos.naming import Names
from tests.chaos.proxy import Proxy
from tests.live.gateways import Gateway, serving, wait_until
from tests.live.steady import QUERIES, TABLE, Steady

NAME = "members.chaos"
LOOKS = 3.0
"""Seconds for more questions than it takes to be forgotten."""


@pytest.fixture(scope="module")
def addresses(cluster: Cluster) -> Iterator[tuple[str, ...]]:
    """Where the servers are at one port, the primary first, and then an address where nobody is."""
    with Background("proxies") as loop, ExitStack() as stack:
        first = stack.enter_context(Proxy(loop, cluster.primary.port, address="127.0.0.2"))
        proxies = [first]
        for number, server in enumerate(cluster.replicas, 3):
            proxies.append(stack.enter_context(Proxy(loop, server.port, address=f"127.0.0.{number}", port=first.port)))
        yield (*(proxy.address for proxy in proxies), "127.0.0.9", str(first.port))


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Names:
    return Names(tmp_path_factory.mktemp("names"))


@pytest.fixture(scope="module", params=["gateway", "gthread", "sync"])
def node(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    names: Names,
    addresses: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    names.set(NAME, addresses[:2])
    folder = tmp_path_factory.mktemp("node")
    (folder / "queries").mkdir()
    (folder / "queries" / "steady.sql").write_text(QUERIES)
    dsn = f"host={NAME} port={addresses[-1]} dbname={shop.DATABASE} user={shop.ROLE} sslmode=disable"
    settings: dict[str, dict[str, Any]] = {
        "endpoints.pg": {"dsn": dsn, "discover": "dns", "allow_insecure": True},
        "probe": {"discovery": "300ms"},
        "server": {"workers": 2, "worker": request.param},
    }
    cluster.primary.sql(TABLE, shop.DATABASE)
    cluster.wait_until_caught_up()
    paths = [folder / "queries"]
    with serving(cluster, folder, settings, endpoints={"pg": dsn}, paths=paths, variables=names.variables) as running:
        yield running
    cluster.primary.sql("DROP TABLE entries", shop.DATABASE)


def asked(node: Gateway) -> dict[str, Any]:
    """What a worker of the newest generation says of the node's health."""
    with node.new_client() as client:
        body: dict[str, Any] = client.get("/health").json()
        return body


def in_rotation(node: Gateway) -> set[str]:
    return {name for name, each in asked(node)["endpoints"].items() if each["in_rotation"]}


def called(*addresses: str) -> set[str]:
    return {f"pg-{address.replace('.', '-')}" for address in addresses}


@pytest.mark.parametrize("node", ["gateway"], indirect=True)
def test_every_address_is_a_server(node: Gateway, addresses: tuple[str, ...]) -> None:
    wait_until(lambda: in_rotation(node) == called(*addresses[:2]), "both serve")
    assert asked(node)["endpoints"]["pg-127-0-0-2"]["role"] == "primary"


def test_an_address_that_comes_serves_and_one_that_goes_leaves_and_no_request_fails(
    node: Gateway, names: Names, addresses: tuple[str, ...]
) -> None:
    # Somebody edits the queries meanwhile: that is nobody's business but of the next reload that is asked for.
    (node.folder / "queries" / "half.sql").write_text("-- name: half^\nSELEC")
    with Steady(node) as load:
        names.set(NAME, addresses[:3])
        wait_until(lambda: in_rotation(node) == called(*addresses[:3]), "the third serves")
        wait_until(lambda: load.reads["pg-127-0-0-4"] > 20, "it is asked")
        names.set(NAME, [addresses[0], addresses[2]])
        wait_until(lambda: in_rotation(node) == called(addresses[0], addresses[2]), "the second has left")
    assert load.failed_reads == []
    assert set(load.outcomes.values()) == {"committed"}


@pytest.mark.parametrize("node", ["gateway"], indirect=True)
@pytest.mark.parametrize(("position", "told"), [(None, "cannot be looked up"), (3, "is not served yet")])
def test_answers_that_fail_or_lead_nowhere_change_nothing(
    node: Gateway, names: Names, addresses: tuple[str, ...], position: int | None, told: str
) -> None:
    names.set(NAME, [addresses[0], addresses[2]])
    wait_until(lambda: in_rotation(node) == called(addresses[0], addresses[2]), "both serve")
    changes = node.log.count("stands for")
    with Steady(node, first=1_000_000 + 1_000_000 * (position or 0)) as load:
        names.set(NAME, [] if position is None else [addresses[position]])
        wait_until(lambda: told in node.log, told)
        until = time.monotonic() + LOOKS
        wait_until(lambda: time.monotonic() > until, "it was asked often enough to forget them")
    wait_until(lambda: in_rotation(node) == called(addresses[0], addresses[2]), "both serve still")
    assert node.log.count("stands for") == changes
    assert load.failed_reads == []
    assert set(load.outcomes.values()) == {"committed"}
