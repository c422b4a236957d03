"""``python -m tests.bench.rates``: how exactly ``@rate`` holds over HTTP, and over the workers of a node.

More is asked than is allowed. With a bucket that is full at the beginning, a round of some seconds may have as many
answers as flow into it meanwhile, and the burst. Written for docs/measured.md.
"""

import sys
import time
from functools import partial
from pathlib import Path

import click

from tests.bench.contender import Contender
from tests.bench.contest import fill, open_cluster
from tests.bench.gateways import QUERIES, Setup, Sizes, serving
from tests.bench.load import run_wrk
from tests.bench.workloads import WORKLOADS

RATES = (500, 1000, 2000, 4000)
"""Calls a second, with a burst of a tenth of a second."""
CONNECTIONS = 32
REST = 1.0
"""Seconds before each round, in which the bucket becomes full."""


def _rated(rate: int, folder: Path) -> Setup:
    queries = folder / "rated"
    queries.mkdir()
    for file in QUERIES.glob("*.sql"):
        text = file.read_text()
        line = f"-- name: product^\n-- @rate {rate}/s burst={rate // 10}\n"
        (queries / file.name).write_text(text.replace("-- name: product^\n", line))
    return Setup({"GATEWAY_CATALOGUE__PATHS": str(queries)})


@click.command()
@click.option("--workers", default=2, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=5, show_default=True, help="Length of a round.")
def main(workers: int, rounds: int, seconds: int) -> None:
    """Measure, and print a table in Markdown."""
    workload = next(each for each in WORKLOADS if each.name == "one-row-16")
    print("| allowed a second | asked a second | answered, of what is allowed |\n|---:|---:|---:|")
    with open_cluster() as cluster:
        fill(cluster)
        requests = workload.write(cluster.make_directory())
        for rate in RATES:
            prepare = serving(f"rate-{rate}", "pg-query-gateway", setup=partial(_rated, rate))
            contender = Contender(prepare(cluster, Sizes(workers=workers, pool=16)), cluster=cluster)
            contender.wait_until_it_answers()
            shares, asked = [], []
            for _ in range(rounds):
                time.sleep(REST)
                load = run_wrk(contender.port, requests, connections=CONNECTIONS, seconds=seconds)
                asked.append(load.requests / load.seconds)
                shares.append((load.requests - load.refused) / (rate * load.seconds + rate // 10))
            contender.end()
            print(f"| {rate:,} | {min(asked):,.0f} | {min(shares):.3f} to {max(shares):.3f} |")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
