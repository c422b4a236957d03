"""What of a query the server can plan well only when it knows the arguments."""

from pathlib import Path

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.selecting import planned_by_arguments

OPTIONAL = "an optional filter (`:x IS NULL OR …`)"
PATTERN = "a pattern or prefix that is an argument"
COALESCE = "an optional filter (`coalesce(:x, column)`)"


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("id = :x", []),
        (":x IS NULL OR id = :x", [OPTIONAL]),
        ("(id = :x OR :x::int IS NULL) AND (:y IS NULL OR name = :y)", [OPTIONAL]),
        (":x IS NOT NULL OR id = :x", []),
        ("id IS NULL OR id = :x", []),
        (":x IS NULL AND id = 1", []),
        ("name LIKE :x", [PATTERN]),
        ("name ILIKE '%' || :x || '%'", [PATTERN]),
        ("name LIKE 'a%' AND id = :x", []),
        ("name ^@ :x", [PATTERN]),
        ("name ~ :x", [PATTERN]),
        ("id = coalesce(:x, id)", [COALESCE]),
        ("id = coalesce(id, :x)", []),
        ("id IN (SELECT id FROM t WHERE :x IS NULL OR id = :x)", [OPTIONAL]),
    ],
)
def test_it_is_named(where: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text(f"-- name: q(x, y)\nSELECT :y, :x FROM t WHERE {where};")
    (query,) = compile_catalogue([tmp_path], groups={"read": "read"}, timeout=5.0).queries.values()
    assert planned_by_arguments(query.statement) == found
