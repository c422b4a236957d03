"""GET /openapi.json, without a server."""

import pytest

from tests.execution.samples import SIGNATURE, query
from tests.web.rigs import HealthRig


@pytest.fixture
def node() -> HealthRig:
    return HealthRig(queries=[query("pay", write=True), query("orders"), query("sold", roles=("sales",))])


def test_a_query_is_in_it_once_its_types_are_known(node: HealthRig) -> None:
    assert node.client.simulate_get("/openapi.json").json["paths"] == {}
    node.plans.learnt("orders", SIGNATURE, at=0.0)
    assert list(node.client.simulate_get("/openapi.json").json["paths"]) == ["/query/orders"]
    node.plans.learnt("pay", SIGNATURE, at=0.0)
    node.plans.failed("orders", "it is gone", waits=False)
    assert list(node.client.simulate_get("/openapi.json").json["paths"]) == ["/query/pay"]


def test_a_caller_sees_only_what_it_may_run(node: HealthRig) -> None:
    for name in ("orders", "sold"):
        node.plans.learnt(name, SIGNATURE, at=0.0)
    whole = node.client.simulate_get("/openapi.json").json
    assert list(whole["paths"]) == ["/query/orders"]
    assert not [name for name in whole["components"]["schemas"] if name.startswith("Sold")]


def test_it_is_sent_again_only_if_it_has_changed(node: HealthRig) -> None:
    node.plans.learnt("orders", SIGNATURE, at=0.0)
    first = node.client.simulate_get("/openapi.json")
    tag = first.headers["ETag"]
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = node.client.simulate_get("/openapi.json", headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    node.plans.learnt("pay", SIGNATURE, at=0.0)
    changed = node.client.simulate_get("/openapi.json", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["ETag"] != tag) == (200, True)
    assert node.client.simulate_head("/openapi.json").headers["ETag"] == changed.headers["ETag"]
