"""Asks the server under which id it counts a query (``queryid`` of ``pg_stat_statements``)."""

import json

from gateway.errors import GatewayError
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan

_AGAIN = "gw_identified"
"""Name of what is prepared for this and is gone at once."""
_EXPLAIN = "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON)"


def identifies(connection: Session, deadline: float) -> bool:
    """Whether the server computes ids: with pg_stat_statements, or ``compute_query_id``. Raises a GatewayError."""
    return _id_in(connection.ask(f"{_EXPLAIN} SELECT 1", deadline)) is not None


def query_id(connection: Session, plan: Plan, deadline: float) -> str | None:
    """Return the id of a plan's statement; None where the server does not plan it with nulls.

    Nothing is run. Raises a GatewayError where the connection is gone.
    """
    nulls = f"({', '.join(['NULL'] * len(plan.types))})" if plan.types else ""
    try:
        connection.ask(plan.prepare(_AGAIN), deadline)
        try:
            return _id_in(connection.ask(f"{_EXPLAIN} EXECUTE {_AGAIN}{nulls}", deadline))
        finally:
            if not connection.closed:
                connection.ask(f"DEALLOCATE {_AGAIN}", deadline)
    except GatewayError as error:
        if connection.closed or error.sqlstate is None:
            raise
        return None


def _id_in(rows: list[tuple[str | None, ...]]) -> str | None:
    """Return the id in what EXPLAIN says, as text: it has 64 bits, which JSON's readers may round."""
    ((text,),) = rows
    found = json.loads(text or "[{}]")[0].get("Query Identifier")
    return None if found is None else str(found)
