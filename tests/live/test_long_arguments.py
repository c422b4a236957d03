"""Arguments that take a worker long to read do not hold up its other clients."""

import json
import threading
import time
from pathlib import Path

from gateway.demo.cluster import Cluster
from tests.live.gateways import serving_queries

COUNT = "-- name: count(xs)$\n-- @param xs int8[]\nSELECT cardinality(:xs);\n"


def test_others_are_answered_while_a_long_list_is_read(cluster: Cluster, tmp_path: Path) -> None:
    body = json.dumps({"xs": ["1"] * 250_000}, separators=(",", ":"))
    with (
        serving_queries(COUNT, cluster, tmp_path, {"server": {"workers": 1}}) as node,
        node.new_client() as other,
    ):
        other.get("/health/live")
        answers = []
        sender = threading.Thread(
            target=lambda: answers.append(
                node.client.post("/query/count", content=body, headers={"Content-Type": "application/json"})
            )
        )
        began = time.monotonic()
        sender.start()
        others = []
        while sender.is_alive():
            asked = time.monotonic()
            assert other.get("/health/live").status_code == 200
            others.append(time.monotonic() - asked)
        took = time.monotonic() - began
        assert answers[0].json() == {"value": 250_000}
        # How long the list took does not matter: others were answered before its answer came.
        assert max(others) < took / 2, (len(others), max(others), took)
