"""Streams of many rows: megabytes a second of the worker's processor time, its memory, and what others notice of it.

``python -m tests.bench.streams [--rows 10000000] [--picture docs/streams.svg] [ndjson csv]``

Beside the stream that is measured another one is read slowly, and one row is asked for again and again.
"""

import argparse
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.bench.processes import processor_seconds
from tests.live.gateways import Gateway, serving_queries
from tests.live.memory import forget_most, held, most_held
from tests.soak.graph import draw
from tests.soak.sampling import Series

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
FORMATS = {"ndjson": "application/x-ndjson", "csv": "text/csv"}
REST = 0.02
"""Seconds between two requests of whoever is also there."""
SLOWLY = 131072
"""Bytes a second that the slow client takes: twice the least that it has to."""
EVERY = 0.2
"""Seconds between two looks at the memory."""


def main() -> None:
    """Measure NDJSON and CSV, and print a line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=list(FORMATS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    drawn = []
    with Cluster(replicas=0) as cluster, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        shop.load(cluster)
        with serving_queries(QUERIES, cluster, Path(folder), SETTINGS) as node:
            for name in given.formats:
                memory = Series(f"the worker's memory above idle: {name}, {given.rows:,} rows", "MB", 0.0, 0.0)
                print(json.dumps(measured(node, FORMATS[name], given.rows, memory)), flush=True)
                drawn.append(memory)
    if given.picture is not None:
        seconds = max(series.values[-1][0] for series in drawn)
        title = "Streams of many rows, beside one that is read slowly"
        given.picture.write_text(draw(title, drawn, [], seconds), encoding="utf-8")


def measured(node: Gateway, accept: str, rows: int, memory: Series) -> dict[str, object]:
    """One stream, with another client asking for one row again and again meanwhile; fills ``memory``."""
    (worker,) = node.workers()
    _read(node, accept, 10_000)
    idle = forget_most(worker)
    with _asking(node) as alone:
        time.sleep(2.0)
    with _asking(node) as times, _slow(node, accept), _watching(worker, idle, memory):
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
        "p50 ms of others": _percentile(times, 50),
        "p99 ms of others": _percentile(times, 99),
        "p50 ms of others without it": _percentile(alone, 50),
        "p99 ms of others without it": _percentile(alone, 99),
        "requests of others": len(times),
        "processes that wanted to run": os.getloadavg()[0],
    }


@contextmanager
def _watching(worker: int, idle: int, memory: Series) -> Iterator[None]:
    """Look at the worker's memory every now and then."""
    began, ends = time.monotonic(), threading.Event()

    def look() -> None:
        while not ends.wait(EVERY):
            memory.values.append((time.monotonic() - began, max(0.0, (held(worker) - idle) / 1e6)))

    with _beside(look, ends):
        yield


@contextmanager
def _slow(node: Gateway, accept: str) -> Iterator[None]:
    """Read an endless stream slowly."""
    ends = threading.Event()

    def read() -> None:
        with socket.create_connection(("127.0.0.1", node.port)) as client:
            client.sendall(_request(100_000_000, accept))
            while not ends.wait(0.1):
                client.recv(SLOWLY // 10)

    with _beside(read, ends):
        yield


@contextmanager
def _beside(work: Callable[[], None], ends: threading.Event) -> Iterator[None]:
    """Do this in a thread until the event is set, which is the end of the block."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def _request(rows: int, accept: str) -> bytes:
    return f"GET /query/export?n={rows} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()


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

    with _beside(ask, ends):
        yield times


def _read(node: Gateway, accept: str, rows: int) -> int:
    """Read a stream to its end in a process of its own, which costs this one nothing; its bytes."""
    readable, writable = os.pipe()
    if not (child := os.fork()):
        with socket.create_connection(("127.0.0.1", node.port)) as client:
            client.sendall(_request(rows, accept))
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
