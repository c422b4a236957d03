"""JSON values become literals of their parameter's type, or faults in words."""

import json
from typing import Any

import pytest

from gateway.catalogue.arguments import Binder, literal
from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.errors import ArgumentFault, InvalidArguments


def scalar(name: str, family: Family, **more: Any) -> Type:
    return Type(name=name, sql=f"pg_catalog.{name}", family=family, **more)


def array(element: Type) -> Type:
    return scalar(f"{element.name}[]", Family.ARRAY, element=element)


INT2 = scalar("smallint", Family.INTEGER, size=2)
INT4 = scalar("integer", Family.INTEGER, size=4)
INT8 = scalar("bigint", Family.INTEGER, size=8)
FLOAT8 = scalar("double precision", Family.FLOAT)
NUMERIC = scalar("numeric", Family.NUMERIC)
BOOL = scalar("boolean", Family.BOOL)
TEXT = scalar("text", Family.TEXT)
UUID = scalar("uuid", Family.UUID)
BYTEA = scalar("bytea", Family.BYTEA)
JSONB = scalar("jsonb", Family.JSON)
MOOD = scalar("mood", Family.ENUM, labels=("sad", "ok", 'so "so"'))
DATE = scalar("date", Family.OTHER)
BOX = scalar("box", Family.OTHER, delimiter=";")
POINT = scalar("spot", Family.COMPOSITE, fields=(("x", INT4), ("note", TEXT)))
LINE = scalar("path", Family.COMPOSITE, fields=(("from", POINT), ("tags", array(TEXT)), ("mood", MOOD)))
INTS = Type(name="ints", sql="public.ints", family=Family.ARRAY, element=INT4)


def bind(type_: Type, text: str, **constraints: Any) -> str:
    binder = Binder([Parameter("p", constraints=constraints)], [type_])
    (bound,) = binder.bind_json(split_object(f'{{"p": {text} }}'.encode()))
    return bound


def refusal(type_: Type, text: str, **constraints: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        bind(type_, text, **constraints)
    (fault,) = caught.value.faults
    assert fault.parameter == "p"
    return fault.message


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", "''"),
        ("it's", "'it''s'"),
        ("''", "''''''"),
        ("a\\b", "E'a\\\\b'"),
        ("\\'", "E'\\\\'''"),
        ("\\", "E'\\\\'"),
        ("%s $1 ; -- \n é😀", "'%s $1 ; -- \n é😀'"),
    ],
)
def test_a_literal_doubles_quotes_and_backslashes(text: str, written: str) -> None:
    assert literal(text) == written


@pytest.mark.parametrize(
    "type_",
    [INT4, INT8, FLOAT8, NUMERIC, BOOL, TEXT, UUID, BYTEA, JSONB, MOOD, DATE, POINT, array(INT4), array(JSONB), INTS],
    ids=lambda type_: str(type_.name),
)
def test_null_is_sql_null_for_every_family_whatever_the_constraints(type_: Type) -> None:
    assert bind(type_, "null") == "NULL"
    assert bind(type_, "null", enum=["never"]) == "NULL"


@pytest.mark.parametrize(
    ("type_", "text", "written"),
    [
        (INT4, "0", "'0'"),
        (INT4, "-0", "'0'"),
        (INT2, "32767", "'32767'"),
        (INT2, "-32768", "'-32768'"),
        (INT4, "2147483647", "'2147483647'"),
        (INT4, "-2147483648", "'-2147483648'"),
        (INT8, "9223372036854775807", "'9223372036854775807'"),
        (INT8, "-9223372036854775808", "'-9223372036854775808'"),
        (INT8, '"9007199254740993"', "'9007199254740993'"),
        (INT8, '"-9223372036854775808"', "'-9223372036854775808'"),
        (FLOAT8, "1", "'1'"),
        (FLOAT8, "-0.0", "'-0.0'"),
        (FLOAT8, "1E+400", "'1E+400'"),
        (FLOAT8, "0.1000000000000000055511151231257827", "'0.1000000000000000055511151231257827'"),
        (FLOAT8, '"NaN"', "'NaN'"),
        (FLOAT8, '"-Infinity"', "'-Infinity'"),
        (NUMERIC, "1.50", "'1.50'"),
        (NUMERIC, "9" * 10_000, f"'{'9' * 10_000}'"),
        (NUMERIC, "0." + "3" * 10_000, f"'0.{'3' * 10_000}'"),
        (NUMERIC, "1e999999999999", "'1e999999999999'"),
        (NUMERIC, '"12345678901234567890.10"', "'12345678901234567890.10'"),
        (NUMERIC, '"Infinity"', "'Infinity'"),
        (BOOL, "true", "'true'"),
        (BOOL, "false", "'false'"),
        (TEXT, '""', "''"),
        (TEXT, '"it\'s"', "'it''s'"),
        (TEXT, '"\\u0061\\\\\\/\\n\\ud83d\\ude00"', "E'a\\\\/\n😀'"),
        (TEXT, '"null"', "'null'"),
        (UUID, '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"),
        (UUID, '"{a0eebc999c0b4ef8bb6d6bb9bd380a11}"', "'{a0eebc999c0b4ef8bb6d6bb9bd380a11}'"),
        (UUID, '"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11"', "'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'"),
        (BYTEA, '"\\\\xDEADbeef"', "E'\\\\xDEADbeef'"),
        (BYTEA, '"\\\\x"', "E'\\\\x'"),
        (BYTEA, '"abc\\\\000"', "E'abc\\\\000'"),
        (JSONB, '{"a" : [1.0, "\\u00e9\'"] }', "E'{\"a\" : [1.0, \"\\\\u00e9''\"] }'"),
        (JSONB, '"text"', "'\"text\"'"),
        (JSONB, "12345678901234567890.0000", "'12345678901234567890.0000'"),
        (MOOD, '"so \\"so\\""', "'so \"so\"'"),
        (DATE, '"2026-01-31"', "'2026-01-31'"),
        (DATE, "20260131", "'20260131'"),
        (DATE, "true", "'true'"),
        (array(INT4), "[]", "'{}'"),
        (array(INT4), "[1, null, -3]", '\'{"1",NULL,"-3"}\''),
        (array(INT4), "[[1,2],[3,4]]", '\'{{"1","2"},{"3","4"}}\''),
        (array(INT4), "[[],[]]", "'{}'"),
        (array(INT4), "[[[[[[7]]]]]]", "'{{{{{{\"7\"}}}}}}'"),
        (array(INT8), '["9007199254740993", 1]', '\'{"9007199254740993","1"}\''),
        (array(TEXT), '["a,b", "NULL", "", "q\\"\\\\", "{}"]', 'E\'{"a,b","NULL","","q\\\\"\\\\\\\\","{}"}\''),
        (array(BOX), '["(1,1),(0,0)", "(2,2),(0,0)"]', '\'{"(1,1),(0,0)";"(2,2),(0,0)"}\''),
        (array(JSONB), '[[1,2], {"a":null}, null]', 'E\'{"[1,2]","{\\\\"a\\\\":null}",NULL}\''),
        (array(INTS), "[[1,2],[3],[]]", 'E\'{"{\\\\"1\\\\",\\\\"2\\\\"}","{\\\\"3\\\\"}","{}"}\''),
        (array(MOOD), '["ok"]', "'{\"ok\"}'"),
        (POINT, '{"x": 1, "note": "a\\"b\\\\"}', 'E\'("1","a""b\\\\\\\\")\''),
        (POINT, '{"note": ""}', "'(,\"\")'"),
        (POINT, "{}", "'(,)'"),
        (POINT, '{"x": null, "note": "null"}', "'(,\"null\")'"),
        (LINE, '{"from": {"x": 1}, "tags": ["t"]}', '\'("(""1"",)","{""t""}",)\''),
        (array(POINT), '[{"x": 1}, null]', 'E\'{"(\\\\"1\\\\",)",NULL}\''),
    ],
)
def test_a_value_of_its_family_becomes_one_quoted_literal(type_: Type, text: str, written: str) -> None:
    assert bind(type_, text) == written


WORDS = 'must be a number, "NaN", "Infinity" or "-Infinity"'
INTEGER_BOUNDS = "must be an integer between -2147483648 and 2147483647"


@pytest.mark.parametrize(
    ("type_", "text", "message"),
    [
        (INT4, "1.0", "must be an integer"),
        (INT4, "1e3", "must be an integer"),
        (INT4, "1e400", "must be an integer"),
        (INT4, '"1"', "must be an integer"),
        (INT4, "true", "must be an integer"),
        (INT4, "[1]", "must be an integer"),
        (INT4, "2147483648", INTEGER_BOUNDS),
        (INT4, "9" * 30, INTEGER_BOUNDS),
        (INT4, "-" + "9" * 5000, INTEGER_BOUNDS),
        (INT2, "32768", "must be an integer between -32768 and 32767"),
        (INT8, "9223372036854775808", "must be an integer between -9223372036854775808 and 9223372036854775807"),
        (INT8, f'"{"9" * 5000}"', "must be an integer between -9223372036854775808 and 9223372036854775807"),
        (INT8, '"1.0"', "must be an integer"),
        (INT8, '" 1"', "must be an integer"),
        (INT8, '"1_0"', "must be an integer"),
        (INT8, '"٣"', "must be an integer"),
        (INT8, '""', "must be an integer"),
        (FLOAT8, '"1"', WORDS),
        (FLOAT8, '"nan"', WORDS),
        (FLOAT8, "true", WORDS),
        (NUMERIC, '"1,5"', WORDS),
        (NUMERIC, '"0x10"', WORDS),
        (NUMERIC, "[1]", WORDS),
        (BOOL, "1", "must be true or false"),
        (BOOL, '"true"', "must be true or false"),
        (TEXT, "1", "must be a string"),
        (TEXT, "{}", "must be a string"),
        (UUID, '"a0eebc99"', "must be a UUID in a string"),
        (UUID, '"{a0eebc999c0b4ef8bb6d6bb9bd380a11"', "must be a UUID in a string"),
        (UUID, "1", "must be a UUID in a string"),
        (BYTEA, '"\\\\xabc"', "must have pairs of hexadecimal digits after \\x"),
        (BYTEA, '"\\\\xzz"', "must have pairs of hexadecimal digits after \\x"),
        (BYTEA, "[1]", "must be a string"),
        (MOOD, '"happy"', 'must be one of "sad", "ok", "so \\"so\\""'),
        (MOOD, "1", 'must be one of "sad", "ok", "so \\"so\\""'),
        (DATE, "{}", "must be a string as PostgreSQL reads date"),
        (DATE, '["2026-01-01"]', "must be a string as PostgreSQL reads date"),
        (array(INT4), '"{1,2}"', "must be a list"),
        (array(INT4), "{}", "must be a list"),
        (array(INT4), '[1, "2"]', "at [1]: must be an integer"),
        (array(INT4), "[1, [2]]", "at [1]: must be an integer"),
        (array(INT4), "[[1], 2]", "at [1]: must be a list"),
        (array(INT4), "[[1], null]", "at [1]: must be a list"),
        (array(INT4), "[[1, 2], [3]]", "must have lists of the same length at every level"),
        (array(INT4), "[[1], []]", "must have lists of the same length at every level"),
        (array(INT4), "[[1], [[2]]]", "must have lists of the same length at every level"),
        (array(INT4), "[[[1]], [2]]", "must have lists of the same length at every level"),
        (array(INT4), "[[[[[[[7]]]]]]]", "at [0][0][0][0][0]: must have at most 6 dimensions"),
        (array(POINT), '[{"x": "a"}]', "at [0].x: must be an integer"),
        (array(INTS), '[[1], ["a"]]', "at [1][0]: must be an integer"),
        (POINT, "[1, 2]", "must be an object with the fields of spot"),
        (POINT, '"(1,2)"', "must be an object with the fields of spot"),
        (POINT, '{"nota": "a"}', "has no field nota (did you mean note?)"),
        (LINE, '{"from": {"x": 1.5}}', "at .from.x: must be an integer"),
        (LINE, '{"tags": ["a", 1]}', "at .tags[1]: must be a string"),
    ],
)
def test_a_value_of_another_kind_is_refused_in_words(type_: Type, text: str, message: str) -> None:
    assert refusal(type_, text) == message


def test_only_the_first_ten_of_many_labels_are_listed() -> None:
    letters = scalar("letter", Family.ENUM, labels=tuple("abcdefghijkl"))
    listed = ", ".join(f'"{letter}"' for letter in "abcdefghij")
    assert refusal(letters, '"z"') == f"must be one of {listed} … (12 in all)"


@pytest.mark.parametrize(
    ("type_", "text", "constraints"),
    [
        (INT4, "1", {"minimum": 1, "maximum": 1}),
        (INT4, "1", {"minimum": 0.5}),
        (INT4, "2", {"maximum": 10**1000}),
        (INT8, '"9007199254740993"', {"minimum": 9007199254740993}),
        (NUMERIC, "0.1", {"minimum": 0.1, "maximum": 0.1}),
        (NUMERIC, "1e999999999999", {"minimum": 5}),
        (NUMERIC, '"Infinity"', {"minimum": 5}),
        (NUMERIC, "1.0", {"enum": [1]}),
        (NUMERIC, '"1.0"', {"enum": [1]}),
        (FLOAT8, '"NaN"', {"enum": ["NaN"]}),
        (TEXT, '"\\ud83d\\ude00"', {"minLength": 1, "maxLength": 1}),
        (TEXT, '"xay"', {"pattern": "a"}),
        (TEXT, '"\\u0061"', {"enum": ["a", None]}),
        (BOOL, "true", {"enum": [True]}),
        (array(INT4), "[1,2]", {"minLength": 2, "maxLength": 2}),
        (array(INT4), "[1, 2]", {"enum": [[1, 2]]}),
        (JSONB, '{"b":[1.0],"a":2}', {"enum": [{"a": 2, "b": [1]}]}),
        (JSONB, "[1,2,3]", {"maxLength": 3, "minimum": 9, "pattern": "z"}),
        (JSONB, '"abc"', {"maxLength": 3, "minimum": 9}),
        (POINT, '{"x":1}', {"enum": [{"x": 1}]}),
        (DATE, "20260131", {"pattern": "^[0-9]{8}$"}),
    ],
)
def test_a_value_within_its_constraints_is_let_through(type_: Type, text: str, constraints: dict[str, Any]) -> None:
    assert bind(type_, text, **constraints) != "NULL"


@pytest.mark.parametrize(
    ("type_", "text", "constraints", "message"),
    [
        (INT4, "0", {"minimum": 1}, "must be at least 1"),
        (INT4, "501", {"maximum": 500}, "must be at most 500"),
        (INT8, "9007199254740993", {"maximum": 9007199254740992}, "must be at most 9007199254740992"),
        (NUMERIC, "0.1000000000000000000000000000000000000001", {"maximum": 0.1}, "must be at most 0.1"),
        (NUMERIC, "1e999999999999", {"maximum": 5}, "must be at most 5"),
        (NUMERIC, "-1e99999999999999999999999", {"minimum": 5}, "must be at least 5"),
        (NUMERIC, "9" * 10_000, {"maximum": 5}, "must be at most 5"),
        (NUMERIC, '"9"', {"maximum": 5}, "must be at most 5"),
        (NUMERIC, '"Infinity"', {"maximum": 5}, "must be at most 5"),
        (FLOAT8, '"NaN"', {"minimum": 5}, "must be at least 5"),
        (FLOAT8, '"NaN"', {"maximum": 5}, "must be at most 5"),
        (DATE, '"infinity"', {"maximum": 5}, "must be at most 5"),
        (TEXT, '""', {"minLength": 1}, "must have at least 1 character"),
        (TEXT, '"abc"', {"maxLength": 2}, "must have at most 2 characters"),
        (TEXT, '"abc"', {"pattern": "^b"}, "must match ^b"),
        (TEXT, '"1"', {"enum": [1, "a"]}, 'must be one of 1, "a"'),
        (BOOL, "true", {"enum": [1, False]}, "must be one of 1, false"),
        (INT4, "1", {"enum": [True, 2]}, "must be one of true, 2"),
        (NUMERIC, "1e99999999999999999999", {"enum": [1]}, "must be one of 1"),
        (array(INT4), "[1,2]", {"maxLength": 1}, "must have at most 1 element"),
        (array(INT4), "[1,2]", {"enum": [[2, 1]]}, "must be one of [2,1]"),
        (JSONB, "[1,2]", {"maxLength": 1}, "must have at most 1 element"),
        (JSONB, '"ab"', {"maxLength": 1}, "must have at most 1 character"),
        (JSONB, '"ab"', {"pattern": "c"}, "must match c"),
        (JSONB, "8", {"minimum": 9}, "must be at least 9"),
        (JSONB, '{"a":1}', {"enum": [{"a": True}]}, 'must be one of {"a":true}'),
        (DATE, "20260131", {"pattern": "-"}, "must match -"),
    ],
)
def test_a_value_outside_its_constraints_is_refused_in_words(
    type_: Type, text: str, constraints: dict[str, Any], message: str
) -> None:
    assert refusal(type_, text, **constraints) == message


@pytest.mark.parametrize(
    ("type_", "constraints", "sentence"),
    [
        (TEXT, {"minimum": 1}, "minimum does not apply to text"),
        (INT4, {"maxLength": 1}, "maxLength does not apply to integer"),
        (array(TEXT), {"pattern": "a"}, "pattern does not apply to text[]"),
        (INT4, {"minimum": "1"}, "minimum must be a number"),
        (INT4, {"minimum": True}, "minimum must be a number"),
        (NUMERIC, {"maximum": float("inf")}, "maximum must be a number"),
        (TEXT, {"minLength": -1}, "minLength must be an integer from 0 up"),
        (TEXT, {"maxLength": 1.5}, "maxLength must be an integer from 0 up"),
        (TEXT, {"enum": []}, "enum must be a list with at least one value"),
        (TEXT, {"enum": "ab"}, "enum must be a list with at least one value"),
        (TEXT, {"unique": True}, "unique is no constraint"),
        (TEXT, {"pattern": "("}, "a ( is not closed"),
        (TEXT, {"pattern": 1}, "pattern must be a string"),
    ],
)
def test_a_constraint_that_means_nothing_is_the_authors_fault(
    type_: Type, constraints: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=r"^parameter p: ") as caught:
        Binder([Parameter("p", constraints=constraints)], [type_])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("type_", "default", "written"),
    [(INT4, "50", "'50'"), (INT4, " null ", "NULL"), (array(TEXT), '["a"]', "'{\"a\"}'")],
)
def test_a_default_takes_the_place_of_what_is_missing_but_not_of_null(type_: Type, default: str, written: str) -> None:
    binder = Binder([Parameter("p", default=default)], [type_])
    assert binder.bind_json({}) == [written]
    assert binder.bind_text({}) == [written]
    assert binder.bind_json(split_object(b'{"p":null}')) == ["NULL"]


@pytest.mark.parametrize(
    ("type_", "default", "sentence"),
    [
        (INT4, '"x"', "parameter p: the default must be an integer"),
        (INT4, "501", "parameter p: the default must be at most 500"),
        (INT4, "1,", "parameter p: the default is not JSON: goes on after its end"),
        (INT4, "", "parameter p: the default is not JSON: ends too early"),
    ],
)
def test_a_default_that_does_not_fit_is_the_authors_fault(type_: Type, default: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^parameter p: ") as caught:
        Binder([Parameter("p", default=default, constraints={"maximum": 500})], [type_])
    assert str(caught.value).startswith(sentence)


def test_literals_come_in_the_order_of_the_parameters() -> None:
    binder = Binder([Parameter("b"), Parameter("a", default="7"), Parameter("c")], [INT4, INT4, TEXT])
    assert binder.bind_json(split_object(b'{"c":"x","b":1}')) == ["'1'", "'7'", "'x'"]


def test_a_query_without_parameters_takes_none() -> None:
    binder = Binder([], [])
    assert binder.bind_json({}) == []
    with pytest.raises(InvalidArguments) as caught:
        binder.bind_json(split_object(b'{"a":1}'))
    assert caught.value.faults == (ArgumentFault("a", "is not a parameter of this query"),)


def test_every_fault_is_reported_at_once() -> None:
    binder = Binder(
        [
            Parameter("customer_id"),
            Parameter("max_rows", constraints={"maximum": 500}),
            Parameter("tags"),
            Parameter("on"),
        ],
        [INT4, INT4, array(TEXT), BOOL],
    )
    with pytest.raises(InvalidArguments) as caught:
        binder.bind_json(split_object(b'{"max_rows":501,"tags":["a",1],"customerid":1,"on":true,"zzz":null}'))
    assert caught.value.faults == (
        ArgumentFault("customer_id", "is required"),
        ArgumentFault("max_rows", "must be at most 500"),
        ArgumentFault("tags", "at [1]: must be a string"),
        ArgumentFault("customerid", "is not a parameter of this query (did you mean customer_id?)"),
        ArgumentFault("zzz", "is not a parameter of this query"),
    )
    assert caught.value.detail == (
        "customer_id is required; max_rows must be at most 500; tags at [1]: must be a string; and 2 more"
    )


def test_a_heap_of_unknown_names_gets_a_short_answer() -> None:
    binder = Binder([Parameter("a", default="1")], [INT4])
    body = json.dumps({"n" * 100_000: 1} | {f"name{n}": n for n in range(5_000)}).encode()
    with pytest.raises(InvalidArguments) as caught:
        binder.bind_json(split_object(body))
    assert len(caught.value.faults) == 21
    assert caught.value.faults[-1] == ArgumentFault(None, "4981 more names are not parameters of this query")
    assert len(str(caught.value.faults)) < 5_000
