"""An answer from memory next to a one-row read: latency, and the worker's processor time.

``python -m tests.bench.kept [--rounds 5]``
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.bench.load import run_wrk
from tests.bench.processes import processor_seconds
from tests.live.gateways import serving_queries

READ = "SELECT id, name, status FROM customers WHERE id = :id;\n"
QUERIES = f"-- name: read(id)^\n{READ}\n-- name: kept(id)^\n-- @cache 1h\n{READ}"
SETTINGS: dict[str, dict[str, Any]] = {"server": {"worker": "gateway", "join": False}, "groups.read": {"size": 16}}
SECONDS = 2


def main() -> None:
    """Print a line for each of the two and each number of connections: the medians of alternating rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    with Cluster(replicas=0) as cluster, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        shop.load(cluster)
        with serving_queries(QUERIES, cluster, Path(folder), SETTINGS) as node:
            (worker,) = node.workers()
            for _ in range(rounds):
                for query in ("read", "kept"):
                    requests = Path(folder) / query
                    requests.write_text("".join(f'/query/{query}\t{{"id": {number}}}\n' for number in range(1, 101)))
                    for connections in (1, 16):
                        before = processor_seconds(worker)
                        load = run_wrk(node.port, requests, connections=connections, seconds=SECONDS)
                        used = (processor_seconds(worker) - before) / load.requests * 1e6
                        assert (load.refused, load.failures) == (0, 0)
                        figures = (load.requests / load.seconds, load.p50_ms, load.p99_ms, used)
                        found.setdefault((query, connections), []).append(figures)
    for (query, connections), measured in found.items():
        per_second, p50, p99, used = (statistics.median(values) for values in zip(*measured, strict=True))
        line = {
            "query": query,
            "connections": connections,
            "requests/s": round(per_second),
            "p50 ms": round(p50, 2),
            "p99 ms": round(p99, 2),
            "worker's processor us": round(used, 1),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
