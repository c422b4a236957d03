"""Tells whether a query can leave session state behind, or write behind our back.

A harmless query needs neither the read-only prefix in front of it nor a wipe of the session after it. What is not
known to be harmless is not.
"""

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Access, Query
from gateway.catalogue.wrapping import quoted
from gateway.postgres.connection import Connection

_VOLATILE = frozenset(
    {"random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "pg_sleep"}
)
"""Builtin functions that are volatile and do nothing to the session."""
_IN_WRITES = frozenset({"nextval"})
"""What it leaves, ``Connection`` wipes in front of the only queries that can see it."""
_GRAMMAR = frozenset({"array", "coalesce", "greatest", "least", "nullif", "row", "varying"})
"""Words in front of a parenthesis, in what the server prints of expressions, that call no function."""

_LOOK = r"""
WITH RECURSIVE named(oid) AS (SELECT to_regclass(name)::oid FROM unnest(ARRAY[{relations}]::text[]) AS r(name)),
touched(oid) AS (
    SELECT oid FROM named UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN touched t ON i.inhparent = t.oid),
expressions(text) AS (
    SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d JOIN touched t ON d.adrelid = t.oid
    UNION ALL
    SELECT pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k JOIN touched t ON k.conrelid = t.oid
     WHERE k.contype = 'c'),
called(name) AS (
    SELECT unnest(ARRAY[{functions}]::text[])
    UNION
    SELECT lower(word[1]) FROM expressions, regexp_matches(text, '([[:alnum:]_$."]+)\(', 'g') AS word WHERE {writes})
SELECT (NOT EXISTS (SELECT FROM called WHERE name <> ALL (ARRAY[{known}]) AND NOT coalesce((
            SELECT bool_and(p.provolatile <> 'v' AND p.pronamespace = 'pg_catalog'::regnamespace)
              FROM pg_catalog.pg_proc p WHERE p.proname = called.name), false))
    AND NOT EXISTS (SELECT FROM touched t WHERE NOT coalesce((
            SELECT c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
               AND NOT ({writes} AND (c.relhasrules OR EXISTS (
                       SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)))
              FROM pg_catalog.pg_class c WHERE c.oid = t.oid), false))
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
                     WHERE p.provolatile = 'v' AND o.oid >= {first_of_users})
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
                     WHERE p.provolatile = 'v' AND c.oid >= {first_of_users}))::text
"""
_FIRST_OF_USERS = 16384
"""OIDs from here on were created after initdb (FirstNormalObjectId)."""


def is_harmless(connection: Connection, query: Query, deadline: float) -> bool:
    """Every function builtin and not volatile, every relation a plain table without policies.

    The tables of a write must have neither triggers nor rules, nor other functions in their defaults and checks. And
    no operator or cast that somebody made may be volatile, whatever the query. Raises a GatewayError.
    """
    statement = query.statement
    writes = query.access is Access.WRITE
    known = _VOLATILE | _GRAMMAR | (_IN_WRITES if writes else frozenset())
    relations = [".".join(map(quoted, name.split("."))) for name in statement.relations]
    look = _LOOK.format(
        relations=", ".join(map(literal, relations)),
        functions=", ".join(literal(name.removeprefix("pg_catalog.")) for name in statement.functions),
        known=", ".join(map(literal, sorted(known))),
        writes="true" if writes else "false",
        first_of_users=_FIRST_OF_USERS,
    )
    return connection.ask(look, deadline)[0][0] == "true"
