"""``/queries`` and ``/queries/{name}``: what can be asked here."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import falcon
import orjson

from gateway.catalogue.paging import own_parameters
from gateway.catalogue.query import Catalogue, Parameter, Query
from gateway.catalogue.types import Type
from gateway.errors import UnknownQuery
from gateway.execution.call import Caller
from gateway.execution.judging import Joined
from gateway.execution.plans import Known, Plans
from gateway.web.authentication import OPERATORS

HIDDEN_FAULT = "the database does not take it: see the gateway's log, or gateway check"
WAITS = "its types are not known yet: something in the database is waited for, a lock on one of its tables for example"


class CatalogueResource:
    """Describes all queries, or one."""

    def __init__(self, *, catalogue: Catalogue, plans: Plans, verbose: bool, joins: Callable[[Query], Joined]) -> None:
        """``verbose``: show the server's words in faults. ``joins``: whether a query's calls are joined."""
        self._queries = catalogue.queries
        self._plans = plans
        self._verbose = verbose
        self._joins = joins

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Describe all queries that the caller may run, by name."""
        caller = request.context.caller
        described = [
            self._describe(query, caller) for _, query in sorted(self._queries.items()) if caller.has_any(query.roles)
        ]
        response.data = orjson.dumps({"queries": described})
        response.content_type = falcon.MEDIA_JSON

    on_head = on_get

    def on_get_one(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Describe one query. One that the caller may not run is as one that is not there."""
        query = self._queries.get(name)
        if query is None or not request.context.caller.has_any(query.roles):
            raise UnknownQuery("GET /queries lists what there is")
        response.data = orjson.dumps(self._describe(query, request.context.caller))
        response.content_type = falcon.MEDIA_JSON

    on_head_one = on_get_one

    def _describe(self, query: Query, caller: Caller) -> dict[str, Any]:
        known = self._plans.known(query.name)
        signature, deprecated = known.signature, query.deprecated
        joined = self._joins(query)
        types: tuple[Type | None, ...] = (None,) * len(query.parameters) if signature is None else signature.parameters
        described = {
            "name": query.name,
            "description": query.description,
            "kind": query.kind,
            "access": query.access,
            "group": query.group,
            "timeout_ms": round(query.timeout * 1000),
            "roles": query.roles,
            "max_rows": query.max_rows,
            "expect": None if query.expect is None else query.expect.text,
            "cache_ms": None if query.cache is None else round(query.cache.seconds * 1000),
            "stale_ms": None if query.cache is None else round(query.cache.stale * 1000),
            "coalesce": query.coalesce,
            "rate": query.rate
            and {"events": query.rate.events, "seconds": query.rate.seconds, "burst": query.rate.burst},
            "concurrency": query.concurrency,
            "media": query.media or None,
            "deprecated": None if deprecated is None else deprecated.text,
            "deprecated_since": None if deprecated is None else deprecated.since,
            "sunset": None if deprecated is None else deprecated.sunset,
            "tool": None if query.tool is None else query.tool_name,
            "page": None
            if query.page is None
            else {"key": list(map(str, query.page.key)), "size": query.page.size, "max": query.page.most},
            "sorts": {sort.name: list(map(str, sort.key)) for sort in query.sorts},
            "parameters": [
                *(_describe_parameter(each, type_) for each, type_ in zip(query.parameters, types, strict=True)),
                *(_describe_parameter(each, type_) for each, type_ in own_parameters(query)),
            ],
            "columns": None
            if signature is None
            else [{"name": column.name, "type": column.type.name} for column in signature.columns],
            "joined": joined.joins,
            "not_joined": joined.why or None,
            "harmless": None if signature is None else signature.harmless,
            "learnt": None if known.learnt_at is None else instant(known.learnt_at),
            "fault": known.fault if self._verbose else shown_fault(known),
        }
        if caller.has_any(OPERATORS):
            described["query_id"] = None if signature is None else signature.query_id
        return described


def shown_fault(known: Known) -> str | None:
    """Return why a query cannot be served. SECURITY: without the server's sentence, which quotes SQL."""
    if known.fault is None:
        return None
    return WAITS if known.waits else HIDDEN_FAULT


def instant(seconds: float) -> str:
    """Return a point in seconds of the Unix epoch as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe_parameter(parameter: Parameter, type_: Type | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "type": type_.name if type_ else None,
        "required": parameter.default is None and parameter.bound is None,
        "description": parameter.description,
    }
    if parameter.bound is not None:
        described["bound"] = parameter.bound
    elif parameter.default is not None:
        described["default"] = orjson.Fragment(parameter.default)
    if type_ is not None and type_.labels and "enum" not in parameter.constraints:
        described["enum"] = type_.labels
    return described | parameter.constraints
