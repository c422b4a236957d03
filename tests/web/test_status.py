"""What the page of a node's state is told."""

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from gateway.events import EndpointMoved
from gateway.metrics import BATCH_SIZE, CACHE, ERRORS, KEY_EXPIRES, KEY_USED, MEMORY, REQUEST_SECONDS, REQUESTS, Metrics
from gateway.metrics import merged as merge
from gateway.node.recent import RecentEvents
from gateway.node.samples import Samples
from gateway.rotation.endpoint import Reason
from gateway.rotation.moves import Drain, ProbeFailed
from gateway.web.compression import Compression
from gateway.web.status import StatusResource
from tests.node.clock import Clock
from tests.web.description import Description
from tests.web.rigs import HealthRig

if TYPE_CHECKING:
    import falcon.testing


class StatusRig(HealthRig):
    """The same with its page, and a clock that both samples and events go by."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(1_800_000_000.0)
        self.metrics = Metrics()
        self.recent = RecentEvents(None, wall=self.clock)
        self.samples = Samples(
            None,
            endpoints=self.rig.servers,
            views=self.rotation.views,
            serves=lambda view: self.membership(view.name).in_rotation,
            wall=self.clock,
        )
        self.app.add_route(
            "/status.json",
            StatusResource(
                health=self.health,
                pool=self.pool,
                merged=lambda: merge(self.metrics.read(), [], []),
                samples=self.samples,
                recent=self.recent,
                compression=Compression(lambda: None),
                wall=self.clock,
            ),
        )


@pytest.fixture
def node() -> StatusRig:
    node = StatusRig()
    node.probe_all()
    return node


def told(node: StatusRig, since: str = "") -> dict[str, object]:
    """The answer, which is as openapi.yaml says."""
    answer = node.client.simulate_get("/status.json", params={"since": since} if since else None)
    assert answer.status_code == 200
    schema = {"$ref": "#/components/schemas/Status"}
    Description.load().validator(schema).validate(answer.json)
    found: dict[str, object] = answer.json
    return found


def test_it_says_which_server_may_serve_which_group_and_why_another_may_not(node: StatusRig) -> None:
    node.rotation.apply("replica1", ProbeFailed(Reason.REFUSED, "no"))
    node.rotation.apply("replica2", Drain())
    assert told(node)["objections"] == {
        "read": {"primary": None, "replica1": "refused", "replica2": "drained"},
        "write": {"primary": None, "replica1": "refused", "replica2": "drained"},
    }


def test_what_was_counted_is_told_by_query(node: StatusRig) -> None:
    node.metrics.counter(REQUESTS, "q", "200").value += 3
    node.metrics.counter(REQUESTS, "q", "503").value += 1
    node.metrics.histogram(REQUEST_SECONDS, "q").observe(0.002)
    node.metrics.histogram(BATCH_SIZE, "q").observe(3.0)
    for result, times in (("hit", 2), ("miss", 1), ("stale", 0)):
        node.metrics.counter(CACHE, "q", result).value += times
    node.metrics.counter(REQUESTS, "transaction", "200").value += 1
    for code in ("pool_timeout", "invalid_arguments"):
        node.metrics.counter(ERRORS, code).value += 1
    found = told(node)
    assert found["calls"] == {
        "q": {
            "statuses": {"200": 3, "503": 1},
            "buckets": [0, 0, 1, *[0] * 12],
            "seconds": 0.002,
            "statements": 1,
            "joined": 3.0,
            "cache": {"hit": 2, "miss": 1},
        },
        "transaction": {"statuses": {"200": 1}},
    }
    assert found["problems"] == {"pool_timeout": 1}


def test_of_the_queries_those_are_told_whose_counts_have_changed(node: StatusRig) -> None:
    for name in ("idle", "busy"):
        node.metrics.counter(REQUESTS, name, "200").value += 1
    first = told(node)
    node.clock.now += 1
    node.metrics.counter(REQUESTS, "busy", "200").value += 1
    assert told(node, since=str(first["at"]))["calls"] == {"busy": {"statuses": {"200": 2}}}
    node.clock.now += 1
    assert told(node, since=str(first["at"]))["calls"] == {"busy": {"statuses": {"200": 2}}}
    assert told(node, since=str(node.clock.now))["calls"] == {}
    assert told(node)["calls"] == {"idle": {"statuses": {"200": 1}}, "busy": {"statuses": {"200": 2}}}


def test_keys_that_expire_are_told_the_first_to_do_so_first(node: StatusRig) -> None:
    node.metrics.gauge(KEY_EXPIRES, lambda: {("late:1",): 2e9, ("soon:2",): 1.9e9})
    node.metrics.gauge(KEY_USED, lambda: {("late:1",): 1.7e9})
    assert told(node)["keys"] == [
        {"key": "soon:2", "expires": 1.9e9, "used": None},
        {"key": "late:1", "expires": 2e9, "used": 1.7e9},
    ]


def test_samples_and_events_are_told_from_the_moment_on_that_is_asked_for(node: StatusRig) -> None:
    for _ in range(3):
        node.samples.take()
        node.recent.observe(EndpointMoved(endpoint="replica1", standing=f"at {node.clock.now:.0f}", serves=True))
        node.clock.sleep(1.0)
    node.metrics.gauge(MEMORY, lambda: {("0",): 5e7})
    whole, rest = told(node), told(node, "1800000001.0")
    assert isinstance(whole["samples"], dict)
    assert isinstance(rest["samples"], dict)
    assert whole["samples"]["replica1"] == [[1_800_000_000 + number, 0.3, 0.0, True] for number in range(3)]
    assert rest["samples"]["primary"] == [[1_800_000_002, 0.3, None, True]]
    assert rest["events"] == [
        {
            "at": 1_800_000_002.0,
            "level": 20,
            "event": "endpoint_moved",
            "text": "endpoint replica1: at 1800000002",
        }
    ]
    assert rest["processes"] == {"0": {"memory": 50_000_000, "loop_lag_ms": 0.0}}


def test_a_long_answer_is_compressed_for_those_who_take_that(node: StatusRig) -> None:
    accepted = {"Accept-Encoding": "gzip"}
    assert "Content-Encoding" not in node.client.simulate_get("/status.json", headers=accepted).headers
    for number in range(200):
        node.metrics.counter(REQUESTS, f"query_of_a_long_name_{number}", "200").value += 1
    packed = node.client.simulate_get("/status.json", headers=accepted)
    assert packed.headers["Content-Encoding"] == "gzip"
    calls = json.loads(gzip.decompress(packed.content))["calls"]
    assert calls == told(node)["calls"]


@pytest.mark.parametrize("since", ["x", "nan", "inf", "1,2"])
def test_a_moment_that_is_none_is_refused(node: StatusRig, since: str) -> None:
    answer: falcon.testing.Result = node.client.simulate_get("/status.json", query_string=f"since={since}")
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
