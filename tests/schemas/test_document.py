"""The OpenAPI document is valid for whatever queries there are, and generators of clients can read it."""

import json
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import jsonschema
import openapi_spec_validator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.catalogue.query import Access, Deprecation, Kind, Parameter, Query, Statement, Text, Verb
from gateway.catalogue.types import Column, Family, Form, Signature, Type
from gateway.schemas.document import document

PLAIN = {
    "integer": (Family.INTEGER, 4),
    "smallint": (Family.INTEGER, 2),
    "bigint": (Family.INTEGER, 8),
    "double precision": (Family.FLOAT, 0),
    "numeric": (Family.NUMERIC, 0),
    "text": (Family.TEXT, 0),
    "boolean": (Family.BOOL, 0),
    "uuid": (Family.UUID, 0),
    "bytea": (Family.BYTEA, 0),
    "jsonb": (Family.JSON, 0),
    "date": (Family.OTHER, 0),
    "timestamp with time zone": (Family.OTHER, 0),
    "interval": (Family.OTHER, 0),
    "numrange": (Family.OTHER, 0),
    "hstore": (Family.OTHER, 0),
}
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,12}", fullmatch=True)
plain = st.sampled_from([Type(name, name, family, size) for name, (family, size) in PLAIN.items()])


def enum(name: str, labels: tuple[str, ...]) -> Type:
    """An enum, whose name differs from that of another with other labels: two of one name would be one type."""
    name = f"{name}_{crc32(repr(labels).encode())}"
    return Type(name, f"shop.{name}", Family.ENUM, labels=labels)


enums = st.builds(
    lambda name, labels: enum(name, tuple(labels)),
    NAMES,
    st.lists(st.text(min_size=1), min_size=1, max_size=3, unique=True),
)


def nested(inner: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    arrays = inner.map(lambda element: Type(f"{element.name}[]", f"{element.sql}[]", Family.ARRAY, element=element))
    composites = st.builds(
        lambda name, fields: Type(name, f"made.{name}", Family.COMPOSITE, fields=tuple(fields)),
        NAMES,
        st.lists(st.tuples(NAMES, inner), min_size=1, max_size=3, unique_by=lambda field: field[0]),
    )
    return arrays | composites


types = st.recursive(plain | enums, nested, max_leaves=3)


@st.composite
def queries(draw: st.DrawFn) -> tuple[Query, Signature]:
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    folder = draw(st.sampled_from(["", "reports.", "a.b."]))
    query = Query(
        name=folder + draw(NAMES),
        kind=draw(st.sampled_from(list(Kind))),
        access=draw(st.sampled_from(list(Access))),
        statement=Statement(verb=Verb.SELECT, bare=Text(("SELECT 1",))),
        parameters=tuple(Parameter(name, default=draw(st.sampled_from([None, "null"]))) for name in names),
        timeout=1.0,
        description=draw(st.text()),
        deprecated=draw(st.none() | st.builds(Deprecation, st.text())),
    )
    columns = tuple(Column(name, draw(types)) for name in draw(st.lists(NAMES, max_size=4)))
    return query, Signature(parameters=tuple(draw(types) for _ in names), columns=columns, form=Form.WRAPPED)


def made(*described: tuple[Query, Signature], big_as_text: bool = False, knows_callers: bool = False) -> Any:
    return json.loads(
        document(described, version="1", big_as_text=big_as_text, knows_callers=knows_callers, turns=lambda: None)
    )


def query(name: str, *parameters: Parameter, kind: Kind = Kind.MANY, access: Access = Access.READ) -> Query:
    statement = Statement(verb=Verb.SELECT, bare=Text(("SELECT 1",)))
    return Query(name=name, kind=kind, access=access, statement=statement, parameters=parameters, timeout=1.0)


def signature(*parameters: Type, columns: tuple[Column, ...] = ()) -> Signature:
    return Signature(parameters=parameters, columns=columns, form=Form.WRAPPED)


def kind_of(name: str) -> Type:
    family, size = PLAIN[name]
    return Type(name, name, family, size)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") in ("object", ["object", "null"]) or ("enum" in schema and "type" in schema):
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


@settings(max_examples=25, deadline=None)
@given(st.lists(queries(), max_size=3, unique_by=lambda described: described[0].name), st.booleans())
def test_it_is_valid_whatever_queries_there_are(described: list[tuple[Query, Signature]], big_as_text: bool) -> None:
    whole = made(*described, big_as_text=big_as_text)
    openapi_spec_validator.validate(whole)
    operations = [path["post"]["operationId"] for path in whole["paths"].values()]
    assert len(operations) == len(described) == len(set(operations))
    schemas = whole["components"]["schemas"]
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert [each for each in objects(schema) if each is not schema and "properties" in each] == [], name
    for path in whole["paths"].values():
        content = path["post"]["requestBody"]["content"]["application/json"]
        if "example" in content:
            jsonschema.Draft202012Validator({**content["schema"], "components": whole["components"]}).validate(
                content["example"]
            )


def test_objects_and_choices_have_names_so_that_code_that_is_generated_has_them_too() -> None:
    mood = Type("mood", "public.mood", Family.ENUM, labels=("sad", "ok"))
    pair = Type("pair", "public.pair", Family.COMPOSITE, fields=(("a", mood),))
    asked = query(
        "list_orders", Parameter("order", constraints={"enum": ["new", "old"]}), Parameter("mood", default="null")
    )
    whole = made((asked, signature(kind_of("text"), mood, columns=(Column("pair", pair),))))
    assert sorted(whole["components"]["schemas"]) == [
        "Fault", "ListOrdersArguments", "ListOrdersOrder", "ListOrdersResult", "ListOrdersRow", "MoodOrNull", "Outcome",
        "OutcomeOrNull", "PairOrNull", "Problem",
    ]  # fmt: skip


def test_a_parameter_that_is_bound_to_the_caller_is_no_argument() -> None:
    asked = query("q", Parameter("tenant", bound="claim:tenant_id"), Parameter("a"))
    alone = query("r", Parameter("tenant", bound="claim:tenant_id"))
    whole = made((asked, signature(kind_of("uuid"), kind_of("integer"))), (alone, signature(kind_of("uuid"))))
    assert "tenant" not in json.dumps(whole)
    bodies = [path["post"]["requestBody"] for path in whole["paths"].values()]
    assert [body["required"] for body in bodies] == [True, False]
    assert bodies[1]["content"]["application/json"]["example"] == {}


def test_a_parameter_with_a_default_is_not_required_and_may_be_null() -> None:
    asked = query("q", Parameter("a"), Parameter("b", default="7", description="how many"))
    whole = made((asked, signature(kind_of("integer"), kind_of("integer"))))
    assert whole["components"]["schemas"]["QArguments"] == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "format": "int32"},
            "b": {
                "type": ["integer", "null"],
                "format": "int32",
                "x-default": 7,
                "description": "how many; 7 if left out",
            },
        },
        "required": ["a"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(("big_as_text", "kind"), [(False, "integer"), (True, "string")])
def test_big_numbers_are_what_the_server_makes_of_them(big_as_text: bool, kind: str) -> None:
    asked = query("q", Parameter("a", constraints={"minimum": 3}))
    columns = (Column("a", kind_of("bigint")),)
    schemas = made((asked, signature(kind_of("bigint"), columns=columns)), big_as_text=big_as_text)["components"][
        "schemas"
    ]
    assert schemas["QRow"]["properties"]["a"]["type"] == [kind, "null"]
    argument = schemas["QArguments"]["properties"]["a"]
    assert (argument["type"], argument.get("minimum")) == (kind, None if big_as_text else 3)


def test_names_that_differ_only_in_signs_are_told_apart() -> None:
    whole = made((query("a-b"), signature()), (query("a_b"), signature()))
    assert [path["post"]["operationId"] for path in whole["paths"].values()] == ["a_b", "a_b_2"]
    assert {"ABResult", "ABResult2"} <= whole["components"]["schemas"].keys()


def test_it_says_when_a_key_is_needed() -> None:
    assert "security" not in made((query("q"), signature()))
    assert made((query("q"), signature()), knows_callers=True)["security"] == [{"key": []}]


def test_a_write_says_what_became_of_it() -> None:
    whole = made((query("q", kind=Kind.EXEC, access=Access.WRITE), signature()))
    assert whole["components"]["schemas"]["QResult"]["required"] == ["affected", "outcome"]
    named = [each["$ref"].rpartition("/")[2] for each in whole["paths"]["/query/q"]["post"]["parameters"]]
    assert named == ["Prefer", "Idempotency-Key"]
