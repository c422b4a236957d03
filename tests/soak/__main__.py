"""``python -m tests.soak [--seconds 600]``: load with random faults and reloads, and whether anything of it stays.

After a while to get warm the node rests, and what it holds is noted. Then come two halves. In the first all that can
happen does: workers are killed and replaced, settings are reloaded with other endpoints and queries. In the second
only the servers and the network fail, so that the same workers serve to its end. After each half the node rests again.

Exit status: 0 nothing has grown, every gauge is back at rest and every answer was true; else 1.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import servers
from tests.chaos.load import Kind, Record
from tests.chaos.rig import QUERIES, WORKERS, Node, Stage
from tests.live.gateways import wait_until
from tests.measured import PAGE, today, write_part
from tests.soak.faults import Faults
from tests.soak.graph import Mark, draw
from tests.soak.sampling import Sampling, Series

PICTURE = PAGE.parent / "soak.svg"
RATE = 200.0
WARM = 3.0
SIZES = 24
"""Of both groups together, by default."""
PATIENCE = 240.0
"""Seconds for a reload, or for rest, on a machine that does other work."""
AT_REST = ("gateway_waiting", "gateway_streams", 'state="leased"', 'state="connecting"')
"""Gauges, or a label of theirs, that are 0 when nobody asks anything."""


@dataclass
class Soak:
    """One run, and what is found in it."""

    stage: Stage
    node: Node
    faults: Faults
    sampling: Sampling
    rate: float
    marks: list[Mark] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def warm_up(self) -> None:
        """Reload, so that there are as many files as there will be."""
        with self.node.load(rate=self.rate) as load:
            time.sleep(WARM)
            self._reload()
        self._rest(load.records)

    def first_half(self, seconds: float) -> None:
        """All that can happen; at its end there are new workers with the first settings."""
        ends = self.sampling.now + seconds
        with self.node.load(rate=self.rate) as load:
            while self.sampling.now < ends:
                self.marks.append((self.sampling.now, self.faults.strike(self.faults.all)))
                self.faults.pause()
            self._reload()
        self._rest(load.records)

    def second_half(self, seconds: float) -> tuple[float, float]:
        """What workers live through; when it began and ended."""
        began, workers = self.sampling.now, self.node.gateway.workers()
        with self.node.load(rate=self.rate) as load:
            while self.sampling.now < began + seconds:
                self.marks.append((self.sampling.now, self.faults.strike(self.faults.outside)))
                self.faults.pause()
            ended = self.sampling.now
            time.sleep(WARM)
        if self.node.gateway.workers() != workers:
            self.wrong.append("a worker did not live through the second half")
        self._rest(load.records)
        return began, ended

    def _reload(self) -> None:
        """There and back, so that the same is there after each time. One that is under way comes first."""
        for is_other in (True, False):
            wait_until(lambda other=is_other: self.faults.reload(is_other=other), "it is reloaded", PATIENCE)  # type: ignore[misc]
            self.marks.append((self.sampling.now, "reload: there and back"))

    def _rest(self, records: Sequence[Record]) -> None:
        """Wait until there is one generation of workers and no request, and note what they hold."""
        self.records += records
        try:
            wait_until(lambda: not self._busy(), "gauges are at rest", PATIENCE)
        except AssertionError:
            self.wrong += [f"not at rest: {line}" for line in self._busy()]
        self.marks.append((self.sampling.now, "rest"))
        self.sampling.rest()

    def _busy(self) -> list[str]:
        lines = self.node.gateway.client.get("/metrics").text.splitlines()
        gauges = [line for line in lines if line.startswith("gateway_") and any(name in line for name in AT_REST)]
        busy = [line for line in gauges if float(line.rpartition(" ")[2]) != 0]
        workers = len(self.node.gateway.workers())
        sessions = sum(len(servers.sessions(server)) for server in self.stage.cluster.servers)
        connections = self.sampling.descriptors()["connection to a server"]
        if workers != WORKERS:
            busy.append(f"{workers} workers")
        if sessions > connections:
            busy.append(f"{sessions} sessions on the servers, and {connections} connections to them")
        return busy

    def judge(self, began: float, ended: float) -> None:
        """What has grown, and what clients were told that is not so; the second half was between these times."""
        self.wrong += [fault for series in self.sampling.series.values() for fault in series.faults(began, ended)]
        if (slots := self.sampling.slots()) > self.sampling.most_workers:
            self.wrong.append(f"files of {slots} workers, where there were {self.sampling.most_workers} at once")
        there = {int(str(tag)) for (tag,) in servers.ask(self.stage.cluster.primary, "SELECT id FROM audit")}
        self.wrong += _untrue(self.records, there)


def run(seconds: float, rate: float, seed: int, picture: Path | None) -> tuple[list[str], str]:
    """Soak; what is wrong, and a sentence on what was done."""
    stage = Stage(rate=rate)
    try:
        cluster = stage.cluster
        queries = cluster.make_directory()
        settings = {"catalogue": {"paths": [str(QUERIES), str(queries)]}}
        with stage.serve(cluster, proxied=[server.name for server in cluster.servers], settings=settings) as node:
            faults = Faults(cluster, node, queries, seed)
            ports = frozenset(proxy.port for proxy in node.proxies.values())
            # A probe of each endpoint beside the groups' own.
            with Sampling(node.gateway, ports, most_connections=SIZES + len(cluster.servers)) as sampling:
                soak = Soak(stage, node, faults, sampling, rate)
                soak.warm_up()
                soak.first_half(seconds / 2)
                second = soak.second_half(seconds / 2)
            soak.judge(*second)
            if picture:
                title = f"{seconds:.0f} s of load and faults"
                picture.write_text(draw(title, list(sampling.series.values()), soak.marks, sampling.now))
            return soak.wrong, _said(seconds, soak, second)
    finally:
        stage.close()


def _untrue(records: Sequence[Record], there: set[int]) -> list[str]:
    writes = [record for record in records if record.kind is Kind.WRITE]
    lost = [record.tag for record in writes if record.outcome == "committed" and record.tag not in there]
    not_so = [record.tag for record in writes if record.outcome == "not_executed" and record.tag in there]
    return [
        f"{len(each)} writes {what}" for each, what in ((lost, "are lost"), (not_so, "happened all the same")) if each
    ]


def _said(seconds: float, soak: Soak, second: tuple[float, float]) -> str:
    counts = Counter(what for _, what in soak.marks if what != "rest")
    done = ", ".join(f"{what} ({count})" for what, count in sorted(counts.items()))
    faults = f"{counts.total()} faults and reloads: {done}"
    lines = [f"{seconds:.0f} s at {soak.rate:.0f} requests a second ({today()}), with {faults}.", ""]
    for kind in Kind:
        records = [record for record in soak.records if record.kind is kind]
        codes = Counter(record.code or "no answer" for record in records if not record.good)
        failed = ", ".join(f"{code} ({count})" for code, count in sorted(codes.items()))
        without = f"{codes.total()} of them without success{f': {failed}' if failed else ''}"
        lines.append(f"* {len(records)} {kind}s, {without}.")
    lines += [
        "* No write was told wrongly.",
        "",
        "| | first rest | after the first half | after the second half | third, last quarter of the second half |",
        "|---|---:|---:|---:|---:|",
        *(_row(series, *second) for series in soak.sampling.series.values()),
    ]
    return "\n".join(lines)


def _row(series: Series, began: float, ended: float) -> str:
    name = f"{series.name}{f', {series.unit}' if series.unit else ''}"
    form = ".1f" if series.unit else ".0f"
    rests = " | ".join(f"{value:{form}}" for value in series.rests)
    return f"| {name} | {rests} | {', '.join(f'{value:{form}}' for value in series.quarters(began, ended))} |"


def main(arguments: Sequence[str]) -> int:
    """Run, and say what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, metavar="N", help="3600: an hour")
    parser.add_argument("--rate", type=float, default=RATE, metavar="N", help="requests a second")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="an SVG")
    parser.add_argument("--save", action="store_true", help="into docs/")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(0.001)  # load, sampling and proxies share the interpreter
    wrong, said = run(options.seconds, options.rate, options.seed, PICTURE if options.save else options.picture)
    print(said)
    print(*(wrong or ["nothing has grown, and all gauges are at rest"]), sep="\n")
    if options.save and not wrong:
        write_part(PAGE, "soak", f"{said}\n\n![Memory, descriptors, connections and files during it](soak.svg)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
