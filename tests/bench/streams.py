"""Streams of many rows: megabytes a second of the worker's processor time, its memory, and what others notice of it.

``python -m tests.bench.streams [--rows 10000000]``
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.bench.processes import processor_seconds
from tests.live.gateways import Gateway, serving_queries
from tests.live.memory import forget_most, held, most_held

QUERIES = """
-- name: export(n)
SELECT i AS id, 1000 + i % 977 AS customer_id, now() AS placed_at, (i % 100000) / 100.0 AS total, 'open' AS status,
       'A line of text as they are in orders, comments and addresses, of some eighty characters' AS note,
       'no. ' || i AS reference, i % 7 = 0 AS paid
  FROM (SELECT generate_series(1, :n::int) AS i) AS s;

-- name: one()^
SELECT 1 AS n;
"""
SETTINGS: dict[str, dict[str, Any]] = {"server": {"worker": "gateway"}, "groups.read": {"size": 8}}
REST = 0.02
"""Seconds between two requests of whoever is also there."""


def main() -> None:
    """Measure NDJSON and CSV, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows
    with Cluster(replicas=0) as cluster:
        shop.load(cluster)
        folder = Path(tempfile.mkdtemp())
        with serving_queries(QUERIES, cluster, folder, SETTINGS) as node:
            for accept in ("application/x-ndjson", "text/csv"):
                print(json.dumps(measured(node, accept, rows)), flush=True)


def measured(node: Gateway, accept: str, rows: int) -> dict[str, object]:
    """One stream, with another client asking for one row again and again meanwhile."""
    (worker,) = node.workers()
    _read(node, accept, 10_000)
    idle = forget_most(worker)
    with _asking(node) as alone:
        time.sleep(2.0)
    with _asking(node) as times:
        before, began = processor_seconds(worker), time.monotonic()
        size = _read(node, accept, rows)
        took, used = time.monotonic() - began, processor_seconds(worker) - before
    return {
        "accept": accept,
        "rows": rows,
        "MB": round(size / 1e6),
        "seconds": round(took, 1),
        "MB/s": round(size / 1e6 / took),
        "MB/s of a core of the worker": round(size / 1e6 / used),
        "idle MB": round(idle / 1e6, 1),
        "most MB above idle": round((most_held(worker) - idle) / 1e6, 1),
        "MB above idle afterwards": round((held(worker) - idle) / 1e6, 1),
        "p99 ms of others": _percentile(times, 99),
        "p99 ms of others without it": _percentile(alone, 99),
        "requests of others": len(times),
    }


def _percentile(times: list[float], share: int) -> float:
    return round(statistics.quantiles(times, n=100)[share - 1] * 1000, 2)


@contextmanager
def _asking(node: Gateway) -> Iterator[list[float]]:
    times: list[float] = []
    ends = threading.Event()

    def ask() -> None:
        with node.new_client() as client:
            client.event_hooks = {}
            while not ends.wait(REST):
                began = time.monotonic()
                client.post("/query/one", json={})
                times.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield times
    finally:
        ends.set()
        thread.join()


def _read(node: Gateway, accept: str, rows: int) -> int:
    """Read a stream to its end in a process of its own, which costs this one nothing; its bytes."""
    readable, writable = os.pipe()
    if not (child := os.fork()):
        with socket.create_connection(("127.0.0.1", node.port)) as client:
            request = f"GET /query/export?n={rows} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n"
            client.sendall(request.encode())
            buffer, size, end = bytearray(1 << 20), 0, b""
            while not end.endswith(b"\r\n0\r\n\r\n"):
                count = client.recv_into(buffer)
                if not count:
                    break
                size += count
                end = (end + bytes(buffer[max(0, count - 7) : count]))[-7:]
            os.write(writable, str(size if count else -1).encode())
        os._exit(0)
    size = int(os.read(readable, 100))
    os.waitpid(child, 0)
    os.close(readable)
    os.close(writable)
    if size < 0:
        raise SystemExit("the stream broke off")
    return size


if __name__ == "__main__":
    main()
