"""How many one-row reads a second, at what cost: ``make bench``, or ``python -m tests.bench.one_row --help``.

Starts an embedded PostgreSQL and a gateway for each kind of worker over it, and lets wrk ask for rows by their
primary key over keep-alive connections. Rounds alternate between the gateways: a single figure says little about a
noisy machine, a ratio within one run does.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway.demo.cluster import Cluster
from gateway.demo.failures import ClusterError
from gateway.demo.ports import find_port
from tests.bench.load import BenchError, Load, find_wrk, run_wrk
from tests.bench.processes import processor_seconds

_ROWS = 10_000
_TABLE = f"""
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric(10,2), added timestamptz);
INSERT INTO products
SELECT n, 'product ' || n, n * 0.37, timestamptz '2026-01-01' + n * interval '1 minute'
  FROM generate_series(1, {_ROWS}) n;
ANALYZE products;
"""
_QUERY = "-- name: product^\nSELECT id, name, price, added FROM products WHERE id = :id;\n"
_SETTINGS = """
[server]
bind = "127.0.0.1:{port}"
worker = "{worker}"
workers = {workers}
runtime_dir = "{runtime}"

[catalogue]
paths = ["{queries}"]

[endpoints.primary]
dsn = "{dsn}"

[groups.read]
access = "read"
size = {size}

[groups.write]
access = "write"
size = {workers}
"""
_SCRIPT = Path(__file__).with_suffix(".lua")
_START_PATIENCE = 20.0  # seconds


@dataclass(frozen=True)
class Round:
    """One measurement of one gateway."""

    requests_per_second: float
    p99_ms: float
    processor_us: float
    """Of the gateway's processes, for each request."""


class Contender:
    """A running gateway with one kind of worker."""

    def __init__(self, worker: str, *, cluster: Cluster, workers: int, connections: int) -> None:
        self.worker = worker
        self._port = find_port()
        self._log = cluster.make_directory() / "gateway.log"
        settings = self._write_settings(cluster, workers, connections)
        command = [sys.executable, "-m", "gateway", "serve", "-c", str(settings)]
        self._program = cluster.launch(command, log=self._log, environment=os.environ)
        self._wait_until_it_answers()

    def _write_settings(self, cluster: Cluster, workers: int, connections: int) -> Path:
        directory = self._log.parent
        queries, runtime = directory / "queries", directory / "runtime"
        queries.mkdir()
        runtime.mkdir(mode=0o700)
        (queries / "products.sql").write_text(_QUERY)
        settings = directory / "gateway.toml"
        settings.write_text(
            _SETTINGS.format(
                port=self._port,
                worker=self.worker,
                workers=workers,
                runtime=runtime,
                queries=queries,
                dsn=cluster.primary.dsn(),
                size=max(workers, connections),
            )
        )
        return settings

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            answer = self._ask_for_one_row()
            if answer.startswith('{"row":{') or answer.startswith('{"row": {'):
                return
            if self._program.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"the gateway does not serve: {answer}\n{self._log.read_text()}")
            time.sleep(0.05)

    def _ask_for_one_row(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("POST", "/query/product", '{"id": 7}', {"Content-Type": "application/json"})
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()

    def measure(self, *, connections: int, seconds: int) -> Round:
        """One round; BenchError if any request failed, for then the figure means nothing."""
        url = f"http://127.0.0.1:{self._port}/query/product"
        before = processor_seconds(self._program.pid)
        load: Load = run_wrk(url, _SCRIPT, str(_ROWS), connections=connections, seconds=seconds)
        used = processor_seconds(self._program.pid) - before
        if load.failures or not load.requests:
            raise BenchError(
                f"{self.worker}: {load.failures} failures, {load.requests} answers\n{self._log.read_text()}"
            )
        return Round(load.requests / load.seconds, load.p99_ms, used / load.requests * 1e6)


def median(rounds: Sequence[Round]) -> Round:
    """Of each figure by itself."""
    return Round(
        statistics.median(r.requests_per_second for r in rounds),
        statistics.median(r.p99_ms for r in rounds),
        statistics.median(r.processor_us for r in rounds),
    )


def run(options: argparse.Namespace) -> dict[str, list[Round]]:
    """All rounds of all kinds of worker, alternating; the first, unmeasured one warms up."""
    with Cluster(replicas=0) as cluster:
        cluster.primary.sql(_TABLE)
        print(f"PostgreSQL {cluster.version}, {os.cpu_count()} processors; {options.workers} workers, ", end="")
        print(f"{options.connections} connections, {options.rounds} rounds of {options.seconds} s")
        contenders = [
            Contender(worker, cluster=cluster, workers=options.workers, connections=options.connections)
            for worker in options.worker
        ]
        rounds: dict[str, list[Round]] = {contender.worker: [] for contender in contenders}
        for contender in contenders:
            contender.measure(connections=options.connections, seconds=1)
        for _ in range(options.rounds):
            for contender in contenders:
                rounds[contender.worker].append(
                    contender.measure(connections=options.connections, seconds=options.seconds)
                )
        return rounds


def report(rounds: dict[str, list[Round]]) -> str:
    """A table of the medians; the ratio is to the first line."""
    lines = [f"{'worker':<10}{'requests/s':>12}{'ratio':>8}{'p99 ms':>9}{'processor µs a request':>25}"]
    first = median(next(iter(rounds.values()))).requests_per_second
    for worker, measured in rounds.items():
        middle = median(measured)
        rate = middle.requests_per_second
        lines.append(f"{worker:<10}{rate:>12,.0f}{rate / first:>8.2f}{middle.p99_ms:>9.1f}{middle.processor_us:>25.0f}")
    return "\n".join(lines)


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.one_row", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--worker", action="append", help="kind of worker, several times; default: gthread and sync")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of a round")
    parser.add_argument("--json", type=Path, help="a file for every round's figures")
    options = parser.parse_args(arguments)
    options.worker = list(dict.fromkeys(options.worker or ["gthread", "sync"]))
    return options


def main(arguments: Sequence[str]) -> int:
    """Run, print, and say what is missing where something is."""
    options = read_options(arguments)
    try:
        find_wrk()
        rounds = run(options)
    except (BenchError, ClusterError, subprocess.TimeoutExpired) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report(rounds))
    if options.json:
        figures = {worker: [asdict(one) for one in measured] for worker, measured in rounds.items()}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
