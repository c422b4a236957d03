"""The description of queries, by name, without a server."""

from typing import Any

import msgspec
import pytest

from gateway.catalogue.query import Deprecation
from gateway.web.catalogue import HIDDEN_FAULT, WAITS
from tests.execution.samples import SIGNATURE, query
from tests.web.description import Description
from tests.web.rigs import HealthRig


@pytest.fixture
def node() -> HealthRig:
    return HealthRig(
        queries=[query("pay", write=True), query("orders", deprecated=Deprecation("use bookings", sunset="2027-01-31"))]
    )


def described(node: HealthRig, name: str) -> dict[str, Any]:
    answer = node.client.simulate_get(f"/queries/{name}")
    Description.load().validator({"$ref": "#/components/schemas/Query"}).validate(answer.json)
    body: dict[str, Any] = answer.json
    return body


def test_all_queries_are_described_by_name(node: HealthRig) -> None:
    told = node.client.simulate_get("/queries").json["queries"]
    assert told == [described(node, "orders"), described(node, "pay")]
    assert told[0]["deprecated"] == "use bookings"


def test_what_no_server_has_said_is_null(node: HealthRig) -> None:
    told = described(node, "orders")
    assert (told["learnt"], told["harmless"], told["columns"], told["fault"]) == (None, None, None, None)
    assert [parameter["type"] for parameter in told["parameters"]] == [None]


def test_it_tells_what_was_learnt_and_when(node: HealthRig) -> None:
    node.plans.learnt("orders", SIGNATURE, at=1_700_000_000.9)
    told = described(node, "orders")
    assert (told["learnt"], told["harmless"], told["columns"]) == ("2023-11-14T22:13:20Z", True, [])
    assert [parameter["type"] for parameter in told["parameters"]] == ["integer"]
    node.plans.learnt("orders", msgspec.structs.replace(SIGNATURE, unproven="calls set_config"), at=1_700_000_060.0)
    told = described(node, "orders")
    assert (told["learnt"], told["harmless"]) == ("2023-11-14T22:14:20Z", False)


def test_the_servers_sentence_is_not_for_callers(node: HealthRig) -> None:
    node.plans.failed("orders", 'relation "secrets" does not exist', waits=False)
    node.plans.failed("pay", "canceling statement due to lock timeout", waits=True)
    assert described(node, "orders")["fault"] == HIDDEN_FAULT
    assert described(node, "pay")["fault"] == WAITS


def test_there_is_no_query_of_another_name(node: HealthRig) -> None:
    answer = node.client.simulate_get("/queries/Orders")
    assert (answer.status_code, answer.json["code"]) == (404, "unknown_query")
    assert node.client.simulate_head("/queries/orders").status_code == 200
