"""What clients notice while servers, networks and workers break: ``make chaos``.

Starts real servers, a gateway over them and load, breaks something, and compares what clients got with what they may
rely on. The status is 1 if a limit was missed.
"""

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.picture import draw
from tests.chaos.report import as_json, explain, page, table
from tests.chaos.results import Row
from tests.chaos.rig import Stage
from tests.chaos.scenario import Scenario
from tests.chaos.scenes import SCENES
from tests.chaos.suite import SCENARIOS, chosen
from tests.measured import CHAOS, PAGE, today, write_part

HINTS = """\
reading a miss:
  MISSED   a figure marked (!) is beyond its limit; with --times it is the worst of all runs
  BROKEN   the rig itself failed (what, is below the table): nothing is known of its limits
  Below the table stands what clients were told, and when. "the load generator itself stood still" means that the
  machine was too busy for its times to be believed: run it again alone (--only NAME --times 20).
  A request's time counts from when it was sent; what /health said counts from when the answer came, so it may be up
  to 15 ms late. Writes in flight at a kill may fail with outcome "unknown": that is no miss, and is told as a remark.
"""


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    names = [scenario.name for scenario in SCENARIOS]
    subjects = list(dict.fromkeys(scenario.subject for scenario in SCENARIOS))
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=(__doc__ or "").split("\n")[0],
        epilog=HINTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WHICH",
        help=f"a subject ({', '.join(subjects)}), or of {', '.join(names)}",
    )
    parser.add_argument("--times", type=int, default=1, help="runs of each scenario; the worst values are shown")
    parser.add_argument(
        "--again",
        type=int,
        default=0,
        metavar="N",
        help="run what misses anew, so often at most; missed is what misses each time (for machines that others use)",
    )
    parser.add_argument("--short", action="store_true", help="what CI runs, in less than four minutes")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument(
        "--save", action="store_true", help="write docs/chaos.json and its table in docs/measured.md; not with --only"
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="only draw faults, reloads and a shutdown there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file for all figures")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - {*names, *subjects}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if options.times < 1 or options.again < 0:
        parser.error("--times is at least 1, --again at least 0")
    return options


def run(options: argparse.Namespace, rows: list[Row]) -> None:
    """Run them, one after the other, and tell how it goes on standard error; ``rows`` hold what there is so far."""
    stage = Stage(short=options.short, rate=options.rate, say=_say)
    try:
        for scenario in chosen(options.only, short=options.short):
            rows.append(Row(scenario.subject, scenario.name, scenario.what))
            _run(scenario, stage, rows[-1], options.times)
            for _ in range(options.again):
                if rows[-1].kept:
                    break
                rows[-1] = Row(scenario.subject, scenario.name, scenario.what)
                _run(scenario, stage, rows[-1], options.times)
    finally:
        stage.close()


def _run(scenario: Scenario, stage: Stage, row: Row, times: int) -> None:
    for number in range(1, times + 1):
        stage.remarks.clear()
        began = time.monotonic()
        missed = row.add(scenario.run(stage), stage.remarks)
        took = time.monotonic() - began
        _say(f"{scenario.name} {number}/{times} ({took:.1f} s): {missed and 'MISSED '}{missed or 'kept'}")


def _write(options: argparse.Namespace, rows: Sequence[Row]) -> None:
    """Write the files that were asked for; the documentation only from a run of all scenarios."""
    measured = as_json(rows, date=today(), machine=f"{os.cpu_count()} processors, {platform.system()}")
    complete = len(rows) == len(chosen((), short=options.short)) and all(row.runs == options.times for row in rows)
    for file in [options.json] * bool(options.json) + [CHAOS] * bool(options.save and complete):
        file.write_text(json.dumps(measured, indent=1) + "\n")
    if options.save and complete:
        write_part(PAGE, "chaos", page(measured))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def paint(options: argparse.Namespace) -> None:
    """Record the scenes and write them as SVG files."""
    stage = Stage(rate=options.rate)
    try:
        for name, record in SCENES.items():
            (options.pictures / f"{name}.svg").write_text(draw(record(stage)))
    finally:
        stage.close()


def main(arguments: Sequence[str]) -> int:
    """Run, print, and say what is known of every miss."""
    options = read_options(arguments)
    sys.setswitchinterval(0.001)  # load, watcher and proxies share the interpreter: none shall wait long for another
    if options.pictures:
        paint(options)
        return 0
    rows: list[Row] = []
    try:
        run(options, rows)
    finally:  # after Ctrl-C too: what was measured is worth seeing
        print(table(rows))
        if said := explain(rows):
            _say(f"\n{said}")
        _write(options, rows)
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
