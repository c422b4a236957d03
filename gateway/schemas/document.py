"""The OpenAPI document of a catalogue: a path for each query, with the types that the server has told.

OpenAPI 3.1, as generators of clients do not read 3.2 yet. Every object has a name among the components, since
generators call an object without one after the place where it stands.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from gateway import __version__
from gateway.catalogue.query import Access, Query
from gateway.catalogue.types import Signature
from gateway.schemas.shapes import example_of, shapes_of
from gateway.schemas.types import Components, reference

_JSON, _PROBLEM = "application/json", "application/problem+json"
_OUTCOMES = ["committed", "rolled_back", "not_executed", "unknown"]
_FIXED: dict[str, Any] = {
    "Outcome": {"type": "string", "enum": _OUTCOMES, "description": "What became of a write."},
    "OutcomeOrNull": {"type": ["string", "null"], "enum": [*_OUTCOMES, None]},
    "Fault": {
        "type": "object",
        "description": "One of the faults of a request.",
        "required": ["parameter", "message"],
        "properties": {
            "parameter": {"type": ["string", "null"]},
            "message": {"type": "string"},
            "step": {"type": "integer"},
            "constraint": {"type": "string"},
        },
    },
    "Problem": {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "retryable": {"type": "boolean"},
            "outcome": reference("OutcomeOrNull"),
            "sqlstate": {"type": ["string", "null"]},
            "step": {"type": ["integer", "null"]},
            "transaction": {"type": ["string", "null"]},
            "errors": {"type": "array", "items": reference("Fault")},
        },
    },
}
_FIXED["Problem"]["required"] = list(_FIXED["Problem"]["properties"])
_HEADERS = {
    "Prefer": "`wait=1.5`, `max-staleness=0.5`, `handling=strict`, `bigint=string`, separated by commas",
    "Gateway-Consistency-Token": "of an earlier write: what is answered has seen that write",
    "Idempotency-Key": "the write runs at most once per key; a repeat gets the first answer",
}


def document(
    queries: Iterable[tuple[Query, Signature]],
    *,
    version: str,
    big_as_text: bool,
    knows_callers: bool,
    turns: Callable[[], None],
) -> bytes:
    """Return the document as JSON.

    ``version`` is the catalogue's; ``knows_callers``: a request needs a key or token; ``turns`` is called between
    parts of the work, of which there is a millisecond for every ten queries.
    """
    components = Components(_FIXED)
    paths: dict[str, Any] = {}
    used: set[str] = set()
    for query, signature in queries:
        operation = _operation(query, signature, components, used, big_as_text=big_as_text)
        paths[f"/query/{query.name}"] = orjson.Fragment(orjson.dumps({"post": operation}))
        turns()
    schemas: dict[str, Any] = {}
    for name, schema in components.schemas.items():
        schemas[name] = orjson.Fragment(orjson.dumps(schema))
        turns()
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Queries of pg-query-gateway",
            "version": version,
            "description": f"The queries of one catalogue, served by pg-query-gateway {__version__}.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {name: _header(name, text) for name, text in _HEADERS.items()},
            "responses": {
                "Problem": {"description": "A failure.", "content": {_PROBLEM: {"schema": reference("Problem")}}}
            },
        },
    }
    if knows_callers:
        whole["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}  # type: ignore[index]
        whole["security"] = [{"key": []}]
    return orjson.dumps(whole)


def _operation(
    query: Query, signature: Signature, components: Components, used: set[str], *, big_as_text: bool
) -> dict[str, Any]:
    shapes = shapes_of(query, signature, components, big_as_text=big_as_text)
    content: dict[str, Any] = {"schema": reference(shapes.arguments)}
    if (example := example_of(query, signature, big_as_text=big_as_text)) is not None:
        content["example"] = example
    headers = ["Prefer", "Idempotency-Key" if query.access is Access.WRITE else "Gateway-Consistency-Token"]
    operation: dict[str, Any] = {
        "operationId": _operation_id(query.name, used),
        "tags": [query.name.rpartition(".")[0] or "queries"],
        "summary": query.description.partition("\n")[0] or query.name,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in headers],
        "requestBody": {"required": any(each.bound is None for each in query.parameters), "content": {_JSON: content}},
        "responses": {
            "200": {"description": "What it answered.", "content": {_JSON: {"schema": reference(shapes.result)}}},
            **_unmet(query),
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if query.description:
        operation["description"] = query.description
    if query.deprecated is not None:
        operation["deprecated"] = True
    return operation


def _unmet(query: Query) -> dict[str, Any]:
    """The answer where a call does not come to what its query expects."""
    expect = query.expect
    if expect is None:
        return {}
    status = "404" if expect.is_row else "409"
    code = "`no_row`" if expect.is_row else f"`unexpected_affected`, as it is expected to be {expect.text}"
    return {status: {"description": f"{code}, among others.", "content": {_PROBLEM: {"schema": reference("Problem")}}}}


def _operation_id(name: str, used: set[str]) -> str:
    wanted = re.sub(r"[^A-Za-z0-9_]", "_", name)
    chosen, number = wanted, 1
    while chosen in used:
        number += 1
        chosen = f"{wanted}_{number}"
    used.add(chosen)
    return chosen


def _header(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
