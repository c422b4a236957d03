"""What ``@param`` lines say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.declarations import read_parameter
from gateway.catalogue.query import Parameter


def good(text: str) -> Parameter:
    parameter, faults = read_parameter(text)
    assert faults == []
    assert parameter is not None
    return parameter


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", Parameter("a")),
        ("a int4", Parameter("a", "int4")),
        ("a   timestamp  with time zone  ", Parameter("a", "timestamp  with time zone")),
        ("a numeric(10, 2)[] = 1.50", Parameter("a", "numeric(10, 2)[]", "1.50")),
        ("a numeric (10,2)", Parameter("a", "numeric (10,2)")),
        ('a shop."My = Type"', Parameter("a", 'shop."My = Type"')),
        ("a text[] = []", Parameter("a", "text[]", "[]")),
        ("a = null", Parameter("a", None, "null")),
        ("a =null", Parameter("a", None, "null")),
        ('a text = "x = 1 -- y" -- says what', Parameter("a", "text", '"x = 1 -- y"', {}, "says what")),
        ('a jsonb = {"k": [1, "minimum=3"]}', Parameter("a", "jsonb", '{"k": [1, "minimum=3"]}')),
        ("a -- only a description = 3", Parameter("a", None, None, {}, "only a description = 3")),
        ("a --x", Parameter("a", None, None, {}, "x")),
        ("a int4 = 5 minimum=1 maximum=9", Parameter("a", "int4", "5", {"minimum": 1, "maximum": 9})),
        ("a int4 minimum=1 = 5", Parameter("a", "int4", "5", {"minimum": 1})),
        ("a int4 minimum = 1 maximum = 9", Parameter("a", "int4", None, {"minimum": 1, "maximum": 9})),
        ('a pattern="^a b--c=\\\\d$"', Parameter("a", None, None, {"pattern": "^a b--c=\\d$"})),
        ("a text minLength=1 maxLength=3", Parameter("a", "text", None, {"minLength": 1, "maxLength": 3})),
        ('a enum=["x", 1, null, 0.5]', Parameter("a", None, None, {"enum": ["x", 1, None, 0.5]})),
        ("a numeric = 0.10000000000000000000000000001", Parameter("a", "numeric", "0.10000000000000000000000000001")),
        ("a numeric = 1e999999999", Parameter("a", "numeric", "1e999999999")),
        ("a minimum=0.1 = 0.1", Parameter("a", None, "0.1", {"minimum": 0.1})),
        ("a uuid from=claim:tenant_id", Parameter("a", "uuid", bound="claim:tenant_id")),
        (
            "a from=claim:https://x/y.z = null -- t",
            Parameter("a", None, "null", {}, "t", bound="claim:https://x/y.z"),
        ),
        ("a int4 from=key:t minimum=1", Parameter("a", "int4", None, {"minimum": 1}, bound="key:t")),
    ],
)
def test_lines_are_read(text: str, expected: Parameter) -> None:
    assert good(text) == expected


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["@param: names no parameter"]),
        (":a int4", ['@param: ":a" cannot be a parameter\'s name']),
        ("a int4;", ['@param a: cannot read the type "int4;"']),
        ("a from=tenant", ['@param a: from is claim:PATH or key:NAME, not "tenant"']),
        ("a from=claim:", ['@param a: from is claim:PATH or key:NAME, not "claim:"']),
        ("a from=key:a.b", ['@param a: from is claim:PATH or key:NAME, not "key:a.b"']),
        ("a from=claim:a from=claim:b", ["@param a: from is given twice"]),
        ("a int4 = ", ['@param a: no JSON value can be read from ""']),
        ("a int4 = five", ['@param a: no JSON value can be read from "five"']),
        ("a int4 = 5x", ['@param a: cannot read from "5x" on']),
        ("a = NaN", ['@param a: no JSON value can be read from "NaN"']),
        ("a = 5 = 6", ['@param a: cannot read from "= 6" on']),
        ("a = 5 int4", ['@param a: cannot read from "int4" on']),
        (f"a = {'[' * 5000}", [f'@param a: no JSON value can be read from "{"[" * 20}"']),
        (f"a = {'9' * 5000}", [f'@param a: no JSON value can be read from "{"9" * 20}"']),
        ("a = 1e99999999999999999999", ['@param a: no JSON value can be read from "1e999999999999999999"']),
        ("a minimum=1 minimum=2", ["@param a: minimum is given twice"]),
        ('a minimum="1"', ["@param a: minimum must be a number"]),
        ("a maximum=true", ["@param a: maximum must be a number"]),
        ("a maximum=1e999", ["@param a: maximum has a number with more digits than can be kept"]),
        ("a minimum=0.10000000000000000000001", ["@param a: minimum has a number with more digits than can be kept"]),
        ("a enum=[[0.10000000000000000000001]]", ["@param a: enum has a number with more digits than can be kept"]),
        ("a minLength=-1", ["@param a: minLength must be an integer from 0 up"]),
        ("a maxLength=1.5", ["@param a: maxLength must be an integer from 0 up"]),
        ("a enum=[]", ["@param a: enum must be a list with at least one value"]),
        ("a pattern=1", ["@param a: pattern must be a string"]),
        ("a minimum=2 maximum=1", ["@param a: minimum is greater than maximum"]),
        ("a minLength=2 maxLength=1", ["@param a: minLength is greater than maxLength"]),
        ("a = 0 minimum=1", ["@param a: the default must be at least 1"]),
        ("a = 0.1 maximum=0", ["@param a: the default must be at most 0"]),
        ('a = "" minLength=1', ["@param a: the default must have at least 1 character"]),
        ("a = [1, 2] maxLength=1", ["@param a: the default must have at most 1 element"]),
        ('a = "x" pattern="^y"', ["@param a: the default must match ^y"]),
        ("a = 1 enum=[true, 2]", ["@param a: the default must be one of true, 2"]),
        ('a = "\\u0000"', ["@param a: NUL (\\u0000) is no text (byte 1)"]),
        ('a enum=["\\ud800"]', ["@param a: half a surrogate pair is no text (byte 2)"]),
        (
            'a = {"k": [1]} enum=[{"k": [true]}, {"k": [1, 2]}, {"l": 1}]',
            ['@param a: the default must be one of {"k":[true]}, {"k":[1,2]}, {"l":1}'],
        ),
        (
            'a minimum="1" enum=[]',
            ["@param a: minimum must be a number", "@param a: enum must be a list with at least one value"],
        ),
    ],
)
def test_what_is_wrong_with_a_line_is_told(text: str, faults: list[str]) -> None:
    assert read_parameter(text) == (None, faults)


def test_an_unknown_key_and_a_pattern_say_what_they_want() -> None:
    _, (unknown,) = read_parameter("a int4=5")
    assert unknown.startswith("@param a: unknown key int4; there are minimum, ")
    _, (pattern,) = read_parameter('a pattern="("')
    assert pattern == "@param a: pattern ( cannot be used: a ( is not closed"


@pytest.mark.parametrize("default", ["null", "1", "1.0", "[1]", '{"k":[1.0]}', "true"])
def test_a_default_meets_constraints_as_json_has_it(default: str) -> None:
    assert good(f'a = {default} enum=[1, [1], {{"k": [1]}}, true]').default == default


def test_null_meets_every_constraint() -> None:
    good('a = null minimum=1 minLength=1 pattern="x" enum=[1]')


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
)


@given(JSON, st.text(alphabet="abc =-[]\"{}'"), st.booleans())
def test_any_default_is_kept_as_its_own_text(value: Any, description: str, ascii_only: bool) -> None:
    import json

    text = json.dumps(value, ensure_ascii=ascii_only)
    parameter = good(f"a some.type (1) = {text} -- {description}")
    assert (parameter.type, parameter.default) == ("some.type (1)", text)
    assert parameter.description == description.strip()


@given(st.text(alphabet='ab =-[](){}"\\,.1e\n', max_size=30))
def test_any_line_is_read_or_refused(text: str) -> None:
    parameter, faults = read_parameter(text)
    assert (parameter is None) == bool(faults)
