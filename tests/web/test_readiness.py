import pytest

from gateway.rotation.endpoint import Reason
from gateway.rotation.moves import Drain, ProbeFailed
from gateway.web.catalogue import HIDDEN_FAULT, WAITS
from tests.execution.samples import SIGNATURE, query
from tests.web.rigs import HealthRig


@pytest.fixture
def node() -> HealthRig:
    node = HealthRig()
    node.probe_all()
    return node


def test_it_is_ready_when_every_group_can_serve(node: HealthRig) -> None:
    assert node.reasons() == []
    assert node.reasons(group="read") == node.reasons(group="write") == []


def test_head_answers_the_same_without_a_body(node: HealthRig) -> None:
    assert node.client.simulate_head("/health/ready").status_code == 200
    answer = node.client.simulate_head("/health/ready", params={"min": 2})
    assert (answer.status_code, answer.content) == (503, b"")


def test_a_worker_that_was_told_to_end_is_not_ready_though_it_can_serve(node: HealthRig) -> None:
    node.is_draining = True
    assert node.reasons() == ["this worker is shutting down"]
    (worker,) = node.client.simulate_get("/health").json["workers"]
    assert worker["draining"]


def test_so_many_endpoints_can_be_asked_for(node: HealthRig) -> None:
    assert node.reasons(group="read", min=2) == []
    assert node.reasons(min=2) == ["group write: 1 of at least 2 endpoints may answer"]
    node.rotation.apply("replica1", Drain())
    assert node.reasons(group="read", min=2) == ["group read: 1 of at least 2 endpoints may answer"]


def test_the_primary_a_group_would_fall_back_to_is_not_one_that_serves_it(node: HealthRig) -> None:
    assert node.reasons(group="read", min=3) == ["group read: 2 of at least 3 endpoints may answer"]


def test_less_lag_can_be_asked_for_than_the_group_allows(node: HealthRig) -> None:
    node.probe("replica1", lag=3)
    assert node.reasons(group="read", max_lag="2s") == []
    assert node.reasons(group="read", max_lag="3s", min=2) == []
    assert node.reasons(group="read", max_lag="2s", min=2) == [
        "group read: 1 of at least 2 endpoints may answer with a lag of at most 2 s (replica1 is 3 s behind)"
    ]


def test_a_replica_of_unknown_lag_does_not_count(node: HealthRig) -> None:
    for name in ("replica1", "replica2"):
        node.probe(name, lag=None)
    assert node.reasons(group="read") == []
    assert node.reasons(group="read", max_lag="1h") == [
        "group read: 0 of at least 1 endpoints may answer with a lag of at most 3600 s"
        " (lag of replica1 not known, lag of replica2 not known)"
    ]


def test_a_primary_is_behind_nobody(node: HealthRig) -> None:
    assert node.reasons(group="write", max_lag="1ms") == []
    for name in ("replica1", "replica2"):
        node.rotation.apply(name, ProbeFailed(Reason.REFUSED, "refused"))
    assert node.reasons(max_lag="1ms") == []


def test_every_reason_is_told(node: HealthRig) -> None:
    node.plans.confirmed = False
    for name in node.rig.servers:
        node.rotation.apply(name, ProbeFailed(Reason.REFUSED, "refused"))
    assert node.reasons(min=2, max_lag="1s") == [
        "the types of the queries are not known yet",
        "group read: no endpoint may answer",
        "group write: no endpoint may answer",
    ]


class TestQueries:
    @pytest.fixture
    def node(self) -> HealthRig:
        node = HealthRig(queries=[query("orders"), query("pay", write=True)])
        node.probe_all()
        node.plans.confirmed = True
        return node

    def test_a_query_can_be_asked_about_before_all_are_known(self, node: HealthRig) -> None:
        node.plans.learnt("orders", SIGNATURE, at=1.0)
        assert node.reasons() == ["the types of the queries are not known yet"]
        assert node.reasons(query="orders") == []
        assert node.reasons(query="pay") == ["query pay: its types are not known yet"]

    def test_a_query_that_cannot_be_served_makes_nothing_unready_but_itself(self, node: HealthRig) -> None:
        node.plans.learnt("orders", SIGNATURE, at=1.0)
        node.plans.failed("pay", 'relation "secrets" does not exist', waits=False)
        assert node.reasons() == []
        assert node.reasons(query="orders") == []
        assert node.reasons(query="pay") == [f"query pay: {HIDDEN_FAULT}"]

    def test_a_query_that_has_to_wait_says_so(self, node: HealthRig) -> None:
        node.plans.failed("orders", "canceling statement due to lock timeout", waits=True)
        assert node.reasons(query="orders") == [f"query orders: {WAITS}"]

    def test_all_queries_can_be_asked_about(self, node: HealthRig) -> None:
        node.plans.learnt("orders", SIGNATURE, at=1.0)
        assert node.reasons(all="true") == ["query pay: its types are not known yet"]
        node.plans.learnt("pay", SIGNATURE, at=1.0)
        assert node.reasons(all="true") == node.reasons(all="true", query="pay", group="read") == []
        node.plans.stale(["orders"], at=2.0)
        assert node.reasons() == []
        assert node.reasons(all="true") == ["query orders: the database has changed, and it is being learnt anew"]
        assert node.client.simulate_get("/health/ready", query_string="all").status_code == 503
        assert node.client.simulate_get("/health/ready", query_string="all=no").status_code == 400

    def test_what_was_learnt_long_ago_counts_for_nothing_until_a_server_was_asked(self, node: HealthRig) -> None:
        node.plans.learnt("orders", SIGNATURE, at=1.0)
        node.plans.confirmed = False
        assert node.reasons(query="orders") == ["no server has answered yet, so the types of the queries are not known"]
