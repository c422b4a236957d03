"""Rows as a table, for a terminal or for the README, or as JSON."""

from collections.abc import Sequence
from typing import Any

from tests.chaos.results import Row

HEAD = ("promise", "scenario", "measured", "asked", "verdict")


def table(rows: Sequence[Row], *, markdown: bool) -> str:
    """One line a figure; the scenario and its verdict stand at its first."""
    lines = [HEAD, *(line for row in rows for line in _lines(row))]
    if markdown:
        written = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([written[0], "|---" * len(HEAD) + "|", *written[1:]])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def explain(rows: Sequence[Row]) -> str:
    """What is known about the runs that missed; empty if none did."""
    said = []
    for row in rows:
        notes = [*row.faults, *row.remarks]
        if not row.kept and notes:
            said += [f"{row.name}:", *(f"  {text}" for text in notes)]
    return "\n".join(said)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "promise": row.promise,
            "scenario": row.name,
            "what": row.what,
            "runs": row.runs,
            "missed": row.missed,
            "kept": row.kept,
            "figures": [
                {"what": one.what, "worst": one.value, "asked": one.asked, "unit": one.unit, "kept": one.kept}
                for one in row.figures.values()
            ],
            "remarks": row.remarks,
            "faults": row.faults,
        }
        for row in rows
    ]


def _lines(row: Row) -> list[tuple[str, ...]]:
    figures = [
        (f"{one.what}: {one.measured}" + ("" if one.kept else " (!)"), one.wanted) for one in row.figures.values()
    ] or [("nothing", "")]
    first, *others = figures
    return [
        (row.promise, row.what, *first, row.verdict),
        *(("", "", *figure, "") for figure in others),
    ]
