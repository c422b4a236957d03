"""Rows as a table for a terminal, as JSON, and as the part of the documentation that is made from that JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.chaos.results import Figure, Row

HEAD = ("subject", "scenario", "measured", "asked", "verdict")


def table(rows: Sequence[Row]) -> str:
    """One line a figure; the scenario and its verdict stand at its first."""
    lines = [HEAD, *(line for row in rows for line in _lines(row))]
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


def as_json(rows: Sequence[Row], *, date: str, machine: str) -> dict[str, Any]:
    """All that was measured, for programs; ``from_json`` reads it."""
    written = [asdict(row) | {"figures": [asdict(one) for one in row.figures.values()]} for row in rows]
    return {"date": date, "machine": machine, "rows": written}


def from_json(measured: dict[str, Any]) -> list[Row]:
    """The rows that were written by ``as_json``."""
    return [
        Row(**{**row, "figures": {one["what"]: Figure(**one) for one in row["figures"]}}) for row in measured["rows"]
    ]


def page(measured: dict[str, Any]) -> str:
    """What the documentation says of a run, in Markdown."""
    rows = from_json(measured)
    lines = [f"Measured on {measured['date']} on one machine: {measured['machine']}.", ""]
    lines += ["| scenario | runs | worst of them (limit) | kept |", "|---|---:|---|---|"]
    for row in rows:
        figures = "; ".join(
            f"{one.what.strip()}: {one.measured} ({one.wanted})" + ("" if one.kept else " **missed**")
            for one in row.figures.values()
        )
        lines.append(f"| {row.what} | {row.runs} | {figures} | {row.runs - row.missed} of {row.runs} |")
    return "\n".join(lines)


def _lines(row: Row) -> list[tuple[str, ...]]:
    figures = [
        (f"{one.what}: {one.measured}" + ("" if one.kept else " (!)"), one.wanted) for one in row.figures.values()
    ] or [("nothing", "")]
    first, *others = figures
    return [
        (row.subject, row.what, *first, row.verdict),
        *(("", "", *figure, "") for figure in others),
    ]
