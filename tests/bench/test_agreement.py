import json
from typing import Any

import pytest

from tests.bench.agreement import difference, meaning
from tests.bench.failures import BenchError


def _rows(query: str, **row: Any) -> list[dict[str, Any]]:
    return meaning(query, json.dumps({"row": row}).encode())


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("price", 12.3, "12.30"),
        ("price", 10, "10.00"),
        ("id", 9007199254740993, "9007199254740993"),
        ("added", "2026-01-01T00:02:00+00:00", "2026-01-01T00:02:00.000Z"),
        ("added", "2026-01-01T01:02:00.5+01:00", "2026-01-01T00:02:00.500Z"),
        ("changed", None, None),
    ],
)
def test_spellings_of_one_value_agree(column: str, one: Any, other: Any) -> None:
    assert difference(_rows("product", **{column: one}), _rows("product", **{column: other})) is None


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("price", 12.3, "12.31"),
        ("id", 9007199254740993, 9007199254740992),
        ("added", "2026-01-01T00:02:00Z", "2026-01-01T00:02:00.001Z"),
        ("changed", "2026-01-01T00:02:00Z", None),
        ("tags", ["a", "b"], ["a"]),
        ("released", "2026-01-01", "2026-01-01T00:00:00.000Z"),
    ],
)
def test_other_values_are_named_with_their_row_and_column(column: str, one: Any, other: Any) -> None:
    found = difference(_rows("product", **{column: one}), _rows("product", **{column: other}))
    assert found is not None
    assert found.startswith(f"row 1, {column}: ")


def test_a_row_or_a_column_too_few_is_a_difference() -> None:
    two = meaning("articles", b'{"rows": [{"id": 1}, {"id": 2}], "row_count": 2}')
    assert difference(two, two[:1]) == "1 rows instead of 2"
    assert difference(_rows("product", id=1, name="x"), _rows("product", id=1)) == "columns id instead of id, name"


def test_a_number_that_the_database_counts_up_may_differ_but_must_be_there() -> None:
    assert difference(_rows("order", id=1, product=4), _rows("order", id=2, product=4)) is None
    assert difference(_rows("order", id=1, product=4), _rows("order", product=4)) is not None


@pytest.mark.parametrize(
    "answer", [b"<html>", b"[]", b'{"error": 1}', b'{"row": null}', b'{"rows": [], "row_count": 1}']
)
def test_what_is_no_answer_is_said_to_be_none(answer: bytes) -> None:
    with pytest.raises(BenchError):
        meaning("product", answer)
