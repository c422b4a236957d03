"""The wraps under limits, with numbers as strings, and without prepared statements."""

from collections.abc import Iterator

import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import InvalidArguments, ResultTooLarge
from gateway.postgres import single
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.memory import forget_most, most_held
from tests.live.wrapped import TABLES, logged


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_wraps_limits") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        yield dsn


@pytest.fixture(scope="module")
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("limits"))
    connection.close()


@pytest.fixture
def log(oracle: psycopg2.extensions.cursor) -> Iterator[psycopg2.extensions.cursor]:
    """Cursor over tables whose changes are undone after the test."""
    yield oracle
    oracle.execute("TRUNCATE log, ruled, redirected; DELETE FROM item WHERE id > 3")


# Prefer: bigint=string.


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("SELECT id, big, price FROM item ORDER BY id", [
            '{"id":1,"big":"9007199254740993","price":"1.10"}',
            '{"id":2,"big":"2","price":"2.20"}',
            '{"id":3,"big":null,"price":null}']),
        ("-- name: q^\nSELECT big FROM item ORDER BY id", ['{"big":"9007199254740993"}']),
        ("-- name: q$\nSELECT big, id FROM item ORDER BY id", ['"9007199254740993"']),
        ("-- name: q$\nSELECT count(*) FROM item", ['"3"']),
        ("-- name: q$\nSELECT ARRAY[1, NULL]::int8[]", ['["1",null]']),
        ("-- name: q$\nSELECT NULL::int8", ["null"]),
        ("UPDATE item SET name = name WHERE id = 1 RETURNING big, id", ['{"big":"9007199254740993","id":1}']),
        ("-- name: q$\nUPDATE item SET name = name WHERE id = 1 RETURNING big", ['"9007199254740993"']),
        ("-- name: q^\nWITH x AS (DELETE FROM log) SELECT 1::int8 AS n", ['{"n":"1"}']),
        ("SELECT * FROM domained", [
            '{"id":"9007199254740993","ids":["1","2"],"n":["1.10",null],"f":1.5,"j":{"a": 9007199254740993}}']),
        ("SELECT ARRAY[[1,2],[3,4]]::int8[] AS m, 'NaN'::numeric AS n", ['{"m":[["1","2"],["3","4"]],"n":"NaN"}']),
        ("INSERT INTO ruled VALUES (1, 'x') RETURNING id::int8, word", ['{"id":"1","word":"x"}']),
        ("-- name: q^\nCALL give(1, 'x', NULL, NULL)", ['{"b":"x!","c":"7","d":["1.10",null,"NaN"]}']),
        ("-- name: q$\nINSERT INTO ruled VALUES (1, 'x') RETURNING id::int8", ['"1"']),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("log")
def test_big_numbers_as_strings(text: str, rows: list[str], desk: Desk) -> None:
    assert desk.rows(text, bigint_as_string=True) == rows


# Limits.


def test_one_row_more_than_max_rows_is_asked_for_and_no_more(desk: Desk) -> None:
    """The error is that of the second row after the last one that may come."""
    text = "-- name: q\n-- @max_rows 2\nSELECT 1 / (4 - i) AS n FROM generate_series(1, :rows::int) i"
    assert desk.rows(text, '{"rows": 2}') == ['{"n":0}', '{"n":0}']
    with pytest.raises(ResultTooLarge, match="more than 2 rows"):
        desk.rows(text, '{"rows": 1000000}')


@pytest.mark.parametrize("form", ["SELECT repeat('x', 1000)", "INSERT INTO log SELECT 1, repeat('x', 1000)"])
@pytest.mark.usefixtures("log")
def test_what_is_refused_for_its_size_is_not_sent(desk: Desk, form: str) -> None:
    returning = " RETURNING word" if form.startswith("INSERT") else ""
    text = f"{form} AS x FROM generate_series(1, 100000){returning}"
    before = forget_most()
    with pytest.raises(ResultTooLarge, match="more than 1000000 bytes"):
        single.run(desk.connection, desk.plan(text, max_bytes=1_000_000), [], deadline=soon(30.0))
    assert most_held() - before < 20 << 20
    assert len(desk.connection.ask("SELECT 1", soon())) == 1


def test_a_result_of_too_many_bytes_is_refused_and_a_write_says_that_it_is_committed(
    desk: Desk, log: psycopg2.extensions.cursor
) -> None:
    with pytest.raises(ResultTooLarge) as caught:
        desk.run("SELECT repeat('x', 1000) AS x", max_bytes=999)
    assert caught.value.outcome is None
    with pytest.raises(ResultTooLarge) as caught:
        desk.run("INSERT INTO log VALUES (1, repeat('x', 1000)) RETURNING word", max_bytes=999)
    assert caught.value.outcome == "committed"
    assert len(logged(log)) == 1
    assert len(desk.rows("SELECT repeat('x', 1000) AS x", max_bytes=2000)) == 1


# Without prepared statements, as behind a transaction pooler.


@pytest.fixture(scope="module")
def unprepared(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn, prepare=False)
    yield Desk(connection, tmp_path_factory.mktemp("unprepared"))
    connection.close()


@pytest.mark.parametrize(
    ("text", "arguments", "rows"),
    [
        ("SELECT :a::int[] AS a", '{"a": [1, 2]}', ['{"a":[1,2]}']),
        ("-- name: q\n-- @param a int4[]\nSELECT :a[2] AS a", '{"a": [1, 2]}', ['{"a":2}']),
        ("SELECT (:a::int[])[2] AS a", '{"a": [1, 2]}', ['{"a":2}']),
        ("SELECT -(:n::int) AS n, :s::text || 'y' AS s", '{"n": 5, "s": "it\'s \\\\"}', ['{"n":-5,"s":"it\'s \\\\y"}']),
        ("SELECT id FROM item ORDER BY id LIMIT :n", '{"n": 1}', ['{"id":1}']),
        ("SELECT upper(:s) AS s, count(*) AS n FROM item GROUP BY upper(:s)", '{"s": "a"}', ['{"s":"A","n":3}']),
        ("-- name: q$\nSELECT :d::date - 1", '{"d": "2026-01-01"}', ['"2025-12-31"']),
        ("SELECT id FROM item WHERE id BETWEEN :a AND :b ORDER BY id", '{"a": 2, "b": 3}', ['{"id":2}', '{"id":3}']),
        ("INSERT INTO item (id, name) VALUES (:id, :name) RETURNING id, name", '{"id": 30, "name": null}',
         ['{"id":30,"name":null}']),
        ("-- name: q^\nCALL give(:a, :b, NULL, NULL)", '{"a": 1, "b": "x"}',
         ['{"b":"x!","c":7,"d":[1.10,null,"NaN"]}']),
        ("INSERT INTO ruled VALUES (:id, 'x') RETURNING id", '{"id": 4}', ['{"id":4}']),
    ],
)  # fmt: skip
def test_literals_in_place_give_what_prepared_statements_give(
    text: str, arguments: str, rows: list[str], desk: Desk, unprepared: Desk, log: psycopg2.extensions.cursor
) -> None:
    expected = desk.rows(text, arguments)
    log.execute("DELETE FROM item WHERE id > 3")
    assert unprepared.rows(text, arguments) == expected == rows
    assert unprepared.connection.ask("SELECT count(*)::text FROM pg_prepared_statements", soon()) == [("0",)]


def test_bad_arguments_are_named_without_prepared_statements_too(unprepared: Desk) -> None:
    with pytest.raises(InvalidArguments) as caught:
        unprepared.run("SELECT :a::date AS a, :b::inet AS b", '{"a": "x", "b": "y"}')
    assert [fault.parameter for fault in caught.value.faults] == ["a", "b"]
