"""What a server's planner says of a query's pages: whether their key tells all rows apart, and can be looked up."""

import re
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

from gateway.catalogue.paging import keys_of, operator
from gateway.catalogue.query import Order, Query, Text
from gateway.catalogue.types import Signature, Type
from gateway.catalogue.wrapping import ALIAS, joined, quoted
from gateway.postgres.scanning import explained_generically
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan

TIMEOUT = 10.0
_PARAMETER = re.compile(r"\$(\d+)\b")
_BARRIERS = {
    "Limit": "a LIMIT or OFFSET",
    "WindowAgg": "a window function",
    "ProjectSet": "a function that returns several rows",
    "CTE Scan": "a WITH that is computed as a whole",
    "Aggregate": "an aggregate",
    "Function Scan": "a function that gives the rows",
    "Recursive Union": "a recursive WITH",
}
"""What keeps a condition from what it could be looked up in, by the server's name of the node."""


def is_unique(session: Session, query: Query, signature: Signature) -> bool:
    """Whether the planner knows that no two rows have the same key.

    A left join to the query on its key is left out of a plan where each row is known to find one row at most. Raises a
    GatewayError where that cannot be planned.
    """
    source, page = query.statement.source, query.page
    if source is None or page is None:
        return True
    types = _types(signature, page.key)
    given = ", ".join(f"(n::pg_catalog.text)::{type_.sql} AS {ALIAS}_k{place}" for place, type_ in enumerate(types))
    equal = " AND ".join(
        f"{ALIAS}_g.{ALIAS}_k{place} {operator('=', [type_])} {ALIAS}.{quoted(order.column)}"
        for place, (order, type_) in enumerate(zip(page.key, types, strict=True))
    )
    keys = f"(SELECT {given} FROM pg_catalog.generate_series(1, 9) AS n) AS {ALIAS}_g"
    text = joined(f"SELECT FROM {keys} LEFT JOIN ", source, f" AS {ALIAS} ON {equal}")
    plan = explained_generically(session, text, signature.parameters, monotonic() + TIMEOUT)
    return all(node["Node Type"] in ("Function Scan", "Result", "Subquery Scan") for node in _every(plan))


def barriers(session: Session, query: Query, signature: Signature) -> list[str]:
    """What keeps the server from looking up where a page begins, as nouns: each page reads all rows before it again.

    Raises a GatewayError where a page cannot be planned.
    """
    found: dict[str, None] = {}
    first_value = len(signature.parameters) + 2
    for key in keys_of(query):
        text, types = _later(query, signature, key)
        plan = explained_generically(session, text, types, monotonic() + TIMEOUT)
        for node in _every(plan):
            named = _PARAMETER.findall(node.get("Filter", ""))
            if any(int(number) >= first_value for number in named) and (what := _barrier(node)):
                found[what] = None
    return list(found)


def _barrier(node: dict[str, Any]) -> str:
    """Why a condition is looked at here, and not where rows are read; empty if they are read here."""
    if node["Node Type"] != "Subquery Scan":
        return _BARRIERS.get(node["Node Type"], "")
    below = node["Plans"][0]
    while below["Node Type"] in ("Sort", "Incremental Sort", "Unique", "Result") and "Plans" in below:
        below = below["Plans"][0]
    return _BARRIERS.get(below["Node Type"], "an ORDER BY, DISTINCT or grouping of its own")


def _later(query: Query, signature: Signature, key: Sequence[Order]) -> tuple[Text, Sequence[Type]]:
    plan = Plan.paged(query, signature, key, (True,) * len(key))
    return plan.text, plan.types


def _types(signature: Signature, key: Sequence[Order]) -> list[Type]:
    columns = {column.name: column.type for column in signature.columns}
    return [columns[order.column] for order in key]


def _every(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _every(child)
