"""What a server's plan of a query tells its author: tables read as a whole, and filters that no index serves."""

import json
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any, NamedTuple

from gateway.catalogue.query import Text
from gateway.catalogue.types import Type
from gateway.errors import GatewayError
from gateway.postgres.session import Session

LARGE = 10_000
"""Rows from which on a table is large."""
TIMEOUT = 10.0
_NAME = "gw_check_plan"
_ROWS = (
    "SELECT reltuples::pg_catalog.int8::pg_catalog.text FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) {}"
)


class Scan(NamedTuple):
    """A large table that is read from its beginning to its end."""

    table: str
    rows: int
    filter: str
    """Which of its rows are wanted, in the server's words; empty: all."""


def scans(session: Session, text: Text, types: Sequence[Type]) -> list[Scan]:
    """Return the sequential scans of large tables in the plan that suits any arguments.

    Raises a GatewayError where the query cannot be planned.
    """
    deadline = monotonic() + TIMEOUT
    plan = explained_generically(session, text, types, deadline)
    return list(_large(session, _sequential(plan, is_limited=False), deadline))


def explained_generically(session: Session, text: Text, types: Sequence[Type], deadline: float) -> dict[str, Any]:
    """Return the plan of a statement that suits any arguments, in the server's words.

    Raises a GatewayError where it cannot be planned.
    """
    names = ", ".join(type_.sql for type_ in types)
    nulls = ", ".join("NULL" for _ in types)
    declared = f" ({names})" if types else ""
    given = f" ({nulls})" if types else ""
    session.ask(f"PREPARE {_NAME}{declared} AS {text.render()}", deadline)
    try:
        session.ask("SET plan_cache_mode = force_generic_plan", deadline)
        # NOTE: VERBOSE names the schemas of tables.
        rows = session.ask(f"EXPLAIN (FORMAT JSON, VERBOSE) EXECUTE {_NAME}{given}", deadline)
    finally:
        if not session.closed:
            session.ask(f"RESET plan_cache_mode; DEALLOCATE {_NAME}", deadline)
    (plan,) = json.loads("\n".join(row[0] or "" for row in rows))
    whole: dict[str, Any] = plan["Plan"]
    return whole


def _sequential(node: dict[str, Any], *, is_limited: bool) -> Iterator[dict[str, Any]]:
    """Yield the sequential scans in a plan, but for those of which a LIMIT takes the first rows that come."""
    kind = node["Node Type"]
    if kind == "Seq Scan" and ("Filter" in node or not is_limited):
        yield node
    passes_on = kind in ("Limit", "Append", "Subquery Scan", "Result", "LockRows")
    for child in node.get("Plans", ()):
        yield from _sequential(child, is_limited=kind == "Limit" or (is_limited and passes_on))


def _large(session: Session, nodes: Iterator[dict[str, Any]], deadline: float) -> Iterator[Scan]:
    seen = set()
    for node in nodes:
        schema, table = node.get("Schema", ""), node["Relation Name"]
        name = f"{schema}.{table}" if schema not in ("", "public") else table
        key = (name, node.get("Filter", ""))
        if key in seen:
            continue
        seen.add(key)
        quoted = "'{}.{}'".format(*(part.replace('"', '""').replace("'", "''").join('""') for part in (schema, table)))
        try:
            rows = session.ask(_ROWS.format(f"{quoted}::pg_catalog.regclass"), deadline)
        except GatewayError:
            continue  # a temporary table, or one that is gone
        count = int(rows[0][0] or 0) if rows else 0
        if count >= LARGE:
            yield Scan(name, count, node.get("Filter", ""))
