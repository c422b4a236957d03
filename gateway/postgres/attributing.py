"""Finds out which arguments of a failed statement the server's input functions refuse, all of them at once."""

from collections.abc import Callable, Sequence

from gateway.catalogue.arguments import NULL, literal
from gateway.errors import ArgumentFault, GatewayError
from gateway.postgres import failures
from gateway.postgres.statement import Plan

Ask = Callable[[str], Sequence[tuple[str | None, ...]]]
"""Runs SQL of ours and gives its rows as text; raises a GatewayError."""

SOFT_ERRORS_SINCE = 160000
"""Server version from which ``pg_input_error_info`` looks at a value without raising."""


def refused_arguments(ask: Ask, plan: Plan, literals: Sequence[str], *, server_version: int) -> list[ArgumentFault]:
    """A fault for every argument that is no value of its type; none where it was not the arguments.

    The server must be outside of a transaction. Raises a GatewayError when the connection breaks.
    """
    given = [position for position, text in enumerate(literals) if text != NULL]
    if not given:
        return []
    found: dict[int, str] | None = None
    if server_version >= SOFT_ERRORS_SINCE:
        found = _all_at_once(ask, plan, literals, given)
    if found is None:
        found = _one_by_one(ask, plan, literals, given)
    return [
        failures.input_fault(plan.parameters[position], plan.types[position].name, sqlstate)
        for position, sqlstate in found.items()
    ]


def _all_at_once(ask: Ask, plan: Plan, literals: Sequence[str], given: Sequence[int]) -> dict[int, str] | None:
    looks = " UNION ALL ".join(
        f"SELECT '{position}', sql_error_code FROM pg_catalog.pg_input_error_info({literals[position]},"
        f" {literal(plan.types[position].sql)})"
        for position in given
    )
    try:
        rows = ask(looks)
    except GatewayError as error:
        if error.sqlstate is None:
            raise
        return None  # a type of an extension whose input raises all the same
    return {int(position or 0): sqlstate for position, sqlstate in rows if sqlstate is not None}


def _one_by_one(ask: Ask, plan: Plan, literals: Sequence[str], given: Sequence[int]) -> dict[int, str]:
    found = {}
    for position in given:
        try:
            ask(f"SELECT ({literals[position]}::{plan.types[position].sql}) IS NULL")
        except GatewayError as error:
            if error.sqlstate is None:
                raise
            found[position] = error.sqlstate
    return found
