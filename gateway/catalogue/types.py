"""PostgreSQL types as immutable values: what a parameter takes, what a column gives."""

from enum import StrEnum

import msgspec

from gateway.catalogue.dependencies import Dependencies


class Family(StrEnum):
    """How a JSON value becomes a literal of a type."""

    BOOL = "bool"
    INTEGER = "integer"  # int2, int4, int8: JSON integers within bounds
    FLOAT = "float"  # float4, float8: JSON numbers, and "NaN", "Infinity", "-Infinity"
    NUMERIC = "numeric"  # JSON numbers of any length as their own text, and the same words
    TEXT = "text"  # text, varchar, bpchar, name, citext …
    UUID = "uuid"
    BYTEA = "bytea"  # "\\x…"
    JSON = "json"  # json, jsonb: any JSON value as its own text
    ENUM = "enum"
    ARRAY = "array"
    COMPOSITE = "composite"
    OTHER = "other"  # a JSON string in the type's own input form (date, interval, ranges, inet, money …)


class Type(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A type as the server describes it; a domain is its base type with the domain's own name."""

    name: str
    """As people write it: ``integer``, ``timestamp with time zone``, ``text[]``, ``shop.mood``."""
    sql: str
    """Schema-qualified and quoted, safe to put into SQL whatever the search_path: ``pg_catalog._int4``."""
    family: Family
    size: int = 0
    """Bytes of an INTEGER (2, 4, 8); 0 elsewhere."""
    element: "Type | None" = None
    """Of an ARRAY."""
    delimiter: str = ","
    """Between the elements of an array of this type (``pg_type.typdelim``)."""
    fields: tuple[tuple[str, "Type"], ...] = ()
    """Of a COMPOSITE, in order."""
    labels: tuple[str, ...] = ()
    """Of an ENUM, in order."""
    oid: int = 0

    @property
    def is_big(self) -> bool:
        """Whether its numbers may have more digits than a double keeps: ``Prefer: bigint=string`` is about these."""
        return self.family is Family.NUMERIC or (self.family is Family.INTEGER and self.size == 8)


INTEGER = Type(name="integer", sql="pg_catalog.int4", family=Family.INTEGER, size=4, oid=23)
TEXT = Type(name="text", sql="pg_catalog.text", family=Family.TEXT, oid=25)
"""What the gateway's own parameters are of."""


class Column(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One column of a result."""

    name: str
    type: Type


class Form(StrEnum):
    """How a query is run."""

    WRAPPED = "wrapped"
    """Prepared with PostgreSQL writing the JSON around it."""
    PLAIN = "plain"
    """Prepared as written; the command tag counts, rows (if any) are encoded in a second look."""
    CALL = "call"
    """Not prepared; literals in place, inside an explicit transaction."""


class Signature(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What the server said of a query: learnt once per node, the same for all its connections."""

    parameters: tuple[Type, ...]
    columns: tuple[Column, ...]
    form: Form
    unproven: str = ""
    """Why it is not proven that the query leaves nothing in its session and writes nothing it does not say; empty
    where that is proven."""
    dependencies: Dependencies = Dependencies()
    """What to watch, as this signature is true only until it changes."""
    expected: str = ""
    """For a write: a SELECT that the server takes only as long as columns have the types they had; not to be run."""
    checked: str = ""
    """For a write: a condition that must hold behind it, before it is committed."""
    primary_only: bool = False
    """Whether a standby cannot run it, as for reads of unlogged tables."""
    varies: bool = False
    """Whether its result may be another one each time, though no data changes: it calls ``random``, say."""
    query_id: str | None = None
    """What ``pg_stat_statements`` calls it on the server that was asked; None where that is not known."""

    @property
    def harmless(self) -> bool:
        """Whether it needs neither a read-only transaction around it nor a reset of the session after it."""
        return not self.unproven
