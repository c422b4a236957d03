"""Reads types from the server's catalogs, with all that they are made of."""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.catalogue.types import Family, Type
from gateway.catalogue.wrapping import quoted
from gateway.postgres.qualifying import qualified
from gateway.postgres.session import Session

_FAMILIES = {
    16: Family.BOOL,
    20: Family.INTEGER,
    21: Family.INTEGER,
    23: Family.INTEGER,
    700: Family.FLOAT,
    701: Family.FLOAT,
    1700: Family.NUMERIC,
    17: Family.BYTEA,
    114: Family.JSON,
    3802: Family.JSON,
    2950: Family.UUID,
}
_VECTORS = (22, 30)
"""int2vector and oidvector: subscripted like arrays, written like nothing else."""

_ROWS = qualified("""
SELECT pg_catalog.json_build_object(
    'oid', t.oid::int8, 'name', pg_catalog.format_type(t.oid, NULL), 'schema', n.nspname, 'own', t.typname,
    'kind', t.typtype, 'category', t.typcategory, 'length', t.typlen, 'base', t.typbasetype::int8,
    'delimiter', t.typdelim,
    'element', CASE WHEN t.typlen = -1 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
                    THEN t.typelem::int8 ELSE 0 END,
    'labels', (SELECT coalesce(pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
                 FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid),
    'fields', (SELECT coalesce(
                pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.atttypid::int8) ORDER BY a.attnum), '[]')
                 FROM pg_catalog.pg_attribute a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    'relation', t.typrelid::int8, 'usable', pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
    'expressions', ARRAY(SELECT e::text FROM (
        SELECT t.typdefaultbin AS e UNION ALL
        SELECT k.conbin FROM pg_catalog.pg_constraint k WHERE k.conrelid = 0 AND k.contypid = t.oid) AS x
         WHERE e IS NOT NULL),
    'foreign_code', t.oid >= 16384 AND (
        t.typtype = ANY ('{{r,m}}')
        OR t.typtype = 'b' AND t.typsubscript <> 'pg_catalog.array_subscript_handler'::regproc
        OR EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castsource = t.oid AND c.castfunc >= 16384)
        OR EXISTS (SELECT FROM pg_catalog.pg_opclass o WHERE o.opcintype = t.oid AND o.oid >= 16384)))::text
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid = ANY ('{{{oids}}}')
""")


class Row(msgspec.Struct):
    """A row of ``pg_type`` with what belongs to it."""

    oid: int
    name: str
    schema: str
    own: str
    kind: str
    category: str
    length: int
    base: int
    delimiter: str
    element: int
    labels: list[str]
    fields: list[tuple[str, int]]
    relation: int
    """Of a composite, the entry in ``pg_class`` that its attributes belong to."""
    usable: bool
    """Whether our role may name it, which it must to prepare a statement with such a parameter."""
    expressions: list[str]
    """Trees of a domain's default and checks."""
    foreign_code: bool
    """Whether its values may be read, compared, converted or written by functions that users have made."""

    @property
    def parts(self) -> list[int]:
        """The types that it is made of."""
        return [oid for oid in (self.base, self.element, *(oid for _, oid in self.fields)) if oid]


class TypeBook:
    """Types by OID, read as they are asked for and kept. OIDs are the same on all servers of one cluster."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}

    def read(self, connection: Session, oids: Iterable[int], deadline: float) -> None:
        """Read these types and whatever they contain; raises a GatewayError."""
        missing = {oid for oid in oids if oid and oid not in self._rows}
        while missing:
            sql = _ROWS.format(oids=", ".join(map(str, sorted(missing))))
            found = [msgspec.json.decode(row[0] or "", type=Row) for row in connection.ask(sql, deadline)]
            self._rows |= {row.oid: row for row in found}
            missing = {part for row in found for part in row.parts} - self._rows.keys()

    def row(self, oid: int) -> Row | None:
        """What was read of this OID; None if it is no type."""
        return self._rows.get(oid)

    def type(self, oid: int) -> Type:
        """The type of this OID; KeyError if it was not read."""
        row = self._rows[oid]
        base = row
        while base.kind == "d":
            base = self._rows[base.base]
        parts: dict[str, Any] = {"family": _family(base)}
        match parts["family"]:
            case Family.INTEGER:
                parts["size"] = base.length
            case Family.ARRAY:
                parts["element"] = self.type(base.element)
            case Family.COMPOSITE:
                parts["fields"] = tuple((name, self.type(field)) for name, field in base.fields)
            case Family.ENUM:
                parts["labels"] = tuple(base.labels)
        simple = row.schema == "pg_catalog" and row.own.isidentifier()
        sql = f"pg_catalog.{row.own}" if simple else f"{quoted(row.schema)}.{quoted(row.own)}"
        return Type(name=row.name, sql=sql, delimiter=base.delimiter, oid=oid, **parts)


def _family(row: Row) -> Family:
    if row.oid in _FAMILIES:
        return _FAMILIES[row.oid]
    if row.kind == "e":
        return Family.ENUM
    if row.kind == "c":
        return Family.COMPOSITE
    if row.element and row.oid not in _VECTORS:
        return Family.ARRAY
    return Family.TEXT if row.category == "S" else Family.OTHER
