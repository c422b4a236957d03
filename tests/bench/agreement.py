"""Whether two answers say the same, formatting apart: ``"12.30"`` and 12.3, ``…Z`` and ``…+00:00``."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from tests.bench.failures import BenchError


def _number(value: Any) -> Any:
    return Decimal(str(value)).normalize()


def _moment(value: Any) -> Any:
    return None if value is None else datetime.fromisoformat(value).astimezone(UTC)


_MEANINGS: dict[str, Callable[[Any], Any]] = {"id": _number, "price": _number, "added": _moment, "changed": _moment}
"""Of columns for which contenders have several spellings; all others must be alike as they are."""
_ASSIGNED = {"order": ("id",)}
"""By query, columns that the database counts up: they must be there, whatever their value."""


def meaning(query: str, answer: bytes) -> list[dict[str, Any]]:
    """The rows of an answer, comparable; BenchError says what is wrong with it."""
    try:
        parsed = json.loads(answer)
        rows = [parsed["row"]] if "row" in parsed else parsed["rows"]
        if "rows" in parsed and parsed["row_count"] != len(rows):
            raise BenchError("row_count is wrong")
        return [_row(query, row) for row in rows]
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{error!r} in {answer[:200]!r}") from error


def difference(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> str | None:
    """The first difference in words, or None."""
    if len(expected) != len(found):
        return f"{len(found)} rows instead of {len(expected)}"
    for number, (wanted, got) in enumerate(zip(expected, found, strict=True), 1):
        if list(wanted) != list(got):
            return f"columns {', '.join(got)} instead of {', '.join(wanted)}"
        for column, value in wanted.items():
            if got[column] != value:
                return f"row {number}, {column}: {got[column]!r} instead of {value!r}"
    return None


def _row(query: str, row: dict[str, Any]) -> dict[str, Any]:
    comparable = {column: _MEANINGS.get(column, _same)(value) for column, value in row.items()}
    return comparable | {column: "any" for column in _ASSIGNED.get(query, ()) if column in comparable}


def _same(value: Any) -> Any:
    return value
