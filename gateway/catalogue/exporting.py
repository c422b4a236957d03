"""The statements with which PostgreSQL writes each row of a query as a line of NDJSON or CSV, or one value raw.

SECURITY: functions, types and operators are named with their schema, as in ``wrapping``.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from gateway.catalogue.query import Text
from gateway.catalogue.types import Column, Family, Type
from gateway.catalogue.wrapping import ALIAS, joined, quoted


class Layout(StrEnum):
    """How rows are written."""

    NDJSON = "ndjson"
    CSV = "csv"


class Format(msgspec.Struct, frozen=True):
    """What a caller wants rows as."""

    layout: Layout
    has_header: bool = True
    """Whether a first record has the columns' names (CSV)."""
    delimiter: str = ","
    """One of ``DELIMITERS`` (CSV)."""

    @property
    def line_end(self) -> bytes:
        """What ends each line."""
        return b"\n" if self.layout is Layout.NDJSON else b"\r\n"

    def header(self, columns: Sequence[Column]) -> bytes:
        """The first record with its line end, or nothing."""
        if self.layout is Layout.NDJSON or not self.has_header:
            return b""
        return self.delimiter.join(_csv_name(column.name) for column in columns).encode() + self.line_end


DELIMITERS = ",;|\t"
"""None of them is in a value that is written without quotes."""

FIRST_OWN_OID = 16384
"""Types from here on are none of PostgreSQL's own."""
_JSON = 114
_ARGUMENTS = 40
"""Columns in one call of concat, which takes 100 arguments."""
_PLAIN = frozenset({Family.INTEGER, Family.FLOAT, Family.NUMERIC, Family.UUID, Family.BYTEA})
_PLAIN_TYPES = frozenset(
    f"pg_catalog.{name}" for name in ("date", "time", "timetz", "timestamp", "timestamptz", "interval", "oid", "pg_lsn")
)
"""Of other families, what no text of needs quotes."""
_TEXTS = frozenset(f"pg_catalog.{name}" for name in ("text", "varchar", "name", "json", "jsonb"))
_AND = " OPERATOR(pg_catalog.||) "


def lines(
    wanted: Format, source: Text, columns: Sequence[Column], *, casts: Sequence[str] = (), max_rows: int | None = None
) -> Text:
    """The statement that answers each row of ``source`` as the text of one line, without its end.

    ``casts``: what to cast each column by before JSON is made of it; none: nothing is cast. It asks for one row more
    than ``max_rows``. Columns are taken by their place: whoever runs it has to see first that they are these.
    """
    limit = "" if max_rows is None else f" LIMIT {max_rows + 1}"
    names = [f"{ALIAS}_{place}" for place in range(len(columns))]
    alias = f" AS {ALIAS}({', '.join(names)})" if names else f" AS {ALIAS}"
    if wanted.layout is Layout.CSV:
        line = _record(
            [_cell(f"{ALIAS}.{name}", column.type) for name, column in zip(names, columns, strict=True)], wanted
        )
        return joined(f"SELECT {line}", " FROM ", source, f"{alias}{limit}")
    if any(casts):
        chosen = ", ".join(
            f"{ALIAS}.{name}{cast} AS {quoted(column.name)}"
            for name, cast, column in zip(names, casts, columns, strict=True)
        )
        source = joined(f"(SELECT {chosen}", " FROM ", source, f"{alias})")
    line = f"pg_catalog.row_to_json({ALIAS}.*)::pg_catalog.text"
    if any(_may_have_line_ends(column.type) for column in columns):
        # PERF: it halves what the server writes in a second.
        line = f"pg_catalog.translate({line}, pg_catalog.concat(pg_catalog.chr(10), pg_catalog.chr(13)), '  ')"
    return joined(f"SELECT {line}", " FROM ", source, f" AS {ALIAS}{limit}")


def look(source: Text) -> Text:
    """The statement that answers no row, and so tells what columns there are."""
    return joined("SELECT * FROM ", source, f" AS {ALIAS} LIMIT 0")


def raw(source: Text, column: Type, max_bytes: int) -> Text:
    """The statement that answers how many values there are (1, or 0 for NULL), and the first as text, bytea in hex.

    A value of more than ``max_bytes`` is not sent: in the place of its text is NULL.
    """
    value = f"{ALIAS}.{ALIAS}_c"
    text = f"pg_catalog.encode({value}, 'hex')" if column.family is Family.BYTEA else f"{value}::pg_catalog.text"
    is_short = f"pg_catalog.octet_length({value}) OPERATOR(pg_catalog.<=) {max_bytes}"
    selected = f"pg_catalog.num_nonnulls({value}), CASE WHEN {value} IS NULL THEN '' WHEN {is_short} THEN {text} END"
    return joined(f"SELECT {selected}", " FROM ", source, f" AS {ALIAS}({ALIAS}_c) LIMIT 1")


def _may_have_line_ends(type_: Type) -> bool:
    """Whether the JSON of such a value may have line ends outside of strings: json is kept as it was written.

    A type of somebody else's may have a cast to json, which is used then.
    """
    if type_.element is not None:
        return _may_have_line_ends(type_.element)
    if type_.fields:
        return any(_may_have_line_ends(field) for _, field in type_.fields)
    return type_.oid == _JSON or (type_.family is Family.OTHER and type_.oid >= FIRST_OWN_OID)


def _record(cells: Sequence[str], wanted: Format) -> str:
    """The cells with delimiters between them; NULL is an empty cell."""
    between = f", '{wanted.delimiter}', "
    parts = [
        f"pg_catalog.concat({between.join(cells[begin : begin + _ARGUMENTS])})"
        for begin in range(0, len(cells), _ARGUMENTS)
    ]
    return f"{_AND}'{wanted.delimiter}'{_AND}".join(parts) or "''::pg_catalog.text"


def _cell(value: str, type_: Type) -> str:
    """One value as text, in quotes unless no value of its type needs any (RFC 4180)."""
    if type_.family in _PLAIN or type_.sql in _PLAIN_TYPES:
        return value
    if type_.family is Family.BOOL:
        return f"{value}::pg_catalog.text"
    if type_.sql in _TEXTS or type_.family in (Family.ARRAY, Family.ENUM):
        return _in_quotes(f"{value}::pg_catalog.text")
    # NOTE: not by a cast: it strips the spaces of character(n), and may be somebody's own function.
    quotes = _in_quotes(f"pg_catalog.format('%s', {value})")
    return f"CASE WHEN pg_catalog.num_nulls({value}) OPERATOR(pg_catalog.=) 0 THEN {quotes} END"


def _in_quotes(text: str) -> str:
    return f"""('"'{_AND}pg_catalog.replace({text}, '"', '""'){_AND}'"')"""


def _csv_name(name: str) -> str:
    if name and not any(character in name for character in f'"\r\n{DELIMITERS}') and name == name.strip():
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
