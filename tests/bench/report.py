"""Results as tables for a terminal; ``page`` has those of the documentation."""

from collections.abc import Iterator, Sequence
from statistics import median as median_of

from tests.bench import costs
from tests.bench.hostile import DRIBBLING, STAYING
from tests.bench.results import Results, baseline, median, median_hostile, median_overload, ratio
from tests.bench.workloads import WORKLOADS

_TITLES = {workload.name: workload.title for workload in WORKLOADS}


def report(results: Results) -> str:
    """All tables, under a line about the machine."""
    parts = [results.machine, *_workload_tables(results)]
    if results.costs:
        parts.append(costs.table(results.costs))
    if results.overload:
        parts.append("three times the peak is offered: 5 ms in the database, a small pool")
        parts.append(_table(_overload_rows(results)))
    if results.hostile:
        title = f"{DRIBBLING} clients dribble and {STAYING} never close: one row by key for 16 others"
        parts.append(title)
        parts.append(_table(_hostile_rows(results)))
    if results.memory:
        parts.append("memory after all rounds, and who is who")
        parts.append(_table(_memory_rows(results)))
    parts += results.remarks
    return "\n\n".join(parts)


def _workload_tables(results: Results) -> Iterator[str]:
    for workload, measured in results.rounds.items():
        if not measured:
            continue
        first = baseline(measured)
        rows = [["", "requests/s", f"to {first}", "p50 ms", "p99 ms", "processor µs", f"to {first}", "server µs"]]
        for name, rounds in measured.items():
            middle, share = median(rounds), ratio(rounds, measured[first])
            rows.append(
                [
                    name,
                    f"{middle.requests_per_second:,.0f}",
                    f"{share.requests_per_second:.2f}",
                    f"{middle.p50_ms:.1f}",
                    f"{middle.p99_ms:.1f}",
                    f"{middle.processor_us:,.0f}",
                    f"{share.processor_us:.2f}",
                    f"{middle.server_us:,.0f}",
                ]
            )
        yield _TITLES[workload]
        yield _table(rows)


def _overload_rows(results: Results) -> list[list[str]]:
    rows = [["", "peak/s", "offered/s", "goodput/s", "of peak", "answered p50, p99 ms", "refused p50, p99 ms"]]
    for name, rounds in results.overload.items():
        middle = median_overload(rounds)
        rows.append(
            [
                name,
                f"{middle.peak:,.0f}",
                f"{middle.offered:,.0f}",
                f"{middle.goodput:,.0f}",
                f"{middle.share:.2f}",
                f"{middle.answered_p50_ms:.1f}, {middle.answered_p99_ms:.1f}",
                f"{middle.refused_p50_ms:.1f}, {middle.refused_p99_ms:.1f}",
            ]
        )
    return rows


def _hostile_rows(results: Results) -> list[list[str]]:
    rows = [["", "alone p50, p99 ms", "crowded p50, p99 ms", "p99, times", "processor µs, alone and crowded"]]
    for name, rounds in results.hostile.items():
        middle = median_hostile(rounds)
        rows.append(
            [
                name,
                f"{middle.alone_p50_ms:.1f}, {middle.alone_p99_ms:.1f}",
                f"{middle.crowded_p50_ms:.1f}, {middle.crowded_p99_ms:.1f}",
                f"{median_of(one.ratio for one in rounds):.2f}",
                f"{middle.alone_processor_us:,.0f}, {middle.crowded_processor_us:,.0f}",
            ]
        )
    return rows


def _memory_rows(results: Results) -> list[list[str]]:
    rows = [["", "all, MB", "a worker's own, MB", "what"]]
    rows += [
        [name, f"{memory.whole:.0f}", f"{memory.worker:.0f}", results.titles[name]]
        for name, memory in results.memory.items()
    ]
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head; figures stand to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_text = [not any(map(str.isdigit, rows[1][number][:1])) for number in range(len(widths))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, is_text, strict=True)
        ).rstrip()
        for row in rows
    )
