"""What one run has measured: every round, and what is made of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from tests.bench.contender import Round
from tests.bench.hostile import Hostile
from tests.bench.overload import Overload
from tests.bench.processes import Memory

T = TypeVar("T")

BASELINE = "fastify"
"""Whom the others are compared with, if it took part; else the first that did."""


@dataclass
class Results:
    """Everything of one run, by contender and workload in the order in which they were run."""

    date: str
    machine: str
    titles: dict[str, str] = field(default_factory=dict)
    rounds: dict[str, dict[str, list[Round]]] = field(default_factory=dict)
    """By workload, then by contender."""
    memory: dict[str, Memory] = field(default_factory=dict)
    overload: dict[str, list[Overload]] = field(default_factory=dict)
    hostile: dict[str, list[Hostile]] = field(default_factory=dict)
    costs: dict[str, list[Round]] = field(default_factory=dict)
    """By contender of ``tests.bench.costs``."""
    remarks: list[str] = field(default_factory=list)
    """Who could not take part, and why."""

    def as_json(self) -> dict[str, Any]:
        """All figures of all rounds."""
        return {
            **{name: value for name, value in asdict(self).items() if name != "costs"},
            "rounds": {
                workload: {name: [one._asdict() for one in rounds] for name, rounds in measured.items()}
                for workload, measured in self.rounds.items()
            },
            "memory": {name: memory._asdict() for name, memory in self.memory.items()},
            "overload": {name: [one._asdict() for one in rounds] for name, rounds in self.overload.items()},
            "hostile": {name: [one._asdict() for one in rounds] for name, rounds in self.hostile.items()},
        }

    def costs_as_json(self) -> dict[str, Any]:
        """All figures of what the gateway's own parts cost, which are kept by themselves."""
        costs = {name: [one._asdict() for one in rounds] for name, rounds in self.costs.items()}
        return {"date": self.date, "machine": self.machine, "costs": costs}


def costs_from_json(read: dict[str, Any]) -> Results:
    """The results that were written by ``costs_as_json``."""
    costs = {name: [Round(**one) for one in rounds] for name, rounds in read["costs"].items()}
    return Results(read["date"], read["machine"], costs=costs)


def from_json(read: dict[str, Any]) -> Results:
    """The results that were written by ``as_json``."""

    def rounds(kind: Callable[..., T], measured: dict[str, list[dict[str, float]]]) -> dict[str, list[T]]:
        return {name: [kind(**one) for one in many] for name, many in measured.items()}

    return Results(
        **{
            **read,
            "rounds": {workload: rounds(Round, measured) for workload, measured in read["rounds"].items()},
            "memory": {name: Memory(**memory) for name, memory in read["memory"].items()},
            "overload": rounds(Overload, read["overload"]),
            "hostile": rounds(Hostile, read["hostile"]),
        }
    )


def median(rounds: Sequence[Round]) -> Round:
    """Of each figure by itself."""
    return Round(*map(statistics.median, zip(*rounds, strict=True)))


def median_overload(rounds: Sequence[Overload]) -> Overload:
    """Of each figure by itself."""
    return Overload(*map(statistics.median, zip(*rounds, strict=True)))


def median_hostile(rounds: Sequence[Hostile]) -> Hostile:
    """Of each figure by itself."""
    return Hostile(*map(statistics.median, zip(*rounds, strict=True)))


def baseline(measured: dict[str, list[Round]]) -> str:
    """The contender that the others of a workload are compared with."""
    return BASELINE if BASELINE in measured else next(iter(measured))


def ratio(rounds: Sequence[Round], to: Sequence[Round]) -> Round:
    """Median of the ratios of rounds that were run one after the other."""
    pairs = zip(rounds, to, strict=True)
    return median([Round(*(a / b if b else 0.0 for a, b in zip(one, other, strict=True))) for one, other in pairs])
