"""How many requests a second, at what cost, next to what others offer: ``make bench``.

Starts an embedded PostgreSQL, the gateway and the peers that can be had here, makes sure that they answer alike, and
lets wrk ask them in turns. What peers need is put into ``.bench``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.demo.failures import ClusterError
from tests.bench.contest import GATEWAYS, ON_DEMAND, PEERS, Contest, fill, open_cluster
from tests.bench.failures import BenchError
from tests.bench.gateways import Sizes
from tests.bench.load import find_wrk
from tests.bench.page import costs_page, page, readme
from tests.bench.report import report
from tests.bench.results import Results
from tests.bench.workloads import WORKLOADS
from tests.measured import BENCH, COSTS, PAGE, README, write_part


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    names, workloads = [*GATEWAYS, *PEERS, *ON_DEMAND], [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help=f"of {', '.join(names)}; only if named: bare, the gateway without its safety net (tests/bench/bare.py),"
        " and unjoined, without joined reads",
    )
    parser.add_argument(
        "--workload", action="append", choices=workloads, metavar="NAME", help=f"of {', '.join(workloads)}"
    )
    parser.add_argument("--overload", action="store_true", help="only this: three times the peak, for gateways")
    parser.add_argument("--hostile", action="store_true", help="only this: what others notice of hostile clients")
    parser.add_argument("--costs", action="store_true", help="only this: what each thing that is switched on adds")
    parser.add_argument(
        "--join", choices=["on", "off"], default="on", help="whether gateways answer different callers' reads together"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of a round")
    parser.add_argument("--workers", type=int, default=2, help="processes of each contender")
    parser.add_argument("--pool", type=int, default=16, help="connections of each contender, all processes together")
    parser.add_argument(
        "--save",
        action="store_true",
        help="write docs/*.json and their tables in docs/measured.md and README.md, of what was run as a whole",
    )
    parser.add_argument("--json", type=Path, help="a file for the figures of every round")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.seconds, options.workers, options.pool) < 1:
        parser.error("rounds, seconds, workers and pool are at least 1")
    return options


def run(options: argparse.Namespace) -> Results:
    """Measure what was asked for."""
    contenders = list(dict.fromkeys(options.only or [*GATEWAYS, *PEERS]))
    with open_cluster() as cluster:
        fill(cluster)
        contest = Contest(
            cluster,
            rounds=options.rounds,
            seconds=options.seconds,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
        if options.overload:
            contest.run_overload(contenders, options.workers)
        elif options.costs:
            contest.run_costs()
        elif options.hostile:
            contest.run_hostile(contenders, Sizes(options.workers, options.pool))
        else:
            chosen = [one for one in WORKLOADS if not options.workload or one.name in options.workload]
            contest.run(contenders, chosen, Sizes(options.workers, options.pool, join=options.join == "on"))
            if not (options.only or options.workload):
                contest.run_costs()
        return contest.results


def save(results: Results) -> None:
    """Write what was measured into the documentation."""
    if results.costs:
        COSTS.write_text(json.dumps(results.costs_as_json(), indent=2) + "\n")
        write_part(PAGE, "costs", costs_page(results))
    if set(results.rounds) != {workload.name for workload in WORKLOADS}:
        return
    BENCH.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    write_part(PAGE, "bench", page(results))
    write_part(README, "bench", readme(results))


def main(arguments: Sequence[str]) -> int:
    """Run, print, and say what is missing where something is. The status is 1 if nothing could be measured."""
    options = read_options(arguments)
    try:
        find_wrk()
        results = run(options)
    except (BenchError, ClusterError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report(results))
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    if options.save:
        save(results)
    return 0 if any(results.rounds.values()) or results.overload or results.hostile or results.costs else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
