"""The JSON Schemas of a query that is a tool for agents: of its arguments, and of what it answers.

They are whole, as several clients follow no ``$ref``, and true of every value that PostgreSQL can answer, as clients
refuse a result that its schema does not allow. int8 and numeric are strings in results.
"""

from collections.abc import Callable
from typing import Any, Final

from gateway.catalogue.query import TOOL_KEY, Access, Query
from gateway.catalogue.types import Signature
from gateway.errors import Outcome
from gateway.schemas.shapes import arguments_of, result_of
from gateway.schemas.types import Components, Schema

_NUMBERS = ("int32", "int64", "decimal")
_MAY_BE_INFINITE = ("date", "date-time")
_NO_NUMBERS: Final = ["NaN", "Infinity", "-Infinity"]
_KEYWORDS = {
    "null": (),
    "boolean": (),
    "integer": ("minimum", "maximum"),
    "number": ("minimum", "maximum"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "array": ("items", "minItems", "maxItems"),
    "object": ("properties", "required"),
}
"""What is said of values of each type besides."""
_KEY: Schema = {
    "anyOf": [{"type": "string", "minLength": 1, "maxLength": 255}, {"type": "null"}],
    "description": "a new key of your choice for each thing to be done: with the same key and arguments a repeated "
    "call changes nothing, and gets the first one's answer",
}


def input_schema(query: Query, signature: Signature) -> Schema:
    """Return the schema of a tool's arguments; a number that a double cannot keep may be given as a string, too."""
    components = Components({})
    schema = _whole(arguments_of(query, signature, components, big_as_text=False), components, _taken)
    if query.access is Access.WRITE:
        schema["properties"] = {**schema["properties"], TOOL_KEY: _KEY}
    return schema


def output_schema(query: Query, signature: Signature) -> Schema:
    """Return the schema of a tool's answer."""
    components = Components({"Outcome": {"type": "string", "enum": list(Outcome)}})
    return _whole(result_of(query, signature, components, big_as_text=True), components, _answered)


def _whole(schema: Schema, components: Components, adjusted: Callable[[Schema], Schema]) -> Schema:
    """Return the schema with what it refers to in the place of each reference, every part of it adjusted."""
    if isinstance(named := schema.get("$ref"), str):
        found = components.schemas[named.rpartition("/")[2]]
        schema = found | {key: value for key, value in schema.items() if key != "$ref"}
    made: dict[str, Any] = dict(schema)
    if "properties" in made:
        made["properties"] = {name: _whole(each, components, adjusted) for name, each in made["properties"].items()}
    if "items" in made:
        made["items"] = _whole(made["items"], components, adjusted)
    if "oneOf" in made:
        made["oneOf"] = [_whole(each, components, adjusted) for each in made["oneOf"]]
    return adjusted(made)


def _taken(schema: Schema) -> Schema:
    if "x-default" in schema:
        schema["default"] = schema.pop("x-default")
    if "number" in _types(schema) or schema.get("format") == "int64":
        schema["type"] = [*_types(schema), "string"]
    if schema.get("format") in _NUMBERS:
        del schema["format"]
    return _of_one_type_each(schema)


def _answered(schema: Schema) -> Schema:
    if schema.get("format") in _NUMBERS:
        del schema["format"]
    elif schema.get("format") in _MAY_BE_INFINITE:
        schema["description"] = f"{schema.pop('format')}, or infinity or -infinity"
    if "items" in schema and "null" in _types(schema):
        # A column, and not the rows. Its type does not say how many dimensions its values have.
        schema["items"] = {"anyOf": [schema["items"], {"type": "array"}]}
    made = _of_one_type_each(schema)
    return {"anyOf": [made, {"type": "string", "enum": _NO_NUMBERS}]} if "number" in _types(schema) else made


def _of_one_type_each(schema: Schema) -> Schema:
    """Return the schema without a list of types, which providers of models do not read: with a choice of schemas."""
    types = _types(schema)
    if len(types) < 2:
        return schema
    branches: list[Schema] = []
    for type_ in types:
        branch = {"type": type_} | {key: schema[key] for key in _KEYWORDS[type_] if key in schema}
        if "enum" in schema and type_ != "null":
            values = [value for value in schema["enum"] if value is not None]
            branch["enum"] = [str(value) for value in values] if type_ == "string" else values
        branches.append(branch)
    return {"anyOf": branches} | {key: schema[key] for key in ("description", "default") if key in schema}


def _types(schema: Schema) -> list[str]:
    type_ = schema.get("type", [])
    return [type_] if isinstance(type_, str) else type_
