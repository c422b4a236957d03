"""A gateway with very many queries: what it costs until all are learnt, and for how long a worker stands still.

``python -m tests.bench.many_queries 1500 10000`` prints a line for each number.
"""

import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.bench.processes import processor_seconds
from tests.live.gateways import Gateway, serving, worker_of

WORKERS = 2
STANDSTILL = 0.05
"""Seconds without an answer from memory that count as one."""
_EVERY = 0.005
_FORMS = (
    """-- name: q{number}
-- @param limit int
SELECT id, name, price, made FROM many.t{table}
 WHERE id > :after AND (:name::text IS NULL OR name = :name) ORDER BY id LIMIT :limit
""",
    "-- name: q{number}^\nSELECT * FROM many.t{table} WHERE id = :id\n",
    "-- name: q{number}$\nSELECT count(*) FROM many.t{table} WHERE made > :since AND tags @> :tags\n",
    "-- name: q{number}!\nUPDATE many.t{table} SET name = :name, price = :price WHERE id = :id\n",
    """-- name: q{number}^
INSERT INTO many.t{table} (id, name, price, doc) VALUES (:id, :name, :price, :doc) RETURNING id, made
""",
)


class Cost(NamedTuple):
    """What one number of queries cost."""

    queries: int
    seconds: float
    """From the start of the command until every query has been learnt and every worker acts on it."""
    processor: float
    """Seconds of all processes of the gateway, compiling included."""
    longest: float
    """Seconds that a worker took for an answer from memory at most."""
    standstills: int


def write_queries(folder: Path, count: int) -> str:
    """Write so many queries, a hundred a file and a table; returns the SQL that makes the tables."""
    folder.mkdir()
    tables = max(1, count // 100)
    for first in range(0, count, 100):
        numbers = range(first, min(count, first + 100))
        text = "\n".join(_FORMS[number % 5].format(number=number, table=number % tables) for number in numbers)
        (folder / f"f{first}.sql").write_text(text)
    columns = (
        "id int PRIMARY KEY, name text, price numeric(10, 2), made timestamptz DEFAULT now(), tags text[], doc jsonb"
    )
    made = "".join(f"CREATE TABLE many.t{number} ({columns});\n" for number in range(tables))
    return f"DROP SCHEMA IF EXISTS many CASCADE; CREATE SCHEMA many;\n{made}GRANT USAGE ON SCHEMA many TO PUBLIC;\n" + (
        "GRANT ALL ON ALL TABLES IN SCHEMA many TO PUBLIC"
    )


@contextmanager
def watched(gateway: Gateway) -> Iterator[list[float]]:
    """Ask every worker for an answer from memory again and again; gives the seconds that the answers took."""
    took: list[float] = []
    stopped = threading.Event()

    def watch(client: httpx.Client) -> None:
        while not stopped.wait(_EVERY):
            began = time.monotonic()
            client.get("/health/live")
            took.append(time.monotonic() - began)

    watchers: dict[str, threading.Thread] = {}
    while len(watchers) < gateway.size:
        client = httpx.Client(base_url=gateway.url, trust_env=False)
        worker = worker_of(client.get("/health/live"))
        if worker not in watchers:
            watchers[worker] = threading.Thread(target=watch, args=[client], daemon=True)
            watchers[worker].start()
    try:
        yield took
    finally:
        stopped.set()
        for watcher in watchers.values():
            watcher.join()


def measure(cluster: Cluster, count: int) -> Cost:
    """Start a gateway with so many queries and wait until it has learnt them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cluster.primary.sql(write_queries(folder / "queries", count), shop.DATABASE)
        cluster.wait_until_caught_up()
        began = time.monotonic()
        settings = {"server": {"workers": WORKERS}}
        with serving(cluster, folder, settings, paths=[folder / "queries"], ready=False) as gateway:
            while not _answers(gateway):
                time.sleep(0.05)
            with watched(gateway) as took:
                while not gateway.is_ready():
                    time.sleep(0.05)
            seconds = time.monotonic() - began
            processor = processor_seconds(gateway.program.pid)
            fault = gateway.health()["catalogue"]["fault"]
            if fault:
                raise RuntimeError(f"{fault}:\n{gateway.log}")
        return Cost(count, seconds, processor, max(took), sum(each > STANDSTILL for each in took))


def _answers(gateway: Gateway) -> bool:
    try:
        return gateway.client.get("/health/live").status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    """Measure the numbers of the command line."""
    print("queries   seconds until learnt   seconds of processor   longest answer, ms   answers over 50 ms")
    with Cluster(replicas=1) as cluster:
        shop.load(cluster)
        for count in map(int, sys.argv[1:]):
            cost = measure(cluster, count)
            print(
                f"{cost.queries:7}   {cost.seconds:20.1f}   {cost.processor:20.1f}   {cost.longest * 1000:18.0f}"
                f"   {cost.standstills:18}",
                flush=True,
            )


if __name__ == "__main__":
    main()
