"""A query string's texts become the same literals as JSON values do."""

from typing import Any

import pytest

from gateway.catalogue.arguments import Binder
from gateway.catalogue.query import Parameter
from gateway.catalogue.types import Family, Type
from gateway.errors import ArgumentFault, InvalidArguments


def scalar(name: str, family: Family, **more: Any) -> Type:
    return Type(name=name, sql=f"pg_catalog.{name}", family=family, **more)


def array(element: Type) -> Type:
    return scalar(f"{element.name}[]", Family.ARRAY, element=element)


INT4 = scalar("integer", Family.INTEGER, size=4)
FLOAT8 = scalar("double precision", Family.FLOAT)
NUMERIC = scalar("numeric", Family.NUMERIC)
BOOL = scalar("boolean", Family.BOOL)
TEXT = scalar("text", Family.TEXT)
UUID = scalar("uuid", Family.UUID)
BYTEA = scalar("bytea", Family.BYTEA)
JSONB = scalar("jsonb", Family.JSON)
MOOD = scalar("mood", Family.ENUM, labels=("sad", "ok"))
DATE = scalar("date", Family.OTHER)
BOX = scalar("box", Family.OTHER, delimiter=";")
POINT = scalar("spot", Family.COMPOSITE, fields=(("x", INT4), ("note", TEXT)))
INTS = Type(name="ints", sql="public.ints", family=Family.ARRAY, element=INT4)


def bind(type_: Type, *texts: str, **constraints: Any) -> str:
    (bound,) = Binder([Parameter("p", constraints=constraints)], [type_]).bind_text({"p": texts})
    return bound


def refusal(type_: Type, *texts: str, **constraints: Any) -> str:
    with pytest.raises(InvalidArguments) as caught:
        bind(type_, *texts, **constraints)
    (fault,) = caught.value.faults
    return fault.message


@pytest.mark.parametrize(
    ("type_", "texts", "written"),
    [
        (INT4, ["-7"], "'-7'"),
        (FLOAT8, ["1e+20"], "'1e+20'"),
        (FLOAT8, ["-Infinity"], "'-Infinity'"),
        (NUMERIC, ["1.50"], "'1.50'"),
        (NUMERIC, ["NaN"], "'NaN'"),
        (BOOL, ["t"], "'true'"),
        (BOOL, ["Off"], "'false'"),
        (TEXT, [""], "''"),
        (TEXT, ['"quoted" \\ it\'s'], "E'\"quoted\" \\\\ it''s'"),
        (TEXT, ["null"], "'null'"),
        (TEXT, ["é😀\n"], "'é😀\n'"),
        (UUID, ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"], "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
        (BYTEA, ["\\xff"], "E'\\\\xff'"),
        (MOOD, ["ok"], "'ok'"),
        (DATE, ["2026-01-31"], "'2026-01-31'"),
        (JSONB, ['{"a": [1.0]}'], "'{\"a\": [1.0]}'"),
        (JSONB, ["null"], "NULL"),
        (POINT, ["(1,it's)"], "'(1,it''s)'"),
        (array(INT4), ["{1,NULL}"], "'{1,NULL}'"),
        (array(INT4), ["[2:3]={1,2}"], "'[2:3]={1,2}'"),
        (array(INT4), ["1", "2"], '\'{"1","2"}\''),
        (array(INT4), ["1"], "'{\"1\"}'"),
        (array(TEXT), ["{a}", "NULL"], '\'{"{a}","NULL"}\''),
        (array(BOX), ["(1,1),(0,0)", "(2,2),(0,0)"], '\'{"(1,1),(0,0)";"(2,2),(0,0)"}\''),
        (array(JSONB), ['{"a":1}', "[1]"], 'E\'{"{\\\\"a\\\\":1}","[1]"}\''),
        (array(POINT), ['(1,"a b")', "(2,)"], 'E\'{"(1,\\\\"a b\\\\")","(2,)"}\''),
        (array(INTS), ["{1,2}", "{3}"], 'E\'{"{\\\\"1\\\\",\\\\"2\\\\"}","{\\\\"3\\\\"}"}\''),
    ],
)
def test_text_in_the_types_own_form_becomes_a_literal(type_: Type, texts: list[str], written: str) -> None:
    assert bind(type_, *texts) == written


@pytest.mark.parametrize(
    ("type_", "texts", "message"),
    [
        (INT4, ["1.0"], "must be an integer"),
        (INT4, [""], "must be an integer"),
        (INT4, ["null"], "must be an integer"),
        (INT4, ["1_0"], "must be an integer"),
        (INT4, ["9" * 5000], "must be an integer between -2147483648 and 2147483647"),
        (INT4, ["1", "2"], "must be given once"),
        (POINT, ["(1,)", "(2,)"], "must be given once"),
        (NUMERIC, ["ten"], 'must be a number, "NaN", "Infinity" or "-Infinity"'),
        (BOOL, ["maybe"], "must be true or false"),
        (TEXT, ["a\0b"], "must not contain NUL"),
        (TEXT, ["\ud800"], "must be valid UTF-8"),
        (POINT, ["(\0)"], "must not contain NUL"),
        (array(TEXT), ["{\ud800}"], "must be valid UTF-8"),
        (array(POINT), ["(1,)", "\0"], "must not contain NUL"),
        (MOOD, ["happy"], 'must be one of "sad", "ok"'),
        (JSONB, ["{a}"], "must be JSON: expected '\"' (byte 1)"),
        (JSONB, ["[" * 65 + "]" * 65], "must be JSON: nested more than 64 levels deep"),
        (JSONB, ['"\\u0000"'], "must be JSON: NUL (\\u0000) is no text (byte 1)"),
        (array(INT4), ["1", "x"], "at [1]: must be an integer"),
        (array(INT4), ["{1}", "{2}"], "at [0]: must be an integer"),
    ],
)
def test_text_that_does_not_fit_is_refused_in_words(type_: Type, texts: list[str], message: str) -> None:
    assert refusal(type_, *texts) == message


def test_constraints_hold_for_text_too() -> None:
    assert bind(INT4, "5", maximum=5) == "'5'"
    assert refusal(INT4, "6", maximum=5) == "must be at most 5"
    assert refusal(NUMERIC, "Infinity", maximum=5) == "must be at most 5"
    assert refusal(TEXT, "abc", maxLength=2) == "must have at most 2 characters"
    assert refusal(array(INT4), "1", "2", "3", maxLength=2) == "must have at most 2 elements"
    assert refusal(POINT, "(1,)", enum=[{"x": 1}]).startswith("must be sent by POST")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("{}", "'{}'"),
        (" { } ", "'{}'"),
        ("{a,b}", '\'{"a","b"}\''),
        ('{ a b , "c,}" }', '\'{"a b","c,}"}\''),
        ('{null,"null",\\null}', '\'{NULL,"null","null"}\''),
        ('{"q\\"\\\\",x\\,y}', 'E\'{"q\\\\"\\\\\\\\","x,y"}\''),
        ("[0:1]={a,b}", '\'{"a","b"}\''),
        ("{{a},{b}}", '\'{{"a"},{"b"}}\''),
    ],
)
def test_a_whole_array_is_read_where_constraints_must_see_into_it(text: str, written: str) -> None:
    assert bind(array(TEXT), text, maxLength=3) == written


def test_a_whole_array_hides_nothing_from_its_constraints() -> None:
    assert refusal(array(INT4), "{1,2,3}", maxLength=2) == "must have at most 2 elements"
    assert refusal(array(INT4), "[5:7]={1,2,3}", maxLength=2) == "must have at most 2 elements"
    assert refusal(array(INT4), "{2,1}", enum=[[1, 2]]) == "must be one of [1,2]"


@pytest.mark.parametrize(
    "text",
    ["{", "{a", "{a,}", "{,a}", "{a}b", "{a}{b}", "{a b{c}}", '{"a"b}', '{a"b"}', '{"a}', "{a}}", "{\\", "{" * 3000],
)
def test_a_malformed_array_is_refused_where_constraints_must_see_into_it(text: str) -> None:
    assert refusal(array(TEXT), text, maxLength=3) == "must be an array as PostgreSQL reads text[]"


def test_every_fault_is_reported_at_once() -> None:
    binder = Binder([Parameter("ids"), Parameter("on"), Parameter("at", default="null")], [array(INT4), BOOL, DATE])
    with pytest.raises(InvalidArguments) as caught:
        binder.bind_text({"ids": ["1", "x"], "att": ["2026-01-31"]})
    assert caught.value.faults == (
        ArgumentFault("ids", "at [1]: must be an integer"),
        ArgumentFault("on", "is required"),
        ArgumentFault("att", "is not a parameter of this query (did you mean at?)"),
    )
