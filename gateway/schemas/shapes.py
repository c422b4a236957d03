"""The JSON Schemas of one query: its arguments, a row, and its result."""

import json
from typing import Any, NamedTuple

from gateway.catalogue.paging import own_parameters
from gateway.catalogue.query import Access, Kind, Parameter, Query
from gateway.catalogue.types import Family, Signature, Type
from gateway.schemas.types import Components, Schema, pascal, reference, schema_of

_OF_ARRAYS = {"minLength": "minItems", "maxLength": "maxItems"}


class Shapes(NamedTuple):
    """The names of a query's schemas among the components of the document."""

    arguments: str
    result: str


def shapes_of(query: Query, signature: Signature, components: Components, *, big_as_text: bool) -> Shapes:
    """Add the schemas of a query to the components. ``big_as_text``: int8 and numeric are strings in its results."""
    name = pascal(query.name)
    arguments = components.add(f"{name}Arguments", arguments_of(query, signature, components, big_as_text=big_as_text))
    result = components.add(f"{name}Result", result_of(query, signature, components, big_as_text=big_as_text))
    return Shapes(arguments, result)


def arguments_of(query: Query, signature: Signature, components: Components, *, big_as_text: bool) -> Schema:
    """Return the schema of a query's arguments.

    A parameter with a default has no ``default`` in its schema, as code generators would then take it for one that has
    to be given.
    """
    declared = _declared(query, signature)
    schema: Schema = {
        "type": "object",
        "properties": {
            parameter.name: _argument(query, parameter, type_, components, big_as_text=big_as_text)
            for parameter, type_ in declared
        },
        "additionalProperties": False,
    }
    required = [parameter.name for parameter, _ in declared if parameter.default is None]
    return schema | ({"required": required} if required else {})


def _declared(query: Query, signature: Signature) -> list[tuple[Parameter, Type]]:
    """The parameters that arguments are for, with their types: not those that are bound to the caller.

    With those that annotations add.
    """
    both = zip(query.parameters, signature.parameters, strict=True)
    return [*((parameter, type_) for parameter, type_ in both if parameter.bound is None), *own_parameters(query)]


def _argument(query: Query, parameter: Parameter, type_: Type, components: Components, *, big_as_text: bool) -> Schema:
    nullable = parameter.default is not None
    constraints = dict(parameter.constraints)
    choice = constraints.pop("enum", None)
    schema = schema_of(type_, components, big_as_text=big_as_text, nullable=nullable)
    if choice is not None:
        values = [*choice, None] if nullable and None not in choice else choice
        named = {key: value for key, value in schema.items() if key != "$ref"} | {"enum": values}
        schema = reference(components.add(pascal(query.name, parameter.name), named))
    if type_.family is Family.ARRAY:
        constraints = {_OF_ARRAYS.get(key, key): value for key, value in constraints.items()}
    elif type_.is_big and big_as_text:
        constraints = {f"x-{key}": value for key, value in constraints.items()}  # bounds of numbers, not of strings
    schema |= constraints
    said = [parameter.description, str(schema.get("description", ""))]
    if parameter.default is not None:
        schema["x-default"] = _default(parameter.default, type_, big_as_text=big_as_text)
        said.append(f"{parameter.default} if left out")
    description = "; ".join(filter(None, said))
    return schema | ({"description": description} if description else {})


def _default(text: str, type_: Type, *, big_as_text: bool) -> Any:
    value = json.loads(text)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return text if is_number and big_as_text and type_.is_big else value


def result_of(query: Query, signature: Signature, components: Components, *, big_as_text: bool) -> Schema:
    """Return the schema of what a query answers."""
    properties: dict[str, Schema]
    match query.kind:
        case Kind.EXEC:
            properties = {"affected": {"type": "integer", "format": "int64"}}
        case Kind.SCALAR if signature.columns:
            first = signature.columns[0].type
            properties = {"value": schema_of(first, components, big_as_text=big_as_text, nullable=True)}
        case Kind.SCALAR:
            properties = {"value": {}}
        case Kind.ONE:
            row = _row(query, signature, components, big_as_text=big_as_text)
            properties = {"row": {"oneOf": [reference(row), {"type": "null"}]}}
        case Kind.MANY:
            row = _row(query, signature, components, big_as_text=big_as_text)
            rows = {"type": "array", "items": reference(row)}
            properties = {"rows": rows, "row_count": {"type": "integer", "format": "int64"}}
            if query.page is not None:
                properties["next"] = {"type": ["string", "null"], "description": "The next page's `cursor`."}
    if query.access is Access.WRITE:
        properties["outcome"] = reference("Outcome")
    return {"type": "object", "properties": properties, "required": list(properties)}


def _row(query: Query, signature: Signature, components: Components, *, big_as_text: bool) -> str:
    """Add the schema of a row; the server does not say which columns are never NULL."""
    columns = {
        column.name: schema_of(column.type, components, big_as_text=big_as_text, nullable=True)
        for column in signature.columns
    }
    row = {"type": "object", "properties": columns, "required": list(columns)}
    return components.add(f"{pascal(query.name)}Row", row)


def example_of(query: Query, signature: Signature, *, big_as_text: bool) -> dict[str, Any] | None:
    """Return arguments that the gateway takes; None where a value that is right cannot be made up."""
    example: dict[str, Any] = {}
    for parameter, type_ in _declared(query, signature):
        if parameter.default is not None:
            example[parameter.name] = _default(parameter.default, type_, big_as_text=big_as_text)
            continue
        value = _example(type_, parameter.constraints, big_as_text=big_as_text)
        if value is None:
            return None
        example[parameter.name] = value
    return example


_EXAMPLES = {
    Family.BOOL: True,
    Family.UUID: "00000000-0000-4000-8000-000000000000",
    Family.BYTEA: "\\x00",
    Family.JSON: {},
}
_WRITTEN = {
    "date": "2026-01-31",
    "timestamp with time zone": "2026-01-31T12:00:00Z",
    "timestamp without time zone": "2026-01-31T12:00:00",
    "time without time zone": "12:00:00",
    "interval": "1 day",
    "inet": "192.0.2.1",
}


def _example(type_: Type, constraints: dict[str, Any], *, big_as_text: bool) -> Any:
    if "enum" in constraints:
        return constraints["enum"][0]
    if "pattern" in constraints:
        return None
    match type_.family:
        case Family.INTEGER | Family.NUMERIC | Family.FLOAT:
            least, most = constraints.get("minimum", 1), constraints.get("maximum", 1)
            number = most if most < 1 else least
            return str(number) if big_as_text and type_.is_big else number
        case Family.TEXT:
            return "text".ljust(constraints.get("minLength", 0), "x")[: constraints.get("maxLength")]
        case Family.ENUM:
            return type_.labels[0] if type_.labels else None
        case Family.ARRAY if type_.element is not None:
            element = _example(type_.element, {}, big_as_text=big_as_text)
            return None if element is None else [element] * max(1, constraints.get("minLength", 1))
        case Family.COMPOSITE:
            fields = {name: _example(field, {}, big_as_text=False) for name, field in type_.fields}
            return None if None in fields.values() else fields
    return _EXAMPLES.get(type_.family, _WRITTEN.get(type_.name))
