"""What a write expects of the database: that its parameters would still be given the types they were learnt with.

A prepared parameter keeps its type whatever becomes of the column that it is written to, and the server converts
without a word: a timestamp loses its offset, a real is stored as 0.10000000149. So with every write goes, in its
transaction, a statement that fails where an expectation does not hold (``guarding``). In front of it where that is
enough: a table named there is locked against migrations until the transaction ends, and its columns are analysed as
they are at that moment. Behind it for what nothing locks: a migration that the write has seen is seen then too.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Access, Query, Verb
from gateway.catalogue.types import Expectation, Type
from gateway.catalogue.values import array_text
from gateway.catalogue.wrapping import quoted
from gateway.postgres.proving import Proof
from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session

_RELATIONS = qualified("""
SELECT pg_catalog.json_build_object('name', n.name, 'oid', c.oid::pg_catalog.int8, 'columns', pg_catalog.json_agg(
           pg_catalog.json_build_array(a.attnum, a.attname, a.atttypid::pg_catalog.int8,
                                       pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'))
           ORDER BY a.attnum))::pg_catalog.text
  FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS n(name)
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(n.name)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY n.name, c.oid ORDER BY n.name
""")
_HASH = """(
SELECT pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(attrelid, attnum, attname, atttypid), 0))
  FROM pg_catalog.pg_attribute WHERE NOT attisdropped AND ({columns}))"""
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
    columns: list[tuple[int, str, int, bool]]
    """Number, name and type; and whether our role may read it."""


def expectations(
    connection: Session, query: Query, types: Sequence[Type], proof: Proof, deadline: float
) -> tuple[Expectation | None, Expectation | None]:
    """What to check in front of a query and what behind it; nothing for a read, or without parameters.

    Raises a GatewayError.
    """
    if query.access is not Access.WRITE or not types:
        return None, None
    relations = [relation for relation in _used(connection, query, proof, deadline) if relation.columns]
    visible = [relation for relation in relations if all(may_read for *_, may_read in relation.columns)]
    hidden = [relation for relation in relations if relation not in visible]
    conditions = list(_of_composites(types))
    functions = _procedures(connection, query, deadline) if query.statement.verb is Verb.CALL else proof.functions
    conditions += (f"pg_catalog.pg_get_function_arguments('{oid}') IS NOT NULL" for oid in sorted(functions))
    if hidden:
        hashed = _HASH.format(columns=" OR ".join(map(_rows, hidden)))
        ((now,),) = connection.ask(f"SELECT {hashed}::pg_catalog.text", deadline)
        conditions.append(f"{hashed} {_EQUALS} '{now}'::pg_catalog.int8")
    return _of_columns(visible), Expectation(" AND ".join(conditions)) if conditions else None


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


def _rows(relation: _Relation) -> str:
    numbers = ",".join(str(number) for number, *_ in relation.columns)
    return qualified(f"attrelid = '{relation.oid}'::oid AND attnum = ANY ('{{{numbers}}}'::int2[])")


def _of_columns(relations: Sequence[_Relation]) -> Expectation | None:
    if not relations:
        return None
    conditions = [
        _has_type(f"gw_{place}.{quoted(name)}", oid)
        for place, relation in enumerate(relations)
        for _, name, oid, _ in relation.columns
    ]
    joins = [f"LEFT JOIN {relation.name} AS gw_{place} ON false" for place, relation in enumerate(relations)]
    return Expectation(" AND ".join(conditions), f" {' '.join(joins)}")


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
