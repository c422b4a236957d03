"""What a running gateway says of itself: its metrics, and the events in its log."""

import json
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.live.gateways import Gateway, wait_until


def metrics(gateway: Gateway) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(gateway.client.get("/metrics").text)
        for sample in family.samples
    }


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    return metrics(gateway).get((name, frozenset(labels.items())), 0.0)


def events(gateway: Gateway, name: str, **fields: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in gateway.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name and fields.items() <= line.items()]


def logged(gateway: Gateway, name: str, **fields: Any) -> dict[str, Any]:
    wait_until(lambda: events(gateway, name, **fields), f"{name} {fields} is logged")
    return events(gateway, name, **fields)[0]
