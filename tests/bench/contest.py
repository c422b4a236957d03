"""Who takes part, and the rounds: contenders take turns, for a ratio within one run says more than any figure."""

import itertools
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from gateway.demo.cluster import Cluster
from tests.bench import costs, hostile, others, overload
from tests.bench.agreement import difference, meaning
from tests.bench.contender import Contender, Program, Round
from tests.bench.failures import BenchError, NotHere
from tests.bench.gateways import Sizes, serving
from tests.bench.results import Results
from tests.bench.workloads import SAMPLES, SLOW, WORKLOADS, Workload
from tests.measured import today

T = TypeVar("T")

Preparation = Callable[[Cluster, Sizes], Program]

GATEWAYS: dict[str, Preparation] = {
    "gateway": serving("gateway", "pg-query-gateway", worker="gateway"),
    "gthread": serving("gthread", "pg-query-gateway under gunicorn's gthread", worker="gthread"),
}
PEERS: dict[str, Preparation] = {
    "fastify": others.fastify,
    "go": others.go,
    "toolbox": others.toolbox,
    "fastapi": others.fastapi,
    "pgdbpool": others.pgdbpool,
}
ON_DEMAND: dict[str, Preparation] = {
    "unjoined": serving("unjoined", "pg-query-gateway without joined reads", worker="gateway", join=False),
    "bare": serving("bare", "pg-query-gateway without its net", worker="gateway", command=["tests.bench.bare"]),
}
"""Take part only where they are named, next to the gateway: the difference is what joined reads gain, and what the
safety net costs."""
_CONTENDERS = GATEWAYS | PEERS | ON_DEMAND
_SCHEMA = Path(__file__).with_name("schema.sql")
_SETTINGS = {
    "autovacuum": "off",  # nothing of the database's own work in one contender's round
    "max_wal_size": "4GB",
    "shared_buffers": "128MB",
    "max_connections": "300",
}


class Contest:
    """One run over one embedded PostgreSQL. ``say`` is told what is being done."""

    def __init__(self, cluster: Cluster, *, rounds: int, seconds: int, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._rounds = rounds
        self._seconds = seconds
        self._say = say
        self._directory = cluster.make_directory()
        self.results = Results(today(), describe(cluster, rounds, seconds))

    def run(self, contenders: Iterable[str], workloads: Sequence[Workload], sizes: Sizes) -> None:
        """All rounds of all workloads; a contender that fails in one is left out of that one.

        All are started anew where a gateway's connections are to be divided otherwise between reads and writes.
        """
        names = list(contenders)
        for writing, same in itertools.groupby(workloads, lambda workload: workload.writing):
            running = self._agreeing(self._start(names, _CONTENDERS, sizes._replace(writing=writing)))
            for workload in same:
                self._say(f"{workload.title}: {', '.join(contender.name for contender in running)}")
                self.results.rounds[workload.name] = self._measure(workload, running)
            for contender in running:
                memory = contender.memory()
                self.results.memory[contender.name] = max(memory, self.results.memory.get(contender.name, memory))
                contender.end()

    def run_overload(self, contenders: Iterable[str], workers: int) -> None:
        """The rounds under overload, of gateways only: others have no queue with an end."""
        requests = SLOW.write(self._directory)
        chosen = [name for name in contenders if name in GATEWAYS]
        self.results.overload = self._take_turns(
            "overload",
            self._start(chosen, GATEWAYS, overload.sizes(workers)),
            lambda contender: overload.measure(contender, requests, seconds=self._seconds),
        )

    def run_costs(self) -> None:
        """The rounds of gateways that differ in what is switched on, each of which is started several times."""
        workload, found = costs.WORKLOAD, self.results.costs
        for _ in range(costs.GENERATIONS):
            running = self._start(costs.CONTENDERS, costs.CONTENDERS, costs.SIZES)
            self._say(workload.title)
            for name, rounds in self._measure(workload, running, seconds=costs.SECONDS).items():
                found.setdefault(name, []).extend(rounds)
            for contender in running:
                contender.end()

    def run_hostile(self, contenders: Iterable[str], sizes: Sizes) -> None:
        """The rounds with hostile clients."""
        requests = WORKLOADS[0].write(self._directory)
        self.results.hostile = self._take_turns(
            "hostile clients",
            self._start(contenders, _CONTENDERS, sizes),
            lambda contender: hostile.measure(contender, requests, seconds=self._seconds),
        )

    def _take_turns(self, what: str, running: list[Contender], measure: Callable[[Contender], T]) -> dict[str, list[T]]:
        """All rounds of something that is measured in a way of its own; a round that fails is left out."""
        measured: dict[str, list[T]] = {}
        for number in range(self._rounds):
            for contender in _turned(running, number):
                self._say(f"{what}, round {number + 1}: {contender.name}")
                try:
                    one = measure(contender)
                except BenchError as error:
                    self._remark(str(error))
                else:
                    measured.setdefault(contender.name, []).append(one)
        for contender in running:
            contender.end()
        return measured

    def _start(self, names: Iterable[str], preparations: dict[str, Preparation], sizes: Sizes) -> list[Contender]:
        started = []
        for name in names:
            self._say(f"starting {name}")
            try:
                contender = Contender(preparations[name](self._cluster, sizes), cluster=self._cluster)
                contender.wait_until_it_answers()
            except NotHere as reason:
                self._remark(f"{name} is left out: {reason}")
            except BenchError as error:
                self._remark(f"{name} is left out: {error}")
            else:
                started.append(contender)
                self.results.titles[name] = contender.title
        return started

    def _agreeing(self, contenders: list[Contender]) -> list[Contender]:
        """Those that answer as the first one does, formatting apart."""
        expected = None
        agreeing = []
        for contender in contenders:
            try:
                answers = [meaning(request.query, contender.ask(request)) for request in SAMPLES]
            except BenchError as error:
                self._remark(f"{contender.name} is left out: {error}")
                continue
            expected = expected or answers
            differences = filter(None, map(difference, expected, answers))
            if (first := next(differences, None)) is not None:
                self._remark(f"{contender.name} is left out, it answers otherwise: {first}")
                continue
            agreeing.append(contender)
        return agreeing

    def _measure(
        self, workload: Workload, contenders: list[Contender], *, seconds: int | None = None
    ) -> dict[str, list[Round]]:
        length = seconds or self._seconds
        measured: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
        for number in range(-1, self._rounds):  # the first one warms up
            for contender in _turned(contenders, number):
                if contender.name not in measured:
                    continue
                requests = workload.write(self._directory, contender.path)
                self._cluster.primary.sql("TRUNCATE orders")
                try:
                    one = contender.measure(workload, requests, seconds=length if number >= 0 else 1)
                except BenchError as error:
                    self._remark(f"{workload.name}: {error}")
                    del measured[contender.name]
                else:
                    if number >= 0:
                        measured[contender.name].append(one)
        return measured

    def _remark(self, text: str) -> None:
        """Say all of it, a log's end perhaps; the results keep the first line."""
        self._say(text)
        self.results.remarks.append(text.splitlines()[0])


def open_cluster() -> Cluster:
    """A PostgreSQL for one run; to be started, and then filled by ``fill``."""
    return Cluster(replicas=0, settings=_SETTINGS)


def fill(cluster: Cluster) -> None:
    """Make what is asked for."""
    cluster.primary.run_file(_SCHEMA)


def _turned(contenders: list[Contender], number: int) -> list[Contender]:
    """Each round begins with another contender, so that none always follows the same one."""
    start = number % len(contenders) if contenders else 0
    return contenders[start:] + contenders[:start]


def describe(cluster: Cluster, rounds: int, seconds: int) -> str:
    """Where and how something was measured."""
    return (
        f"PostgreSQL {cluster.version} and wrk on the same machine, {os.cpu_count()} processors, "
        f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}; "
        f"medians of {rounds} alternating rounds of {seconds} s"
    )
