"""The statement that answers many calls of a query at once; pure text, no parser.

Only names of the gateway's own appear here, all of which begin with ``_gw_``: the query's are not captured by them.
"""

from collections.abc import Sequence

from gateway.catalogue.query import Text

CALLS = "_gw_b"
"""Name of the calls, whose arguments are its columns ``_gw_a1`` …; ``_gw_n`` is their number."""


def join(answer: Text, types: Sequence[str]) -> str:
    """The statement that gives a row for each of many calls, in their order, as ``answer`` gives one for one call.

    Its parameters are arrays of text, one for each of the query's parameters, with the calls' arguments one behind
    the other. ``types`` are the types of the query's own parameters, at least one, without modifiers. For a call to
    which ``answer`` gives no row all columns are NULL.
    """
    columns = [f"_gw_a{number}" for number in range(1, len(types) + 1)]
    arrays = ", ".join(f"pg_catalog.unnest(${number})" for number in range(1, len(types) + 1))
    # NOTE: an argument is cast here, once, and not where the query uses it, for each row that it looks at. The ORDER
    # BY keeps the planner from moving it there; it costs no sort, as the rows come in this order.
    casts = ", ".join(f"_gw_u.{column}::{type_} AS {column}" for column, type_ in zip(columns, types, strict=True))
    unnested = f"ROWS FROM ({arrays}) WITH ORDINALITY AS _gw_u({', '.join(columns)}, _gw_n)"
    calls = f"(SELECT {casts}, _gw_u._gw_n FROM {unnested} ORDER BY _gw_u._gw_n) AS {CALLS}"
    one = answer.render(lambda _, parameter: f"{CALLS}.{columns[parameter]}")
    # NOTE: the condition is always true. It looks at every argument, so that also one that the query does not look at
    # fails where it is no value of its type.
    every = ", ".join(f"{CALLS}.{column}" for column in columns)
    condition = f"pg_catalog.num_nulls({every}) OPERATOR(pg_catalog.>=) 0"
    return f"SELECT _gw_r.* FROM {calls} LEFT JOIN LATERAL (\n{one}\n) AS _gw_r ON {condition} ORDER BY {CALLS}._gw_n"
