"""The statements around a query with which PostgreSQL itself writes the JSON; pure text, no parser.

Only the gateway's own names appear here: ``_gw`` for the query, ``_gw_c`` for its column where that may have any name.

SECURITY: functions, types and operators are named with their schema, as somebody who may create objects in a schema of
the search path could put others in their place.
"""

from collections.abc import Sequence

from gateway.catalogue.query import Kind, Statement, Text

ALIAS = "_gw"
"""Name of the query in what is put around it; a query may not use it for a relation of its own."""

ACCUMULATOR = "gateway.acc"
"""A setting of the transaction in which results pile up."""
TOTAL = "gateway.total"
"""One in which the rows are counted that were touched."""
AFTER_COUNT = b"\x1f"
AFTER_RESULT = b"\x1e"

_COUNT = "pg_catalog.count(*)"
_CONCAT = " OPERATOR(pg_catalog.||) "
_ALONE = f"WITH {ALIAS} AS ("
_JOINED = f"coalesce(pg_catalog.string_agg({ALIAS}.{ALIAS}_c, ','), '')"
"""The texts of what ``_as_source`` names; its order is that of an ORDER BY inside."""


def joined(*parts: str | Text) -> Text:
    """The parts one after the other, as one text."""
    pieces = [""]
    references: list[int] = []
    for part in parts:
        if isinstance(part, str):
            pieces[-1] += part
            continue
        pieces[-1] += part.pieces[0]
        pieces.extend(part.pieces[1:])
        references.extend(part.references)
    return Text(tuple(pieces), tuple(references))


def quoted(identifier: str) -> str:
    """An identifier as SQL."""
    escaped = identifier.replace('"', '""')
    return f'"{escaped}"'


def wrap(
    kind: Kind,
    statement: Statement,
    *,
    max_rows: int | None = None,
    max_bytes: int | None = None,
    columns: Sequence[tuple[str, str]] | None = None,
    expected: str = "",
) -> Text | None:
    """The statement that answers a query with JSON text; None where it can only run as written.

    ``one`` and ``scalar`` answer a row with the text, or none; ``many`` always one row: the number of the query's
    rows, and their texts joined by commas, which is NULL where there are more than ``max_rows`` or ``max_bytes``. It
    asks for one row more than ``max_rows``, so that too many can be told from just enough. ``columns`` are all columns
    of the result, whose names must differ unless it is a scalar's, with the cast each needs (``""``,
    ``"::pg_catalog.text"``): with it, values such as int8 become JSON strings. They are taken by name: where one is
    gone the statement fails. ``expected``: a SELECT to be analysed with it, and never run. It is left out where the
    query has no WITH around it, or one of its own, whose names would hide those of relations.
    """
    if kind is Kind.EXEC or statement.source is None:
        return None
    selection = _selection(kind, statement.source, max_rows, columns)
    if kind is Kind.MANY:
        # PERF: fetched row by row, 1000 rows of 12 columns cost the worker 1.7 times the processor time.
        selection = (f"SELECT {_COUNT}, {_within(max_rows, max_bytes)}", " FROM ", *_as_source(selection))
    return joined(*_lead(statement.prelude, expected), *selection)


def accumulate(
    kind: Kind,
    statement: Statement,
    *,
    max_rows: int | None = None,
    columns: Sequence[tuple[str, str]] | None = None,
    expected: str = "",
) -> Text | None:
    """The statement that adds what ``wrap`` answers to the setting ``ACCUMULATOR``; None where it cannot.

    Of several statements in one message only the last one's result comes back: so each leaves the number of its
    rows, ``AFTER_COUNT``, their texts joined by commas, and ``AFTER_RESULT``, where the last one can read them all.
    JSON text has neither character. An ``exec`` leaves the number of rows touched.
    """
    if kind is Kind.EXEC:
        if statement.counted is None:
            return None
        added = ""
        lead, source = _lead(statement.counted, expected), joined(ALIAS)
    elif statement.source is None:
        return None
    else:
        added = f"{_CONCAT}{_JOINED}"
        lead = _lead(statement.prelude, expected)
        source = joined(*_as_source(_selection(kind, statement.source, max_rows, columns)))
    ends = [f"pg_catalog.chr({end[0]})" for end in (AFTER_COUNT, AFTER_RESULT)]
    before = f"pg_catalog.current_setting('{ACCUMULATOR}')"
    left = f"{before}{_CONCAT}{_COUNT}::pg_catalog.text{_CONCAT}{ends[0]}{added}{_CONCAT}{ends[1]}"
    return joined(*lead, "SELECT ", f"pg_catalog.set_config('{ACCUMULATOR}', {left}, true)", " FROM ", source)


def total(statement: Statement, *, expected: str = "") -> Text | None:
    """The statement that adds the number of the rows it touches to the setting ``TOTAL``; None where it cannot.

    Of several statements in one message only the last one's result comes back.
    """
    lead = statement.counted or statement.prelude
    if lead is None:
        return None
    before = f"pg_catalog.current_setting('{TOTAL}')::pg_catalog.int8"
    added = f"({before} OPERATOR(pg_catalog.+) {_COUNT})::pg_catalog.text"
    chosen = f"pg_catalog.set_config('{TOTAL}', {added}, true)"
    return joined(*_lead(lead, expected), "SELECT ", chosen, " FROM ", ALIAS)


def _within(max_rows: int | None, max_bytes: int | None) -> str:
    """The joined texts, or NULL where there is too much of them: what is refused is not sent.

    PERF: equal aggregates are computed once.
    """
    limits = [] if max_rows is None else [f"{_COUNT} OPERATOR(pg_catalog.<=) {max_rows}"]
    if max_bytes is not None:
        limits.append(f"pg_catalog.octet_length({_JOINED}) OPERATOR(pg_catalog.<=) {max_bytes}")
    return f"CASE WHEN {' AND '.join(limits)} THEN {_JOINED} END" if limits else _JOINED


def _as_source(selection: Sequence[str | Text]) -> tuple[str | Text, ...]:
    return ("(", *selection, f") AS {ALIAS}({ALIAS}_c)")


def _lead(lead: Text | None, expected: str) -> tuple[str | Text, ...]:
    if lead is None:
        return ()
    # NOTE: what nothing refers to is analysed, and its relations are locked, but it is neither planned nor run.
    has_room = lead.pieces[0].startswith(_ALONE)
    return (lead, f", {ALIAS}_t AS ({expected}) " if expected and has_room else " ")


def _selection(
    kind: Kind, source: Text, max_rows: int | None, columns: Sequence[tuple[str, str]] | None
) -> tuple[str | Text, ...]:
    """The SELECT of one column of JSON text, one row a row."""
    if kind is Kind.SCALAR:
        return _scalar(source, columns)
    limit = 1 if kind is Kind.ONE else None if max_rows is None else max_rows + 1
    tail = "" if limit is None else f" LIMIT {limit}"
    chosen = recast(source, columns) if columns else source
    return (f"SELECT pg_catalog.row_to_json({ALIAS}.*)::pg_catalog.text", " FROM ", chosen, f" AS {ALIAS}{tail}")


def _scalar(source: Text, columns: Sequence[tuple[str, str]] | None) -> tuple[str | Text, ...]:
    # NOTE: a name that the query's second column could have as well would be ambiguous.
    cast = columns[0][1] if columns else ""
    value = f"coalesce(pg_catalog.to_json({ALIAS}.{ALIAS}_c{cast})::pg_catalog.text, 'null')"
    return ("SELECT ", value, " FROM ", source, f" AS {ALIAS}({ALIAS}_c) LIMIT 1")


def recast(source: Text, columns: Sequence[tuple[str, str]]) -> Text:
    """A source once more, with some columns cast."""
    chosen = ", ".join(f"{ALIAS}.{quoted(name)}{cast} AS {quoted(name)}" for name, cast in columns)
    return joined("(SELECT ", chosen, " FROM ", source, f" AS {ALIAS})")
