"""Every family of types: PostgreSQL's own JSON of a value, byte for byte, and the same bytes as an argument again."""

from collections.abc import Iterator

import psycopg2.extensions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, InvalidArguments, InvalidJSON
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.families import SAMPLES, SCHEMA, Sample

quickly = settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
each_type = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.type)
each_sample = pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if sample.returns], ids=lambda sample: sample.type
)
each_array = pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if sample.array], ids=lambda sample: sample.type
)


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_types") as dsn, plain(dsn) as cursor:
        cursor.execute(SCHEMA)
        yield dsn


@pytest.fixture(scope="module")
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("types"))
    connection.close()


def echo(type_: str, kind: str = "$") -> str:
    return f"-- name: echo{kind}\n-- @param x {type_}\nSELECT :x AS x"


def to_json(oracle: psycopg2.extensions.cursor, sql: str, *values: str | None) -> str:
    oracle.execute(f"SELECT to_json({sql})::text", values)
    found = oracle.fetchall()[0][0]
    return "null" if found is None else str(found)


def spread(sample: Sample, oracle: psycopg2.extensions.cursor) -> list[str]:
    return [to_json(oracle, f"%s::{sample.type}", text) for text in sample.texts]


@each_type
def test_values_are_what_to_json_says_in_every_wrap(
    sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    expected = [*spread(sample, oracle), "null"]
    constants = ", ".join(f"({literal(text)}::{sample.type})" for text in sample.texts) + ", (NULL)"
    everything = f"SELECT x FROM (VALUES {constants}) AS v(x)"
    assert desk.rows(everything) == [f'{{"x":{value}}}' for value in expected]
    assert desk.value(f"-- name: q^\n{everything}") == f'{{"x":{expected[0]}}}'
    assert desk.value(f"-- name: q$\n{everything}") == expected[0]


@each_sample
def test_a_value_that_came_back_is_taken_as_an_argument_and_comes_back_the_same(
    sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    for value in [*spread(sample, oracle), "null"]:
        assert desk.value(echo(sample.type), f'{{"x": {value}}}') == value


@each_sample
def test_any_value_that_came_back_comes_back_the_same(
    sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    @quickly
    @given(sample.more)
    def check(text: str) -> None:
        value = to_json(oracle, f"%s::{sample.type}", text)
        assert desk.value(echo(sample.type), f'{{"x": {value}}}') == value

    check()


@each_array
def test_arrays_of_a_type_come_back_the_same(sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    element = f"%s::{sample.type}"
    expected = [
        to_json(oracle, f"ARRAY[{', '.join([element] * len(sample.texts))}, NULL]", *sample.texts),
        to_json(oracle, f"ARRAY[NULL, {element}]", sample.texts[0]),
        to_json(oracle, f"'{{}}'::{sample.type}[]"),
    ]
    if sample.dimensions:
        square = f"ARRAY[[{element}, NULL], [NULL, {element}]]"
        expected.append(to_json(oracle, square, sample.texts[0], sample.texts[-1]))
    for value in expected:
        assert desk.value(echo(f"{sample.type}[]"), f'{{"x": {value}}}') == value
    assert desk.value(f"SELECT ARRAY[{literal(sample.texts[0])}::{sample.type}, NULL] AS x") == (
        f'{{"x":{to_json(oracle, f"ARRAY[{element}, NULL]", sample.texts[0])}}}'
    )


@each_array
def test_any_array_comes_back_the_same(sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    element = f"%s::{sample.type}"

    @settings(quickly, max_examples=15)
    @given(st.lists(st.none() | sample.more, max_size=4))
    def check(texts: list[str | None]) -> None:
        value = to_json(oracle, f"ARRAY[{', '.join([element] * len(texts))}]::{sample.type}[]", *texts)
        assert desk.value(echo(f"{sample.type}[]"), f'{{"x": {value}}}') == value

    check()


@each_sample
def test_what_a_procedure_gives_is_what_to_json_says(
    sample: Sample, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    oracle.execute(
        f"CREATE OR REPLACE PROCEDURE give(INOUT x {sample.type}, OUT twice {sample.type}[])"
        " LANGUAGE plpgsql AS $$ BEGIN twice := ARRAY[x, NULL]; END $$"
        if sample.array
        else f"CREATE OR REPLACE PROCEDURE give(INOUT x {sample.type}, OUT twice int)"
        " LANGUAGE plpgsql AS $$ BEGIN twice := 2; END $$"
    )
    try:
        call = f"-- name: give_{SAMPLES.index(sample)}^\nCALL give(:x, NULL)"
        for text in sample.texts:
            value = to_json(oracle, f"%s::{sample.type}", text)
            twice = to_json(oracle, f"ARRAY[%s::{sample.type}, NULL]", text) if sample.array else "2"
            assert desk.value(call, f'{{"x": {value}}}') == f'{{"x":{value},"twice":{twice}}}'
    finally:
        oracle.execute("DROP PROCEDURE give")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


JSON_NUMBERS = ["0", "-0", "1.0", "1e2", "1E+2", "0.1e-5", "-12.50", "123456789012345678901234567890.5"]


@pytest.mark.parametrize("number", JSON_NUMBERS)
def test_numbers_go_in_with_every_digit_they_were_written_with(
    number: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    assert desk.value(echo("numeric"), f'{{"x": {number}}}') == to_json(oracle, "%s::numeric", number)
    assert desk.value(echo("json"), f'{{"x": {number}}}') == number
    assert desk.value(echo("float8"), f'{{"x": {number}}}') == to_json(oracle, "%s::float8", number)


def test_an_int8_in_a_string_is_taken_for_clients_without_long_integers(desk: Desk) -> None:
    assert desk.value(echo("int8"), '{"x": "9007199254740993"}') == "9007199254740993"
    assert desk.value(echo("int8"), '{"x": "9007199254740993"}', bigint_as_string=True) == '"9007199254740993"'


def test_declared_modifiers_are_left_to_the_column(desk: Desk) -> None:
    assert desk.value(echo("numeric(4,1)"), '{"x": 12.345}') == "12.345"
    assert desk.value("-- name: q$\nSELECT :x::numeric(4,1)", '{"x": 12.345}') == "12.3"


def test_a_record_without_a_name_is_an_object(desk: Desk) -> None:
    assert desk.value("SELECT ROW(1, 'a') AS r") == '{"r":{"f1":1,"f2":"a"}}'
    assert desk.value("-- name: q$\nSELECT ROW(1, NULL)") == '{"f1":1,"f2":null}'


def test_the_last_of_duplicate_keys_wins(desk: Desk) -> None:
    assert desk.value(echo("int4"), '{"x": 1, "x": 2}') == "2"


def test_a_composite_may_leave_fields_out(desk: Desk) -> None:
    pair = '"Odd Place".pair'
    assert desk.value(echo(pair), '{"x": {"number": 1}}') == '{"number":1,"Some Text":null}'
    assert desk.value(echo(pair), '{"x": {}}') == '{"number":null,"Some Text":null}'


# Everything below must be refused with a GatewayError, and leave the connection as it was.

LONG = "1" + "0" * 5000
DEEP_LIST = "[" * 40 + "]" * 40
BAD_JSON = [
    ("bool", ["1", '"true"', "[]"]),
    ("int2", ["32768", "-32769", "1.0", '"1"', "1e1", LONG, "true", "[1]", "{}"]),
    ("int4", ["2147483648", "-2147483649", "1.5", LONG, "0.0", '"x"']),
    ("int8", ["9223372036854775808", "-9223372036854775809", LONG, '"0x10"', '"1_000"', '"1.0"']),
    ("float4", ["1e39", "-1e39", "1e-50", '"x"', '"nan"', "true", LONG]),
    ("float8", ["1e309", "1e999999999", "1e-400", '"1"', "[]", LONG]),
    ("numeric", ["1e999999999", "1e131073", '"x"', '"1e"', "{}", "-1e999999999999999999", '"0x1F"']),
    ("text", ["1", "null_", '"\\u0000"', '"\\ud800"', '"\\udc00x"', "[]"]),
    ("name", ["1"]),
    ("bytea", ['"\\\\x0"', '"\\\\xzz"', '"a\\\\"', "1"]),
    ("uuid", ['"x"', '"00000000-0000-0000-0000-00000000000"', "1"]),
    ("date", ['"2026-02-30"', '"x"', '"5874898-01-01"', "{}", '""']),
    ("time", ['"25:00"', "1.5"]),
    ("timestamp", ['"294277-01-01"', '"someday"']),
    ("timestamptz", ['"2026-01-01 Nowhere/City"', "true", "{}"]),
    ("interval", ['"1 fortnight"', '"999999999999 years"', "[]"]),
    ("json", ['"\\u0000"', '"\\ud800"', "{'a':1}", "[" * 70 + "]" * 70]),
    ("jsonb", ["1e131073", '"\\u0000"']),
    ('"Odd Place".mood', ['"glad"', '"SAD"', "1", "{}"]),
    ('"Odd Place".positive', ["0", "-1", "2147483648"]),
    ('"Odd Place".short', ['"' + "x" * 21 + '"']),
    (
        '"Odd Place".pair',
        ['{"number": 2147483648}', '{"no": 1}', '"(1,a)"', '{"number": "x"}', '{"number": 1.5}', "[1]"],
    ),
    (
        '"Odd Place".nest',
        ['{"many": [{"number": 1.5}]}', '{"mood": "glad"}', '{"one": []}', '{"amounts": [[1],[2,3]]}'],
    ),
    (
        "int4[]",
        ["[1.5]", "[[1],[2,3]]", "[1,[2]]", "[[1],2]", DEEP_LIST, "[2147483648]", "1", '"{1}"', "[[[[[[[1]]]]]]]"],
    ),
    ("date[]", ['["2026-02-30"]', '[["2026-01-01"],["x"]]']),
    ("int4range", ['"[5,1]"', '"[1"', '"[1,99999999999)"', "1"]),
    ("nummultirange", ['"{[1,2)"', '"[1,2)"']),
    ("inet", ['"10.0.0.256"', "true"]),
    ("cidr", ['"10.0.0.1/8"']),
    ("macaddr", ['"08:00:2b:01:02"']),
    ("money", ['"x"', "92233720368547758.08"]),
    ("bit", ['"012"']),
    ("point", ['"(1,2"', "1"]),
    ("tsquery", ['"a &"', '"&"']),
    ("tsvector", ['"\'a"']),
    ("oid", ["4294967296", '"x"']),
    ("regclass", ['"no_such_table"', '"a.b.c.d.e"']),
    ("pg_lsn", ['"x/y"']),
    ("jsonpath", ['"$["']),
]


@pytest.mark.parametrize(
    ("type_", "value"),
    [pytest.param(type_, value, id=f"{type_}-{value[:20]}") for type_, bad in BAD_JSON for value in bad],
)
def test_what_is_no_value_of_the_type_is_refused_by_name_and_costs_no_connection(
    type_: str, value: str, desk: Desk
) -> None:
    with pytest.raises(GatewayError) as caught:
        desk.value(echo(type_), f'{{"x": {value}}}')
    error = caught.value
    assert isinstance(error, InvalidArguments | InvalidJSON), error
    if isinstance(error, InvalidArguments):
        assert [fault.parameter for fault in error.faults] == ["x"], error.faults
    assert error.outcome is None
    assert desk.connection.is_usable()
    assert desk.value(echo("int4"), '{"x": 1}') == "1"


def test_every_fault_the_gateway_finds_is_told_at_once(desk: Desk) -> None:
    text = "-- name: q$\n-- @param a int4\n-- @param b uuid\n-- @param c text[]\nSELECT :a, :b, :c, :d::date"
    with pytest.raises(InvalidArguments) as caught:
        desk.run(text, '{"a": 1.5, "b": "x", "c": [1], "e": 5}')
    assert [fault.parameter for fault in caught.value.faults] == ["a", "b", "c", "d", "e"]


def test_every_fault_the_server_finds_is_told_at_once(desk: Desk) -> None:
    types = {"a": "date", "b": "inet", "c": "int4range", "d": "text"}
    declared = "".join(f"-- @param {name} {type_}\n" for name, type_ in types.items())
    text = f"-- name: q$\n{declared}SELECT :a, :b, :c, :d"
    with pytest.raises(InvalidArguments) as caught:
        desk.run(text, '{"a": "2026-02-30", "b": "x", "c": "[2,1]", "d": "fine"}')
    assert [fault.parameter for fault in caught.value.faults] == ["a", "b", "c"]
    assert "2026-02-30" not in str(caught.value.faults) + caught.value.detail
    assert desk.connection.is_usable()


def test_every_fault_of_a_calls_arguments_is_told_at_once(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute("CREATE PROCEDURE three(a date, b inet, c text) LANGUAGE sql AS ''")
    with pytest.raises(InvalidArguments) as caught:
        desk.run("-- name: q!\nCALL three(:a, :b, :c)", '{"a": "2026-02-30", "b": "x", "c": "fine"}')
    assert [fault.parameter for fault in caught.value.faults] == ["a", "b"]
    assert caught.value.outcome == "rolled_back"
    assert desk.connection.settle(soon())


TEXT_FORMS = [
    ("bool", ["t"], "true"),
    ("int4", ["7"], "7"),
    ("int8", ["-9223372036854775808"], "-9223372036854775808"),
    ("float8", ["1e3"], "1000"),
    ("numeric", ["1.500"], "1.500"),
    ("numeric", ["NaN"], '"NaN"'),
    ("text", [""], '""'),
    ("text", ["null"], '"null"'),
    ("text", ["{a}"], '"{a}"'),
    ("date", ["2026-11-23"], '"2026-11-23"'),
    ("interval", ["1 day -2 hours"], '"1 day -02:00:00"'),
    ("timestamptz", ["2026-11-23T10:00:00+02:00"], '"2026-11-23T08:00:00+00:00"'),
    ("jsonb", ['{"a": [1.50]}'], '{"a": [1.50]}'),
    ("bytea", ["\\xff"], '"\\\\xff"'),
    ('"Odd Place".mood', ["so-so"], '"so-so"'),
    ('"Odd Place".pair', ['(1,"a b")'], '{"number":1,"Some Text":"a b"}'),
    ("int4[]", ["1", "2"], "[1,2]"),
    ("int4[]", ["{1,NULL,3}"], "[1,null,3]"),
    ("int4[]", ["{{1,2},{3,4}}"], "[[1,2],[3,4]]"),
    ("int4[]", ["{}"], "[]"),
    ("text[]", ['{a,"b,c",NULL,"NULL"}'], '["a","b,c",null,"NULL"]'),
    ("text[]", ["a,b", "{", '"'], '["a,b","{","\\""]'),
    ('"Odd Place".pair[]', ["(1,a)", "(2,)"], '[{"number":1,"Some Text":"a"},{"number":2,"Some Text":null}]'),
    ("box[]", ["{(1,1),(0,0);(2,2),(0,0)}"], '["(1,1),(0,0)","(2,2),(0,0)"]'),
    ("int4range", ["[1,5]"], '"[1,6)"'),
    ("inet", ["10.0.0.1/8"], '"10.0.0.1/8"'),
]


@pytest.mark.parametrize(("type_", "texts", "expected"), TEXT_FORMS)
def test_a_query_string_gives_values_in_postgresqls_own_form(
    type_: str, texts: list[str], expected: str, desk: Desk
) -> None:
    assert desk.get(echo(type_), {"x": texts}).text.decode() == expected


BAD_TEXTS = [
    ("bool", ["maybe"]),
    ("int4", ["1.5"]),
    ("int4", ["1", "2"]),
    ("int4", ["0x10"]),
    ("int8", [LONG]),
    ("numeric", ["1e999999999"]),
    ("text", ["a\0b"]),
    ("text", ["\ud800"]),
    ("json", ["{"]),
    ("date", ["2026-02-30"]),
    ("uuid", [""]),
    ("int4[]", ["{1,x}"]),
    ("int4[]", ["{1"]),
    ("int4[]", ["{{1},{2,3}}"]),
    ("int4[]", ["{" * 7 + "1" + "}" * 7]),
    ('"Odd Place".pair', ["(1"]),
    ('"Odd Place".pair', ["(x,y)"]),
    ('"Odd Place".pair[]', ["(1,a)", "(2"]),
    ('"Odd Place".mood', ["glad"]),
]


@pytest.mark.parametrize(("type_", "texts"), BAD_TEXTS)
def test_what_a_query_string_has_wrong_is_refused_by_name(type_: str, texts: list[str], desk: Desk) -> None:
    with pytest.raises(InvalidArguments) as caught:
        desk.get(echo(type_), {"x": texts})
    assert [fault.parameter for fault in caught.value.faults] == ["x"]
    assert desk.connection.is_usable()
