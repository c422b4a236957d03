"""The queries that are offered to agents, and how they are described."""

from collections.abc import Callable
from typing import Any

import orjson

from gateway.catalogue.query import Access, Catalogue, Query
from gateway.catalogue.types import Signature
from gateway.execution.call import Caller
from gateway.execution.plans import Plans
from gateway.schemas.tools import input_schema, output_schema

KEPT = 8
"""Lists kept, one for each set of tools that callers may run."""


class Tools:
    """The queries with ``@tool`` of a catalogue."""

    def __init__(self, *, catalogue: Catalogue, plans: Plans, turns: Callable[[], None]) -> None:
        """``turns`` is called between parts of long work."""
        offered = [query for query in catalogue.queries.values() if query.tool is not None]
        self._queries = {query.tool_name: query for query in sorted(offered, key=lambda query: query.tool_name)}
        self._plans = plans
        self._turns = turns
        self._written: dict[tuple[str, ...], tuple[int, bytes]] = {}

    def find(self, name: str, caller: Caller) -> Query | None:
        """Return the query that is this tool. One that the caller may not run is as one that is not there."""
        query = self._queries.get(name)
        return query if query is not None and caller.has_any(query.roles) else None

    def listed(self, caller: Caller) -> bytes:
        """Describe, as a JSON list, the tools that the caller may run and whose types are known, by name."""
        queries = [query for query in self._queries.values() if caller.has_any(query.roles)]
        names, revision = tuple(query.name for query in queries), self._plans.revision
        found = self._written.get(names)
        if found is not None and found[0] == revision:
            return found[1]
        described = []
        for query in queries:
            signature = self._plans.known(query.name).signature
            if signature is not None:
                described.append(orjson.dumps(_described(query, signature)))
                self._turns()
        listed = b"[%b]" % b",".join(described)
        if len(self._written) >= KEPT:
            self._written.clear()
        self._written[names] = revision, listed
        return listed


def _described(query: Query, signature: Signature) -> dict[str, Any]:
    is_read = query.access is Access.READ
    described: dict[str, Any] = {"name": query.tool_name}
    if query.tool:
        described["title"] = query.tool
    said = query.description
    if query.deprecated is not None:
        said = f"{said}\nDeprecated: {query.deprecated.text}".strip()
    if said:
        described["description"] = said
    hints = {"readOnlyHint": is_read, "openWorldHint": False}
    if not is_read:
        hints |= {"destructiveHint": True, "idempotentHint": False}
    return described | {
        "inputSchema": input_schema(query, signature),
        "outputSchema": output_schema(query, signature),
        "annotations": hints,
    }
