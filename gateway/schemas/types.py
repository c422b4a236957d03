"""The JSON Schema of a PostgreSQL type, as ``to_json`` writes its values."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from gateway.catalogue.types import Family, Type

Schema = dict[str, Any]

_FORMATS = {
    "date": "date",
    "timestamp with time zone": "date-time",
}
"""What JSON Schema has a word for, of types whose values are strings; a timestamp without a zone is no date-time."""
_SMALL = {2: {"minimum": -(2**15), "maximum": 2**15 - 1}, 4: {}, 8: {}}


class Components:
    """Schemas by name, each name once."""

    def __init__(self, fixed: Mapping[str, Schema]) -> None:
        """``fixed``: schemas that are there in any case."""
        self.schemas: dict[str, Schema] = dict(fixed)
        self._of_types: dict[tuple[str, bool], str] = {}

    def add(self, wanted: str, schema: Schema) -> str:
        """Add a schema; returns its name, which has a number where another schema has the name that was wanted."""
        name, number = wanted, 1
        while name in self.schemas:
            number += 1
            name = f"{wanted}{number}"
        self.schemas[name] = schema
        return name

    def of_type(self, type_: Type, *, nullable: bool, make: Callable[[], Schema]) -> Schema:
        """Return a reference to the schema of a type that has a name in the database; it is made but once."""
        key = (type_.sql, nullable)
        if key not in self._of_types:
            # Before it is made, as no other may take its name meanwhile.
            name = self._of_types[key] = self.add(pascal(type_.name) + ("OrNull" if nullable else ""), {})
            self.schemas[name].update(make())
        return reference(self._of_types[key])


def reference(name: str) -> Schema:
    """Return a reference to a schema among the components of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def pascal(*words: str) -> str:
    """Return names joined to one, as code generators like it: ``reports.daily-total`` gives ``ReportsDailyTotal``."""
    pieces = [piece for word in words for piece in re.split(r"[^A-Za-z0-9]+", word) if piece]
    joined = "".join(piece[0].upper() + piece[1:] for piece in pieces)
    return joined if joined[:1].isalpha() else f"T{joined}"


def schema_of(type_: Type, components: Components, *, big_as_text: bool, nullable: bool) -> Schema:
    """Return the schema of values of a type.

    ``big_as_text``: int8 and numeric are strings. ``nullable``: NULL is among the values.
    """
    match type_.family:
        case Family.ENUM:

            def labels() -> Schema:
                enum = [*type_.labels, None] if nullable else list(type_.labels)
                return {"type": _or_null("string", nullable=nullable), "enum": enum}

            return components.of_type(type_, nullable=nullable, make=labels)
        case Family.COMPOSITE:

            def members() -> Schema:
                return {
                    "type": _or_null("object", nullable=nullable),
                    "properties": {
                        name: schema_of(field, components, big_as_text=False, nullable=True)
                        for name, field in type_.fields
                    },
                    "required": [name for name, _ in type_.fields],
                }

            return components.of_type(type_, nullable=nullable, make=members)
        case Family.JSON:
            return {"description": "any JSON value"}
        case Family.ARRAY if type_.element is not None:
            items = schema_of(type_.element, components, big_as_text=big_as_text, nullable=nullable)
            return {"type": _or_null("array", nullable=nullable), "items": items}
    plain = _plain(type_, big_as_text=big_as_text)
    return plain | {"type": _or_null(plain["type"], nullable=nullable)} if "type" in plain else plain


def _plain(type_: Type, *, big_as_text: bool) -> Schema:
    """Return the schema of a type without parts."""
    match type_.family:
        case Family.BOOL:
            return {"type": "boolean"}
        case Family.INTEGER if big_as_text and type_.is_big:
            return {"type": "string", "format": "int64"}
        case Family.INTEGER:
            return {"type": "integer", "format": "int64" if type_.is_big else "int32", **_SMALL[type_.size]}
        case Family.NUMERIC if big_as_text:
            return {"type": "string", "format": "decimal"}
        case Family.FLOAT | Family.NUMERIC:
            return {"type": "number", "description": "NaN, Infinity and -Infinity are strings"}
        case Family.UUID:
            return {"type": "string", "format": "uuid"}
        case Family.BYTEA:
            return {"type": "string", "description": "\\x and hexadecimal digits"}
        case Family.OTHER if type_.name.rpartition(".")[2] == "hstore":
            return {"description": "an object of strings"}
        case Family.OTHER if type_.name == "record":
            return {"description": "an object"}
        case Family.OTHER if type_.name in _FORMATS:
            return {"type": "string", "format": _FORMATS[type_.name]}
        case Family.TEXT:
            return {"type": "string"}
    return {"type": "string", "description": type_.name}


def _or_null(name: str, *, nullable: bool) -> Any:
    return [name, "null"] if nullable else name
