"""Results as the documentation shows them, in Markdown."""

from collections.abc import Callable

from tests.bench import costs
from tests.bench.contender import Round
from tests.bench.results import Results, baseline, median, ratio
from tests.bench.workloads import WORKLOADS

_TITLES = {workload.name: workload.title for workload in WORKLOADS}


def page(results: Results) -> str:
    """All tables, under a line that says when and where they were measured."""
    memory = [
        f"* {results.titles[name]}: {memory.whole:.0f} MB, {memory.worker:.0f} MB of them a worker's own"
        for name, memory in results.memory.items()
    ]
    parts = [readme(results), _costs(results)]
    if memory:
        parts.append("\n".join(["Memory after the rounds, the most of any start:", "", *memory]))
    return "\n\n".join([*parts, *results.remarks])


def costs_page(results: Results) -> str:
    """What each thing that can be switched on adds, under the same line."""
    machine, rounds = results.machine.partition(";")[0], max(map(len, results.costs.values()))
    return f"Measured on {results.date}: {machine}; {rounds} rounds of each.\n\n{costs.table(results.costs)}"


def readme(results: Results) -> str:
    """One table, for whoever reads only one, under the same line."""
    return f"Measured on {results.date}: {results.machine}.\n\n{throughput(results)}"


def throughput(results: Results) -> str:
    """Requests a second, and relative to the contender that the others are compared with."""
    first = next(baseline(measured) for measured in results.rounds.values() if measured)

    def cell(rounds: list[Round], to: list[Round]) -> str:
        figure = f"{median(rounds).requests_per_second:,.0f}"
        return figure if rounds is to else f"{figure} ({ratio(rounds, to).requests_per_second:.2f})"

    return _table(results, f"requests/s, and relative to {first}", cell)


def _costs(results: Results) -> str:
    def cell(rounds: list[Round], _: list[Round]) -> str:
        middle = median(rounds)
        return f"{middle.processor_us:,.0f} ({middle.p99_ms:.1f})"

    return _table(results, "processor µs a request (p99 ms)", cell)


def _table(results: Results, head: str, cell: Callable[[list[Round], list[Round]], str]) -> str:
    """A line for each workload, a column for each contender; one that a workload does not have is a dash."""
    names = list(dict.fromkeys(name for measured in results.rounds.values() for name in measured))
    lines = [
        f"| {' | '.join([head, *(results.titles[name] for name in names)])} |",
        f"|---{'|---:' * len(names)}|",
    ]
    for workload, measured in results.rounds.items():
        if measured:
            to = measured[baseline(measured)]
            cells = [cell(measured[name], to) if name in measured else "-" for name in names]
            lines.append(f"| {' | '.join([_TITLES[workload], *cells])} |")
    return "\n".join(lines)
