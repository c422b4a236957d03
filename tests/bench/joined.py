"""Joined reads: the gateway with and without them, by connections and workers: ``python -m tests.bench.joined``.

One row by key is asked for by so many connections, in rounds that follow each other; what is shown are medians of the
rounds' own ratios. ``--save`` writes the table into docs/measured.md, from docs/joined.json.
"""

import argparse
import json
import re
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from gateway.demo.cluster import Cluster
from tests.bench.contender import Contender
from tests.bench.contest import describe, fill, open_cluster
from tests.bench.failures import BenchError
from tests.bench.gateways import Setup, Sizes, serving
from tests.bench.workloads import Workload, one_row
from tests.chaos.background import Background
from tests.chaos.proxy import Proxy
from tests.measured import JOINED, PAGE, today, write_part

CONNECTIONS = (1, 4, 8, 16, 32, 64, 256, 1000)
WORKERS = (1, 2, 4)
WAY = 0.002
"""Seconds that answers take from a server that is far away."""
FAR = (4, 16, 64)
"""Connections that are tried with that."""
_SIZES = re.compile(r'^gateway_batch_size_(sum|count)\{query="product"\} (\S+)$', re.MULTILINE)


def main(arguments: Sequence[str]) -> None:
    """Measure, print a line at a time, and save if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.joined", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--workers", type=int, action="append", help=f"of {', '.join(map(str, WORKERS))}")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args(arguments)
    lines: list[dict[str, Any]] = []
    with open_cluster() as cluster:
        fill(cluster)
        cases = [(workers, CONNECTIONS, 0.0) for workers in given.workers or WORKERS]
        for workers, connections, way in [*cases, (2, FAR, WAY)]:
            with _both(cluster, workers, way) as (together, alone):
                for count in connections:
                    try:
                        line = _compare(together, alone, cluster, count, given.rounds, given.seconds)
                    except BenchError as error:
                        print(error, file=sys.stderr)
                        continue
                    lines.append({"workers": workers, "way_ms": way * 1000, "connections": count, **line})
                    print(json.dumps(lines[-1]), flush=True)
        about = describe(cluster, given.rounds, given.seconds)
    if given.save:
        result = {"date": today(), "machine": about, "lines": lines}
        JOINED.write_text(json.dumps(result, indent=2) + "\n")
        write_part(PAGE, "joined", table(result))


def table(result: dict[str, Any]) -> str:
    """What the page shows."""
    head = (
        "| workers | connections | requests/s | processor time | PostgreSQL's | p99, ms (alone) | calls a statement |"
    )
    rows = [f"Measured on {result['date']}: {result['machine']}.", "", head, "|---|---:|---:|---:|---:|---:|---:|"]
    for line in result["lines"]:
        far = f", {line['way_ms']:.0f} ms away" if line["way_ms"] else ""
        rows.append(
            f"| {line['workers']}{far} | {line['connections']:,} | {line['requests']:.2f} | {line['processor']:.2f} |"
            f" {line['server']:.2f} | {line['p99_ms']:.1f} ({line['p99_alone_ms']:.1f}) | {line['batch']:.1f} |"
        )
    return "\n".join(rows)


@contextmanager
def _both(cluster: Cluster, workers: int, way: float) -> Iterator[tuple[Contender, Contender]]:
    """A gateway that joins and one that does not."""
    sizes = Sizes(workers=workers, pool=16, queue=4096, writing=0.0)
    with Background("wires") as background, Proxy(background, cluster.primary.port) as proxy:
        proxy.delay(way)
        far = {"GATEWAY_ENDPOINTS__PRIMARY__DSN": proxy.dsn("postgres", "postgres")} if way else {}

        def setup(_: Path) -> Setup:
            return Setup(far)

        started = []
        for join in (True, False):
            prepare: Callable[[Cluster, Sizes], Any] = serving("gateway", "", join=join, setup=setup)
            contender = Contender(prepare(cluster, sizes), cluster=cluster)
            contender.wait_until_it_answers()
            started.append(contender)
        yield started[0], started[1]
        for contender in started:
            contender.end()


def _compare(
    together: Contender, alone: Contender, cluster: Cluster, connections: int, rounds: int, seconds: int
) -> dict[str, float]:
    workload = Workload("joined", "", connections, tuple(map(one_row, range(2000))))
    requests = workload.write(cluster.make_directory())
    pairs = []
    calls, statements = _sizes(together)
    for number in range(-1, rounds):  # the first one warms up
        order = (together, alone) if number % 2 else (alone, together)
        measured = {one: one.measure(workload, requests, seconds=seconds) for one in order}
        if number >= 0:
            pairs.append((measured[together], measured[alone]))
    all_calls, all_statements = _sizes(together)
    return {
        "requests": median(one.requests_per_second / other.requests_per_second for one, other in pairs),
        "processor": median(one.processor_us / other.processor_us for one, other in pairs),
        "server": median(one.server_us / other.server_us for one, other in pairs),
        "p99_ms": median(one.p99_ms for one, _ in pairs),
        "p99_alone_ms": median(other.p99_ms for _, other in pairs),
        "batch": (all_calls - calls) / max(1.0, all_statements - statements),
    }


def _sizes(contender: Contender) -> tuple[float, float]:
    """How many calls have been answered by statements for several, and by how many of these."""
    with urllib.request.urlopen(f"http://127.0.0.1:{contender.port}/metrics") as answer:
        found = dict(_SIZES.findall(answer.read().decode()))
    return float(found.get("sum", 0)), float(found.get("count", 0))


if __name__ == "__main__":
    main(sys.argv[1:])
