"""Metrics are declared in one place, named as Prometheus asks for, and fed by events."""

import re
from pathlib import Path

import pytest
import yaml

from gateway.events import EVENTS, ConnectFailed, EndpointDrained
from gateway.metrics import (
    BY_NAME,
    CONNECTIONS,
    CONNECTS,
    COUNTED,
    FAMILIES,
    IN_ROTATION,
    OLDEST_WAIT,
    QUEUE_SECONDS,
    REQUESTS,
    Family,
    Kind,
    Metrics,
    Reading,
    merged,
)

SEVERAL_WORDS = re.compile(r"gateway(_[a-z]+)+")
UNITS = ("_seconds", "_bytes", "_total", "_info")
ABBREVIATED = re.compile(r"_(ms|millis|seconds?_?ms|kb|mb|pct|percent|count|sum|bucket)\b")


@pytest.mark.parametrize("family", FAMILIES, ids=[family.name for family in FAMILIES])
def test_a_metric_is_named_by_the_rules_of_prometheus(family: Family) -> None:
    assert SEVERAL_WORDS.fullmatch(family.name)
    assert not ABBREVIATED.search(family.name)
    assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
    assert family.help.endswith(".")
    assert family.help[0].isupper()
    assert not set(family.labels) & {"le", "quantile", "job", "instance"}
    assert list(family.bounds) == sorted(set(family.bounds))


def test_every_time_is_in_seconds_and_every_size_in_bytes() -> None:
    for family in FAMILIES:
        if {"seconds", "lag", "wait", "ping", "age"} & set(family.name.split("_")):
            assert family.name.endswith("_seconds")
        if "memory" in family.name:
            assert family.name.endswith("_bytes")


def test_no_name_stands_for_two() -> None:
    assert len(BY_NAME) == len(FAMILIES)


def test_what_is_counted_of_events_is_on_both_lists() -> None:
    assert COUNTED.keys() <= set(EVENTS)
    assert {family for family, _ in COUNTED.values()} <= set(FAMILIES)


def test_an_event_is_counted_under_its_fields() -> None:
    metrics = Metrics()
    for reason in ("refused", "refused", "cap"):
        metrics.observe(ConnectFailed(endpoint="a", group="read", reason=reason, detail=""))
    metrics.observe(EndpointDrained(endpoint="a", drained=True))
    assert metrics.read().counts == {
        CONNECTS.name: [(("a", "refused"), [2.0]), (("a", "cap"), [1.0])],
    }


def test_a_value_falls_into_the_first_bucket_that_reaches_it() -> None:
    histogram = Metrics().histogram(QUEUE_SECONDS, "read")
    for value in (0.0, 0.0005, 0.0006, 11.0):
        histogram.observe(value)
    assert histogram.counts == [2, 1, *[0] * 12, 1]
    assert histogram.sum == pytest.approx(11.0011)


def test_a_counter_is_not_a_histogram() -> None:
    metrics = Metrics()
    metrics.counter(REQUESTS, "q", "200")
    with pytest.raises(TypeError):
        metrics.histogram(REQUESTS, "q", "200")


def test_whoever_resumes_goes_on_from_what_was_counted() -> None:
    first, second = Metrics(), Metrics()
    first.counter(REQUESTS, "q", "200").value += 5
    first.histogram(QUEUE_SECONDS, "read").observe(0.2)
    second.resume(first.read().counts | {"gateway_no_more_total": [((), [1.0])]})
    second.counter(REQUESTS, "q", "200").value += 1
    assert second.read().counts == {
        REQUESTS.name: [(("q", "200"), [6.0])],
        QUEUE_SECONDS.name: first.read().counts[QUEUE_SECONDS.name],
    }


def test_a_histogram_that_had_other_buckets_begins_anew() -> None:
    metrics = Metrics()
    metrics.resume({QUEUE_SECONDS.name: [(("read",), [1.0, 2.0, 3.0])]})
    assert metrics.histogram(QUEUE_SECONDS, "read").sum == 0.0


def test_counts_of_all_are_added_up_and_states_of_the_living_as_their_kind_says() -> None:
    def reading(number: float) -> Reading:
        metrics = Metrics()
        metrics.counter(REQUESTS, "q", "200").value += number
        metrics.gauge(CONNECTIONS, lambda: {("read", "a", "idle"): number})
        metrics.gauge(OLDEST_WAIT, lambda: {("read",): number})
        metrics.gauge(IN_ROTATION, lambda: {("a",): number})
        return metrics.read()

    found = merged(reading(1), [reading(2)], [reading(4)])
    assert found[REQUESTS] == {("q", "200"): [7.0]}
    assert found[CONNECTIONS] == {("read", "a", "idle"): [3.0]}
    assert found[OLDEST_WAIT] == {("read",): [2.0]}
    assert found[IN_ROTATION] == {("a",): [1.0]}


def test_the_handbook_has_every_metric_with_its_labels_and_no_other() -> None:
    handbook = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    table = handbook[handbook.index("| metric | what |") :].partition("\n\n")[0]
    told = re.findall(r"^\| `([a-z_]+)(?:\{([a-z,]+)\})?` \|", table, re.MULTILINE)
    assert told == [(family.name, ",".join(family.labels)) for family in FAMILIES]


def test_the_handbook_has_every_alert() -> None:
    root = Path(__file__).parents[1]
    handbook = (root / "docs" / "operations.md").read_text(encoding="utf-8")
    rules = yaml.safe_load((root / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert set(re.findall(r"^\| `(Gateway\w+)` \|", handbook, re.MULTILINE)) == alerts
