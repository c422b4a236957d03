"""The schemas of a tool are whole, and true of all that PostgreSQL answers."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from gateway.catalogue.query import Access, Kind, Parameter, Query
from gateway.catalogue.types import Column, Family, Signature, Type
from gateway.schemas.tools import input_schema, output_schema
from tests.schemas.test_document import kind_of, queries, query, signature


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def references(schema: Any) -> bool:
    """Whether a schema refers to another one. A column may well be called `$ref`: what it is then is no string."""
    if isinstance(schema, dict):
        return isinstance(schema.get("$ref"), str) or any(map(references, schema.values()))
    return isinstance(schema, list) and any(map(references, schema))


def of_column(name: str, *, array: bool = False) -> dict[str, Any]:
    """The schema of an answer of one value of this type."""
    type_ = kind_of(name)
    if array:
        type_ = Type(f"{name}[]", f"{name}[]", Family.ARRAY, element=type_)
    return output_schema(query("q", kind=Kind.SCALAR), signature(columns=(Column("c", type_),)))


@settings(max_examples=100, deadline=None)
@given(queries())
def test_they_are_objects_valid_and_whole_whatever_query_there_is(described: tuple[Query, Signature]) -> None:
    for schema in (input_schema(*described), output_schema(*described)):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
        assert not references(schema)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("double precision", [1.5, "NaN", "-Infinity", None]),
        ("bigint", ["9007199254740993", None]),
        ("numeric", ["0.10", "NaN", None]),
        ("integer", [7, None]),
        ("timestamp with time zone", ["2026-01-31T12:00:00+00:00", "infinity", None]),
        ("date", ["2026-01-31", "-infinity", None]),
        ("jsonb", [{}, [], 1, None]),
    ],
)
def test_every_value_of_a_type_is_allowed(name: str, values: list[Any]) -> None:
    checked = jsonschema.Draft202012Validator(of_column(name), format_checker=jsonschema.FormatChecker())
    assert [value for value in values if not checked.is_valid({"value": value})] == []
    assert is_valid(of_column(name, array=True), {"value": [values[0], None]})
    assert is_valid(of_column(name, array=True), {"value": [[values[0]], [None]]})
    assert not is_valid(of_column(name, array=True), {"value": 7})


def test_numbers_that_a_double_does_not_keep_are_taken_as_strings_too() -> None:
    asked = query("q", Parameter("big", constraints={"maximum": 10}), Parameter("exact"), Parameter("small"))
    schema = input_schema(asked, signature(kind_of("bigint"), kind_of("numeric"), kind_of("integer")))
    assert is_valid(schema, {"big": "7", "exact": "0.1", "small": 7})
    assert is_valid(schema, {"big": 7, "exact": 0.1, "small": 7})
    assert not is_valid(schema, {"big": 11, "exact": 0.1, "small": 7})
    assert not is_valid(schema, {"big": 7, "exact": 0.1, "small": "7"})


def test_a_parameter_with_a_default_may_be_null_and_says_what_it_is_then() -> None:
    schema = input_schema(query("q", Parameter("a", default="7")), signature(kind_of("integer")))
    assert schema["properties"]["a"]["default"] == 7
    assert is_valid(schema, {})
    assert is_valid(schema, {"a": None})


def test_what_is_bound_to_the_caller_is_no_argument() -> None:
    schema = input_schema(query("q", Parameter("tenant", bound="claim:t")), signature(kind_of("uuid")))
    assert schema == {"type": "object", "properties": {}, "additionalProperties": False}


def test_only_what_writes_takes_a_key_and_says_what_became_of_it() -> None:
    write = query("q", kind=Kind.EXEC, access=Access.WRITE)
    assert is_valid(input_schema(write, signature()), {"idempotency_key": "k"})
    assert is_valid(input_schema(write, signature()), {"idempotency_key": None})
    assert not is_valid(input_schema(write, signature()), {"idempotency_key": ""})
    assert not is_valid(input_schema(query("q"), signature()), {"idempotency_key": "k"})
    assert is_valid(output_schema(write, signature()), {"affected": 1, "outcome": "committed"})
    assert not is_valid(output_schema(write, signature()), {"affected": 1})


def test_columns_may_be_called_like_words_of_the_schema() -> None:
    columns = tuple(Column(name, kind_of("text")) for name in ("$ref", "type", "items", "properties", "oneOf"))
    schema = output_schema(query("q", kind=Kind.MANY), signature(columns=columns))
    row = dict.fromkeys([column.name for column in columns], "x")
    assert is_valid(schema, {"rows": [row], "row_count": 1})
    assert not is_valid(schema, {"rows": [row | {"type": 7}], "row_count": 1})
    assert not is_valid(schema, {"rows": [[]], "row_count": 1})
