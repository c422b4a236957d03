from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import falcon.testing
import pytest

from gateway.events import EndpointDrained
from gateway.pool.lease import Lease
from tests.execution.samples import SIGNATURE, query
from tests.pool.fake import FakeConnection
from tests.web.rigs import HealthRig

OPERATOR = {"gateway.admin": True}
"""What the server puts into the environ of requests over the operators' listener."""
DRAIN = "/admin/endpoints/replica1/drain"


@pytest.fixture
def node() -> HealthRig:
    node = HealthRig()
    node.probe_all()
    return node


@pytest.fixture
def lease(node: HealthRig) -> Iterator[Lease[FakeConnection]]:
    """A request at work on replica1."""
    taken = []
    while True:
        lease = node.pool["read"].lease(node.rig.soon(60))
        lease.__enter__()
        taken.append(lease)
        if lease.endpoint == "replica1":
            break
    yield lease
    for each in taken[:-1]:
        each.__exit__(None, None, None)


def post(node: HealthRig, path: str = DRAIN, query: str = "") -> falcon.testing.Result:
    return node.client.simulate_post(path, query_string=query, extras=OPERATOR)


def test_an_endpoint_without_work_is_drained_at_once(node: HealthRig) -> None:
    answer = post(node)
    assert (answer.status_code, answer.json) == (200, {"endpoint": "replica1", "state": "drained", "leased": 0})
    assert node.pool["read"].serving == ("replica2",)
    assert post(node).status_code == 200


def test_it_answers_when_the_last_lease_is_home(node: HealthRig, lease: Lease[FakeConnection]) -> None:
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(post, node)
        while node.pool["read"].serving != ("replica2",):
            assert not answer.done()
        lease.__exit__(None, None, None)
        assert answer.result(10).json["leased"] == 0


def test_when_the_wait_is_over_it_says_what_is_at_work_and_stays_drained(
    node: HealthRig, lease: Lease[FakeConnection]
) -> None:
    answer = post(node, query="wait=20ms")
    assert (answer.status_code, answer.json["code"]) == (504, "deadline_exceeded")
    assert answer.json["detail"] == "replica1 gets no new work, but after 0.02 s 1 request is at work on it"
    assert node.rotation.view("replica1").drained
    lease.__exit__(None, None, None)


def test_an_endpoint_that_is_resumed_serves_again(node: HealthRig) -> None:
    post(node)
    answer = post(node, "/admin/endpoints/replica1/resume")
    assert answer.json == {"endpoint": "replica1", "state": "in_rotation", "leased": 0}
    assert node.pool["read"].serving == ("replica1", "replica2")


def test_one_that_is_not_fit_is_out_though_it_was_resumed() -> None:
    node = HealthRig()
    answer = post(node, "/admin/endpoints/replica1/resume")
    assert answer.json == {"endpoint": "replica1", "state": "out", "leased": 0}
    late = post(node, "/admin/endpoints/replica1/resume", query="wait=20ms")
    assert (late.status_code, late.json["code"]) == (504, "deadline_exceeded")
    assert late.json["detail"] == "replica1 may have work, but after 0.02 s it is out of the rotation: unknown"


@pytest.mark.parametrize("headers", [{}, {"Gateway-Admin": "True"}, {"gateway.admin": "True"}], ids=str)
def test_anywhere_else_there_is_no_administration(headers: dict[str, str], node: HealthRig) -> None:
    post(node)  # whatever an operator has asked for is not remembered for others
    post(node, "/admin/endpoints/replica1/resume")
    for path in (DRAIN, "/admin/endpoints/replica1/resume", "/admin/endpoints/nothing/drain"):
        for method in ("POST", "GET", "OPTIONS"):
            answer = node.client.simulate_request(method, path, headers=headers)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert not node.rotation.view("replica1").drained


def test_what_an_operator_does_is_observed_under_the_name_of_the_request(node: HealthRig) -> None:
    drained = post(node)
    resumed = post(node, "/admin/endpoints/replica1/resume")
    assert node.seen == [
        EndpointDrained(endpoint="replica1", drained=True, request_id=drained.headers["X-Request-Id"]),
        EndpointDrained(endpoint="replica1", drained=False, request_id=resumed.headers["X-Request-Id"]),
    ]


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("/admin/endpoints/nothing/drain", "", 404, "not_found"),
        ("/admin/endpoints/nothing/resume", "", 404, "not_found"),
        (DRAIN, "wait=5", 400, "invalid_request"),
        (DRAIN, "wait=31s", 400, "invalid_request"),
        (DRAIN, "wait=1s&wait=2s", 400, "invalid_request"),
        (DRAIN, "weight=1s", 400, "invalid_request"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    path: str, query: str, status: int, code: str, node: HealthRig
) -> None:
    answer = post(node, path, query)
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert not any(view.drained for view in node.rotation.views())


def test_it_is_done_by_post_only(node: HealthRig) -> None:
    answer = node.client.simulate_get(DRAIN, extras=OPERATOR)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST, OPTIONS")


class TestLearning:
    @pytest.fixture
    def node(self) -> HealthRig:
        node = HealthRig(queries=[query("orders"), query("pay", write=True)])
        node.plans.learnt("orders", SIGNATURE, at=1.0)
        node.plans.failed("pay", 'relation "orders" does not exist', waits=False)
        return node

    def test_it_answers_with_how_many_there_are_and_which_cannot_be_served(self, node: HealthRig) -> None:
        began = monotonic()
        answer = post(node, "/admin/learn", query="wait=5s")
        assert (answer.status_code, answer.json) == (200, {"queries": 2, "faulty": ["pay"]})
        assert began + 5 <= node.deadlines[0] <= monotonic() + 5

    def test_workers_that_are_late_are_named(self, node: HealthRig) -> None:
        for late, words in ([71], "worker 71"), ([71, 72], "workers 71, 72"):
            node.late = late
            answer = post(node, "/admin/learn", query="wait=20ms")
            assert (answer.status_code, answer.json["code"]) == (504, "deadline_exceeded")
            assert answer.json["detail"] == f"after 0.02 s {words} may still act on what was learnt before"

    def test_it_is_for_operators_and_bounded(self, node: HealthRig) -> None:
        assert node.client.simulate_post("/admin/learn").status_code == 404
        assert post(node, "/admin/learn", query="wait=31s").status_code == 400
        assert post(node, "/admin/learn", query="all=1").status_code == 400
        assert node.deadlines == []
