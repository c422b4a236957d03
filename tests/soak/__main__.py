"""``python -m tests.soak [--seconds 600]``: load with random faults and reloads, and whether anything of it stays.

Exit status: 0 nothing has grown, every gauge is back at rest and every answer was true; else 1.
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from os import kill
from pathlib import Path

from tests.chaos import servers
from tests.chaos.load import Kind, Load
from tests.chaos.proxy import Mode
from tests.chaos.rig import WORKERS, Node, Stage
from tests.live.gateways import wait_until
from tests.measured import PAGE, today, write_part
from tests.soak.graph import Mark, draw
from tests.soak.sampling import Sampling, Series

PICTURE = PAGE.parent / "soak.svg"
RATE = 200.0
WARM = 3.0
REST = (1.0, 4.0)
"""Seconds between two faults, at least and at most."""
AT_REST = ("gateway_waiting", "gateway_streams", 'state="leased"', 'state="connecting"')
"""Gauges, or a label of theirs, that are 0 when nobody asks anything."""


class Faults:
    """What can be done to the node and its servers, which all of them survive."""

    def __init__(self, stage: Stage, node: Node, seed: int) -> None:
        self._cluster = stage.cluster
        self._node = node
        self._random = random.Random(seed)  # noqa: S311 -- the same faults each time
        self._all: Mapping[str, Callable[[], None]] = {
            "reload: SIGHUP": lambda: kill(node.gateway.program.pid, signal.SIGHUP),
            "worker: SIGKILL": lambda: kill(self._worker(), signal.SIGKILL),
            "worker: SIGTERM": lambda: kill(self._worker(), signal.SIGTERM),
            "server: sessions ended": self._end_sessions,
            "server: replica killed": self._kill_replica,
            "server: replica frozen": self._freeze_replica,
            "network: stands still": lambda: self._break(Mode.STOP),
            "network: resets": lambda: self._break(Mode.RESET),
        }

    def pause(self) -> float:
        """Seconds until the next one."""
        return self._random.uniform(*REST)

    def strike(self) -> str:
        """Do one of them; its name."""
        name = self._random.choice(list(self._all))
        self._all[name]()
        return name

    def _worker(self) -> int:
        return self._random.choice(self._node.gateway.workers())

    def _end_sessions(self) -> None:
        servers.terminate_backends(self._cluster.servers)

    def _kill_replica(self) -> None:
        replica = self._random.choice(self._cluster.replicas)
        replica.kill()
        time.sleep(self.pause())
        replica.start()

    def _freeze_replica(self) -> None:
        replica = self._random.choice(self._cluster.replicas)
        replica.freeze()
        time.sleep(self.pause())
        replica.thaw()

    def _break(self, mode: Mode) -> None:
        with self._random.choice(list(self._node.proxies.values())).being(mode):
            time.sleep(0.5)


def run(seconds: float, rate: float, seed: int, picture: Path | None) -> tuple[list[str], str]:
    """Soak; what is wrong, and a sentence on what was done."""
    stage, marks = Stage(rate=rate), list[Mark]()
    try:
        cluster = stage.cluster
        with stage.serve(cluster, proxied=[server.name for server in cluster.servers]) as node:
            faults, sampling = Faults(stage, node, seed), Sampling(node.gateway, cluster.servers)
            _at_rest(node)
            for name, value in sampling.look().items():
                sampling.series[name].before = value
            with sampling, node.load(rate=rate) as load:
                time.sleep(WARM)
                while sampling.now < seconds - WARM:
                    marks.append((sampling.now, faults.strike()))
                    time.sleep(faults.pause())
                time.sleep(WARM)
            lasted, wrong = sampling.now, _at_rest(node)
            for name, value in sampling.look().items():
                sampling.series[name].after = value
            panels = list(sampling.series.values())
            wrong += [fault for series in panels for fault in series.faults]
            there = {int(str(tag)) for (tag,) in servers.ask(cluster.primary, "SELECT id FROM audit")}
            wrong += _untrue(load, there)
            if picture:
                picture.write_text(draw(f"{seconds:.0f} s of load and faults", panels, marks, lasted))
            return wrong, _said(seconds, rate, load, marks, panels)
    finally:
        stage.close()


def _at_rest(node: Node) -> list[str]:
    """Wait until there is one generation of workers and no request; gauges that do not come back to 0."""

    def busy() -> list[str]:
        lines = node.gateway.client.get("/metrics").text.splitlines()
        gauges = [line for line in lines if line.startswith("gateway_") and any(name in line for name in AT_REST)]
        workers = len(node.gateway.workers())
        more = [f"{workers} workers"] if workers != WORKERS else []
        return [*more, *(line for line in gauges if float(line.rpartition(" ")[2]) != 0)]

    try:
        wait_until(lambda: not busy(), "gauges are at rest", 30)
    except AssertionError:
        return [f"not at rest: {line}" for line in busy()]
    return []


def _untrue(load: Load, there: set[int]) -> list[str]:
    writes = load.of(Kind.WRITE)
    lost = [record.tag for record in writes if record.outcome == "committed" and record.tag not in there]
    not_so = [record.tag for record in writes if record.outcome == "not_executed" and record.tag in there]
    return [
        f"{len(each)} writes {what}" for each, what in ((lost, "are lost"), (not_so, "happened all the same")) if each
    ]


def _said(seconds: float, rate: float, load: Load, marks: Sequence[Mark], panels: Sequence[Series]) -> str:
    counts = Counter(what for _, what in marks)
    done = ", ".join(f"{what} ({count})" for what, count in sorted(counts.items()))
    lines = [f"{seconds:.0f} s at {rate:.0f} requests a second ({today()}), with {len(marks)} faults: {done}.", ""]
    for kind in Kind:
        records = load.of(kind)
        codes = Counter(record.code or "no answer" for record in records if not record.good)
        failed = ", ".join(f"{code} ({count})" for code, count in sorted(codes.items()))
        lines.append(
            f"* {len(records)} {kind}s, {codes.total()} of them without success{f': {failed}' if failed else ''}."
        )
    lines.append("* No write was told wrongly.")
    lines += [
        f"* {series.name[0].upper()}{series.name[1:]}: {series.before:.0f} at rest before, {series.after:.0f} after;"
        f" {series.between(0.25, 0.5):.0f} in the second quarter, {series.between(0.75, 1.0):.0f} in the last."
        for series in panels
    ]
    return "\n".join(lines)


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
        write_part(PAGE, "soak", f"{said}\n\n![Memory, descriptors, sessions and files during it](soak.svg)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
