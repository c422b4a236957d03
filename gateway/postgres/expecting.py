"""What a write expects of the database: that its parameters would still be given the types they were learnt with.

A prepared parameter keeps its type whatever becomes of the column that it is written to, and the server converts
without a word: a timestamp loses its offset, a real is stored as 0.10000000149. So with every write goes a SELECT that
names the columns it uses, each as argument of a function that takes it with its old type alone. It is a part of the
write's own statement where that is possible, and else a statement in front of it, in the same message. It never runs;
but whenever the server analyses the write anew, because a table has changed, it analyses the SELECT as well and refuses
both. The tables are locked against migrations from then until the transaction ends. No privilege is needed, as that is
asked for only when something runs.

What nothing locks is looked at behind the write, before its COMMIT: a migration that the write has seen is seen then.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Access, Query, Verb
from gateway.catalogue.types import Type
from gateway.catalogue.values import array_text
from gateway.catalogue.wrapping import quoted
from gateway.postgres.proving import Proof
from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session

_RELATIONS = qualified("""
SELECT pg_catalog.json_build_object('name', n.name, 'oid', c.oid::pg_catalog.int8, 'columns', pg_catalog.json_agg(
           pg_catalog.json_build_array(a.attnum, a.attname, pg_catalog.format('%I.%I', s.nspname, t.typname),
                                       e.oid IS NOT NULL)
           ORDER BY a.attnum))::pg_catalog.text
  FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS n(name)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(n.name)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  JOIN pg_catalog.pg_namespace s ON s.oid = t.typnamespace AND pg_catalog.has_schema_privilege(s.oid, 'USAGE')
  LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
 GROUP BY n.name, c.oid ORDER BY n.name
""")
_PROCEDURES = qualified("""
SELECT p.oid::pg_catalog.int8::pg_catalog.text FROM pg_catalog.pg_proc p
 WHERE p.prokind = 'p' AND p.proname = ANY (ARRAY[{names}]::pg_catalog.name[])
   AND (pg_catalog.pg_function_is_visible(p.oid)
        OR p.pronamespace::pg_catalog.regnamespace::pg_catalog.text = ANY (ARRAY[{schemas}]::pg_catalog.text[]))
 ORDER BY p.oid
""")
_MORE_ATTRIBUTES = qualified(
    "SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid"
    " WHERE t.oid = '{oid}'::pg_catalog.oid AND a.attnum > '0'::pg_catalog.int2 AND NOT a.attisdropped"
    " AND a.attname <> ALL ({names}::pg_catalog.name[])"
)
_EQUALS = "OPERATOR(pg_catalog.=)"


class _Relation(msgspec.Struct):
    name: str
    oid: int
    columns: list[tuple[int, str, str, bool]]
    """Number, name and type; and whether that is an array. Without those of types that our role may not name."""


def expectations(
    connection: Session, query: Query, types: Sequence[Type], proof: Proof, deadline: float
) -> tuple[str, str]:
    """What is expected of columns and what is to be checked behind a query: see ``Signature``.

    Nothing for a read, or without parameters. Raises a GatewayError.
    """
    if query.access is not Access.WRITE or not types:
        return "", ""
    relations = [relation for relation in _used(connection, query, proof, deadline) if relation.columns]
    conditions = list(_of_composites(types))
    functions = _procedures(connection, query, deadline) if query.statement.verb is Verb.CALL else proof.functions
    conditions += (f"pg_catalog.pg_get_function_arguments('{oid}') IS NOT NULL" for oid in sorted(functions))
    return _of_columns(relations), " AND ".join(conditions)


def _used(connection: Session, query: Query, proof: Proof, deadline: float) -> list[_Relation]:
    """Relations as the text names them, which is how the server will find them again, with the columns it uses."""
    names = [".".join(map(quoted, name.split("."))) for name in query.statement.relations]
    if not names:
        return []
    rows = connection.ask(_RELATIONS.format(names=", ".join(map(literal, names))), deadline)
    relations = [msgspec.json.decode(text or "", type=_Relation) for (text,) in rows]
    for relation in relations:
        numbers = proof.columns.get(relation.oid, {0})
        relation.columns = [column for column in relation.columns if 0 in numbers or column[0] in numbers]
    return relations


def _of_columns(relations: Sequence[_Relation]) -> str:
    """The SELECT that is refused where a column has another type, or is gone."""
    if not relations:
        return ""
    calls = [
        _takes(f"gw_{place}.{quoted(name)}", type_, is_array=is_array)
        for place, relation in enumerate(relations)
        for _, name, type_, is_array in relation.columns
    ]
    sources = [f"{relation.name} AS gw_{place}" for place, relation in enumerate(relations)]
    return f"SELECT {', '.join(calls)} FROM {', '.join(sources)}"


def _takes(column: str, type_: str, *, is_array: bool) -> str:
    """A call that needs two arrays of one type. ``array_fill`` makes an array of anything but an array.

    A domain over that array is taken as well: its constraints are checked where the value is stored.
    """
    if is_array:
        return f"pg_catalog.array_eq(NULL::{type_}, {column})"
    return f"pg_catalog.array_eq(ARRAY[NULL::{type_}], pg_catalog.array_fill({column}, NULL))"


def _of_composites(types: Iterable[Type]) -> Iterator[str]:
    """Attributes of row types, whose values are written by position."""
    for type_ in types:
        if type_.element is not None:
            yield from _of_composites([type_.element])
        for name, field in type_.fields:
            yield _has_type(f"(NULL::{type_.sql}).{quoted(name)}", field.oid)
        if type_.fields:
            names = literal(array_text([name for name, _ in type_.fields], ","))
            yield f"NOT EXISTS ({_MORE_ATTRIBUTES.format(oid=type_.oid, names=names)})"
        yield from _of_composites(field for _, field in type_.fields)


def _has_type(expression: str, oid: int) -> str:
    return f"pg_catalog.pg_typeof({expression}) {_EQUALS} '{oid}'::pg_catalog.regtype"


def _procedures(connection: Session, query: Query, deadline: float) -> Iterable[int]:
    """Procedures that the names called may mean."""
    parts = [name.rpartition(".") for name in query.statement.functions]
    names = ", ".join(literal(name) for *_, name in parts)
    schemas = ", ".join(literal(schema) for schema, *_ in parts)
    rows = connection.ask(_PROCEDURES.format(names=names, schemas=schemas), deadline)
    return [int(oid or 0) for (oid,) in rows]
