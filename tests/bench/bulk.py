"""Ways to write many rows: bodies of records against lists of objects and against COPY; memory under a long body.

``python -m tests.bench.bulk [--rows 50000] [--rounds 5] [--bytes 1000000000]``
"""

import argparse
import io
import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.bench.processes import processor_seconds
from tests.live.gateways import Gateway, serving_queries
from tests.live.memory import forget_most, held, most_held

TABLE = """
CREATE SCHEMA loading;
CREATE TABLE loading.items (id int NOT NULL, note text, at timestamptz, price numeric);
GRANT USAGE ON SCHEMA loading TO gateway;
GRANT SELECT, INSERT, TRUNCATE ON loading.items TO gateway;
"""
QUERIES = """
-- name: add(id, note, at, price)!
INSERT INTO loading.items VALUES (:id, :note, :at, :price);
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"worker": "gateway", "timeout": "60s", "max_body": "4MB"},
    "groups.write": {"access": "write", "size": 2},
}
LIST = 1000
"""Objects of one list: as many as a list may have by default."""
NDJSON, CSV = "application/x-ndjson", "text/csv"

Way = Callable[[], None]


def main() -> None:
    """Print a line for each way, and one for the long body."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    given = parser.parse_args()
    with Cluster(replicas=0) as cluster, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        shop.load(cluster)
        cluster.primary.sql(TABLE, shop.DATABASE)
        with serving_queries(QUERIES, cluster, Path(folder), SETTINGS) as node:
            if given.rounds:
                for line in compared(cluster, node, given.rows, given.rounds):
                    print(json.dumps(line), flush=True)
            if given.bytes:
                print(json.dumps(long_body(cluster, node, given.bytes)), flush=True)


def compared(cluster: Cluster, node: Gateway, rows: int, rounds: int) -> list[dict[str, object]]:
    """The medians of rounds in which each way is taken in turn."""
    node.client.event_hooks = {}  # nothing looks at the answers meanwhile
    (worker,) = node.workers()
    server = cluster.primary.pid
    assert server is not None
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        for name, way in _ways(cluster, node, rows).items():
            cluster.primary.sql("TRUNCATE loading.items; CHECKPOINT", shop.DATABASE)
            began, used, served = time.monotonic(), processor_seconds(worker), processor_seconds(server)
            way()
            took = time.monotonic() - began
            used, served = processor_seconds(worker) - used, processor_seconds(server) - served
            counted = cluster.primary.sql("SELECT count(*) FROM loading.items", shop.DATABASE)
            assert int(counted) == rows, f"{name}: {counted} rows"
            found.setdefault(name, []).append((rows / took, used / rows * 1e6, served / rows * 1e6))
    return [_line(name, rows, measured) for name, measured in found.items()]


def _line(name: str, rows: int, measured: list[tuple[float, float, float]]) -> dict[str, object]:
    per_second, used, served = (statistics.median(values) for values in zip(*measured, strict=True))
    return {
        "way": name,
        "rows": rows,
        "rows/s": round(per_second),
        "worker's processor us a row": round(used, 1),
        "server's processor us a row": round(served, 1),
    }


def _ways(cluster: Cluster, node: Gateway, rows: int) -> dict[str, Way]:
    objects = [_row(number) for number in range(rows)]
    ndjson = b"".join(json.dumps(each).encode() + b"\n" for each in objects)
    cells = "".join(f"{','.join(map(str, each.values()))}\n" for each in objects).encode()
    header = ",".join(objects[0]).encode() + b"\n"
    lists = [json.dumps(objects[begin : begin + LIST]).encode() for begin in range(0, rows, LIST)]

    def in_lists() -> None:
        for each in lists:
            _post(node, each, "application/json")

    def copied() -> None:
        connection = psycopg2.connect(cluster.primary.dsn(shop.DATABASE))
        with connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY loading.items FROM STDIN (FORMAT csv)", io.BytesIO(cells))
        connection.close()

    return {
        "body of NDJSON": lambda: _post(node, ndjson, NDJSON),
        "body of CSV": lambda: _post(node, header + cells, CSV),
        f"lists of {LIST} objects": in_lists,
        "COPY, straight to the server": copied,
    }


def _row(number: int) -> dict[str, object]:
    note = f"note {number}, a line of text"
    return {"id": number, "note": note.replace(",", ""), "at": "2026-01-02 03:04:05+00", "price": number / 100}


def _post(node: Gateway, body: bytes, media: str) -> None:
    answer = node.client.post("/query/add", content=body, headers={"Content-Type": media}, timeout=200.0)
    assert answer.status_code == 200, answer.text


def long_body(cluster: Cluster, node: Gateway, size: int) -> dict[str, object]:
    """A body of so many bytes, and the memory of the worker that reads it."""
    (worker,) = node.workers()
    block = b"".join(json.dumps(_row(number) | {"note": "x" * 900}).encode() + b"\n" for number in range(1000))
    count = size // len(block)
    _post(node, block, NDJSON)
    cluster.primary.sql("TRUNCATE loading.items", shop.DATABASE)
    idle = forget_most(worker)
    before, began = processor_seconds(worker), time.monotonic()
    answer = _sent(node, block, count)
    took, used = time.monotonic() - began, processor_seconds(worker) - before
    assert json.loads(answer) == {"affected": 1000 * count, "outcome": "committed"}, answer
    return {
        "bytes": count * len(block),
        "rows": 1000 * count,
        "seconds": round(took, 1),
        "MB/s": round(count * len(block) / 1e6 / took, 1),
        "MB/s of a core of the worker": round(count * len(block) / 1e6 / used, 1),
        "idle MB": round(idle / 1e6, 1),
        "most MB above idle": round((most_held(worker) - idle) / 1e6, 1),
        "MB above idle afterwards": round((held(worker) - idle) / 1e6, 1),
        "processes that wanted to run": os.getloadavg()[0],
    }


def _sent(node: Gateway, block: bytes, count: int) -> bytes:
    """Send the block so many times as one body; the body of the answer."""
    with socket.create_connection(("127.0.0.1", node.port)) as client:
        head = f"POST /query/add HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Length: {count * len(block)}\r\n\r\n".encode())
        for _ in range(count):
            client.sendall(block)
        with client.makefile("rb") as answer:
            return answer.read().partition(b"\r\n\r\n")[2]


if __name__ == "__main__":
    main()
