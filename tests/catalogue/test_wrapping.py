"""The wraps as text."""

import subprocess
import sys

import msgspec
import pytest

from gateway.catalogue.query import Kind, Statement, Text, Verb
from gateway.catalogue.wrapping import accumulate, joined, quoted, wrap

READ = Statement(Verb.SELECT, Text(("Q ", ""), (0,)), None, Text(("(\nQ ", "\n)"), (0,)))
DML = Statement(Verb.INSERT, Text(("I ", ""), (1,)), Text(("WITH _gw AS (\nI ", "\n)"), (1,)), Text(("_gw",)))
BARE = Statement(Verb.INSERT, Text(("I",)))
TEXTS = "coalesce(pg_catalog.string_agg(_gw._gw_c, ','), '')"
JOINED = f"SELECT pg_catalog.count(*), {TEXTS}"


def at_most(rows: int) -> str:
    return f"SELECT pg_catalog.count(*), CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.<=) {rows} THEN {TEXTS} END"


ROW = "SELECT pg_catalog.row_to_json(_gw.*)::pg_catalog.text"
VALUE = "SELECT coalesce(pg_catalog.to_json(_gw._gw_c)::pg_catalog.text, 'null')"
AND = " OPERATOR(pg_catalog.||) "
SET = (
    f"SELECT pg_catalog.set_config('gateway.acc', pg_catalog.current_setting('gateway.acc'){AND}"
    "pg_catalog.count(*)::pg_catalog.text"
)
AS = "AS _gw(_gw_c)"


@pytest.mark.parametrize(
    ("kind", "statement", "max_rows", "expected"),
    [
        (Kind.MANY, READ, None, f"{JOINED} FROM ({ROW} FROM (\nQ $1\n) AS _gw) {AS}"),
        (Kind.MANY, READ, 10, f"{at_most(10)} FROM ({ROW} FROM (\nQ $1\n) AS _gw LIMIT 11) {AS}"),
        (Kind.ONE, READ, 10, f"{ROW} FROM (\nQ $1\n) AS _gw LIMIT 1"),
        (
            Kind.SCALAR,
            READ,
            10,
            f"{VALUE} FROM (\nQ $1\n) AS _gw(_gw_c) LIMIT 1",
        ),
        (Kind.EXEC, READ, 10, None),
        (
            Kind.MANY,
            DML,
            None,
            f"WITH _gw AS (\nI $2\n) {JOINED} FROM ({ROW} FROM _gw AS _gw) {AS}",
        ),
        (
            Kind.SCALAR,
            DML,
            None,
            f"WITH _gw AS (\nI $2\n) {VALUE} FROM _gw AS _gw(_gw_c) LIMIT 1",
        ),
        (Kind.MANY, BARE, None, None),
    ],
)
def test_a_statement_is_wrapped_by_its_kind(
    kind: Kind, statement: Statement, max_rows: int | None, expected: str | None
) -> None:
    text = wrap(kind, statement, max_rows=max_rows)
    assert (text.render() if text else None) == expected


COLUMNS = [("id", "::text"), ('a "b"', ""), ("n", "::text[]")]


def test_columns_are_recast_by_name() -> None:
    text = wrap(Kind.MANY, READ, max_rows=5, columns=COLUMNS)
    assert text is not None
    recast = (
        '(SELECT _gw."id"::text AS "id", _gw."a ""b""" AS "a ""b""", _gw."n"::text[] AS "n" FROM (\nQ $1\n) AS _gw)'
    )
    assert text.render() == f"{at_most(5)} FROM ({ROW} FROM {recast} AS _gw LIMIT 6) {AS}"


def test_a_scalar_is_recast_by_its_first_column() -> None:
    text = wrap(Kind.SCALAR, DML, columns=[COLUMNS[0], COLUMNS[0]])
    assert text is not None
    assert text.render() == (
        "WITH _gw AS (\nI $2\n) SELECT coalesce(pg_catalog.to_json(_gw._gw_c::text)::pg_catalog.text, 'null')"
        " FROM _gw AS _gw(_gw_c) LIMIT 1"
    )


def test_a_result_without_columns_has_nothing_to_recast() -> None:
    assert wrap(Kind.MANY, READ, columns=[]) == wrap(Kind.MANY, READ)


def test_texts_are_joined_with_their_parameters_in_place() -> None:
    text = joined("<", Text(("a ", " b ", ""), (1, 0)), "|", Text(("", " c"), (2,)), ">")
    assert text == Text(("<a ", " b ", "|", " c>"), (1, 0, 2))
    assert text.render() == "<a $2 b $1|$3 c>"
    assert text.render(lambda occurrence, parameter: f"{occurrence}:{parameter}") == "<a 0:1 b 1:0|2:2 c>"
    assert joined() == Text(("",))


def test_identifiers_are_quoted_as_sql() -> None:
    assert quoted('a"b') == '"a""b"'


def test_serving_needs_no_parser() -> None:
    """Serving processes import these, and must not pay for the parser."""
    code = (
        "import sys, gateway.catalogue.wrapping, gateway.catalogue.query, gateway.catalogue.types\n"
        "sys.exit(any(name.startswith(('postgast', 'google')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603


@pytest.mark.parametrize(
    ("kind", "statement", "expected"),
    [
        (
            Kind.MANY,
            DML,
            f"WITH _gw AS (\nI $2\n) {SET}{AND}pg_catalog.chr(31)"
            f"{AND}coalesce(pg_catalog.string_agg(_gw._gw_c, ','), ''){AND}pg_catalog.chr(30), true)"
            f" FROM ({ROW} FROM _gw AS _gw LIMIT 4) AS _gw(_gw_c)",
        ),
        (Kind.EXEC, BARE, None),
        (
            Kind.EXEC,
            msgspec.structs.replace(BARE, counted=Text(("WITH _gw AS (\nI\nRETURNING 1\n)",))),
            f"WITH _gw AS (\nI\nRETURNING 1\n) {SET}{AND}pg_catalog.chr(31){AND}pg_catalog.chr(30), true) FROM _gw",
        ),
        (Kind.EXEC, READ, None),
        (Kind.ONE, BARE, None),
    ],
)
def test_a_statement_leaves_its_result_in_a_setting(kind: Kind, statement: Statement, expected: str | None) -> None:
    text = accumulate(kind, statement, max_rows=3)
    assert (text.render() if text else None) == expected
