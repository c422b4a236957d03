"""Rows from a cursor: for every family of types the values that JSON has, in constant memory and between limits."""

import json
import re
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.catalogue import exporting
from gateway.catalogue.exporting import Format, Layout
from gateway.demo.cluster import Cluster
from gateway.postgres import guarding
from gateway.postgres.cursor import FIRST, LONGEST_PAUSE, MOST, PIECE, Rows
from gateway.postgres.tokens import Token
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.families import SAMPLES, SCHEMA, Sample

NDJSON = Format(Layout.NDJSON)
CSV = Format(Layout.CSV, has_header=False)
END = b"\0"
"""Ends each line, and is in no text of PostgreSQL's."""
each_type = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.type)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_cursor") as dsn, plain(dsn) as cursor:
        cursor.execute(SCHEMA)
        cursor.execute("CREATE TABLE changing (a int, b text); INSERT INTO changing VALUES (1, 'x')")
        yield dsn


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn, read_only=True)
    yield Desk(connection, tmp_path_factory.mktemp("cursor"))
    connection.close()


@pytest.fixture(scope="module")
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


def opened(
    desk: Desk, text: str, wanted: Format = NDJSON, literals: Sequence[str] = (), guard: str = ""
) -> tuple[Rows, bytes]:
    query, _ = desk.learn(text)
    plan = desk.plan(text)
    source = query.statement.source
    assert source is not None
    lines = exporting.lines(wanted, source, plan.columns, max_rows=query.max_rows)
    rows = Rows(desk.connection, plan, lines, exporting.look(source), END)
    return rows, rows.open(literals, deadline=soon(), client=None, guard=guard, settings={})


def streamed(desk: Desk, text: str, wanted: Format = NDJSON) -> list[str]:
    try:
        rows, first = opened(desk, text, wanted)
        *lines, behind = b"".join([first, *rows.rest(inf)]).split(END)
        assert behind == b""
        return [line.decode() for line in lines]
    finally:
        assert desk.connection.settle(soon())


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@each_type
def test_lines_have_the_values_that_json_has(sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    values = [f"({literal(text)}::{sample.type})" for text in sample.texts]
    columns = ["x", *(["ARRAY[x, NULL] AS xs"] if sample.array else [])]
    text = f"SELECT {', '.join(columns)} FROM (VALUES {', '.join([*values, '(NULL)'])}) AS v(x)"
    expected = [json.loads(row, parse_float=str, parse_int=str) for row in desk.rows(text)]
    desk.connection.settle(soon())
    lines = streamed(desk, text)
    assert not any("\n" in line or "\r" in line for line in lines)
    assert [json.loads(line, parse_float=str, parse_int=str) for line in lines] == expected
    written = "\r\n".join(streamed(desk, text, CSV)) + "\r\n"
    types = [sample.type, f"{sample.type}[]"][: len(columns)]
    assert reread(oracle, written, types) == [list(row.values()) for row in expected]


def records(written: str) -> list[list[str | None]]:
    """CSV by RFC 4180, in which NULL is not the empty text: Python's own reader cannot tell them apart."""
    found: list[list[str | None]] = [[]]
    at = 0
    while at < len(written):
        match = _CELL.match(written, at)
        assert match is not None, written[at : at + 100]
        quoted, plain, end = match.groups()
        found[-1].append((plain or None) if quoted is None else quoted.replace('""', '"'))
        if end == "\r\n":
            found.append([])
        at = match.end()
    assert found.pop() == []
    return found


_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)')


def reread(oracle: psycopg2.extensions.cursor, written: str, types: Sequence[str]) -> list[list[object]]:
    """The JSON values of CSV."""
    values = []
    for record in records(written):
        casts = ", ".join(f"to_json(%s::{type_})::text" for type_ in types)
        oracle.execute(f"SELECT {casts}", record)
        values += [
            [None if text is None else json.loads(text, parse_float=str, parse_int=str) for text in row]
            for row in oracle.fetchall()
        ]
    return values


def test_what_needs_quotes_has_them_and_null_is_not_the_empty_text(desk: Desk) -> None:
    text = (
        "SELECT 'a,b' AS a, 'say \"x\"' AS b, E'two\\r\\nlines' AS c, '' AS d, NULL::text AS e,"
        " 'ab '::char(5) AS f, true AS g, 1.50 AS h, '{}'::int[] AS i, ROW(1, 'x,y') AS j, '$1,000.00'::money AS k"
    )
    assert streamed(desk, text, CSV) == [
        '"a,b","say ""x""","two\r\nlines","",,"ab   ",true,1.50,"{}","(1,""x,y"")","$1,000.00"'
    ]


def test_a_header_has_the_names_in_quotes_where_they_need_them(desk: Desk) -> None:
    columns = desk.plan('SELECT 1 AS a, 2 AS "b,c", 3 AS "say ""x""", 4 AS "ä"').columns
    assert Format(Layout.CSV).header(columns).decode() == 'a,"b,c","say ""x""",ä\r\n'
    assert Format(Layout.CSV, delimiter=";").header(columns[:1] * 2) == b"a;a\r\n"


def test_a_result_may_have_hundreds_of_columns_or_none(desk: Desk) -> None:
    text = f"SELECT {', '.join(f'{i} AS c{i}' for i in range(250))}"
    assert streamed(desk, text, CSV) == [",".join(map(str, range(250)))]
    assert streamed(desk, "SELECT FROM generate_series(1, 2)", CSV) == ["", ""]
    assert streamed(desk, "SELECT FROM generate_series(1, 2)") == ["{}", "{}"]


def test_columns_of_one_name_stay_apart(desk: Desk) -> None:
    assert streamed(desk, "SELECT 1 AS a, 2 AS a", CSV) == ["1,2"]


def test_pieces_are_of_about_the_same_length_however_long_the_rows_are(desk: Desk) -> None:
    text = "SELECT repeat('x', 10 + i / 50) AS x FROM generate_series(1, 100000) AS i"
    rows, first = opened(desk, text)
    assert first.count(END) == FIRST
    sizes = [len(piece) for piece in rows.rest(inf)]
    desk.connection.settle(soon())
    assert max(sizes) < 2 * PIECE
    assert sum(sizes) / len(sizes) > PIECE / 2
    assert MOST * 20 < PIECE


def test_a_query_of_other_columns_than_were_learnt_is_stale(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    text = "SELECT * FROM changing"
    assert streamed(desk, text, CSV) == ['1,"x"']
    oracle.execute("ALTER TABLE changing ALTER a TYPE text, ADD c int")
    with pytest.raises(errors.CatalogueStale):
        streamed(desk, text, CSV)


def test_a_guard_stops_it_before_anything_is_looked_at(desk: Desk) -> None:
    guard = guarding.has_replayed(Token(system=1, timeline=1, position=1))
    with pytest.raises(errors.TooStale):
        opened(desk, "SELECT 1 AS a", guard=guard)
    assert desk.connection.settle(soon())


def test_more_rows_than_a_query_may_have_end_it(desk: Desk) -> None:
    text = "-- name: q\n-- @max_rows 150\nSELECT i FROM generate_series(1, 1000) AS i"
    rows, first = opened(desk, text)
    with pytest.raises(errors.ResultTooLarge, match="more than 150 rows"):
        list(rows.rest(inf))
    desk.connection.settle(soon())
    assert first.count(END) == FIRST


def test_its_transaction_reads_and_does_not_outlive_a_process_that_stands_still(desk: Desk) -> None:
    settings = (
        "SELECT current_setting('transaction_read_only'), current_setting('statement_timeout'),"
        " current_setting('idle_in_transaction_session_timeout')"
    )
    opened(desk, "SELECT 1 AS a")
    assert desk.connection.ask(settings, soon()) == [("on", "0", f"{LONGEST_PAUSE // 60}min")]
    assert desk.connection.settle(soon())


def test_it_works_where_nothing_may_stay_prepared(dsn: str, tmp_path: Path) -> None:
    pooled = Desk(connect(dsn, read_only=True, prepare=False), tmp_path / "queries")
    try:
        assert streamed(pooled, "SELECT i FROM generate_series(1, 3) AS i") == ['{"i":1}', '{"i":2}', '{"i":3}']
    finally:
        pooled.connection.close()
