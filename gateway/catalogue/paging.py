"""The statements around a query that answer its rows in an order, and a page of them; pure text, no parser.

A page is found by the values of its key in the last row of the page before it, so that rows which are inserted or
deleted meanwhile shift nothing. NULL is last where a key ascends and first where it descends, as in PostgreSQL's own
ORDER BY. What comes after those values is selected in parts, each of which an index on the key can serve: the rows
whose first columns are beyond them (one comparison of rows, as far as the columns are sorted alike), and those that
are equal in some columns and beyond in the next, or NULL there.

SECURITY: operators are named with their schema where the type is PostgreSQL's own.
"""

from collections.abc import Iterator, Sequence

from gateway.catalogue.query import Order, Parameter, Query, Statement, Text
from gateway.catalogue.types import INTEGER, TEXT, Family, Type
from gateway.catalogue.wrapping import ALIAS, joined, quoted, recast

BETWEEN = b"\x1e"
"""Stands between the key of the last row and the rows; no JSON text has it."""
_ROW, _KEY = f"{ALIAS}_c", f"{ALIAS}_k"


def sorted_by(statement: Statement, key: Sequence[Order]) -> Statement:
    """The statement of a read, with its rows in this order."""
    if statement.source is None:
        raise ValueError("the statement cannot be selected from")
    bare = joined(f"SELECT {ALIAS}.*", " FROM ", statement.source, f" AS {ALIAS} ORDER BY {_order(key)}")
    return Statement(
        statement.verb,
        bare,
        source=joined("(\n", bare, "\n)"),
        functions=statement.functions,
        relations=statement.relations,
    )


def page(
    source: Text,
    key: Sequence[Order],
    types: Sequence[Type],
    *,
    size: int,
    after: Sequence[int | None] | None,
    max_bytes: int | None = None,
    columns: Sequence[tuple[str, str]] | None = None,
) -> Text:
    """The statement that answers one page: the number of its rows, and their texts.

    In front of the texts, and of ``BETWEEN``, is the key of the last row as a JSON list of texts, where more rows come
    behind it. ``types`` are those of the key's columns. ``size`` is the parameter that says how many rows a page has,
    ``after`` are those with the values of the key that the page comes after, None for NULL; None: it is the first.
    NULL takes the place of texts of more than ``max_bytes``. ``columns``: as ``wrapping.wrap`` takes them.
    """
    size_ = Text(("", ""), (size,))
    tail = joined(f" ORDER BY {_order(key)} LIMIT ", size_, " OPERATOR(pg_catalog.+) 1")
    conditions = [] if after is None else list(_beyond(key, types, after))
    parts = [
        joined("(SELECT ", f"{ALIAS}.* FROM ", source, f" AS {ALIAS} WHERE ", each, tail, ")") for each in conditions
    ]
    rows: list[str | Text] = [source] if after is None else ["(", parts[0]]
    for part in parts[1:]:
        rows += [" UNION ALL ", part]
    if after is not None:
        rows.append(")")
    chosen = joined("(SELECT ", f"{ALIAS}.* FROM ", *rows, f" AS {ALIAS}", tail, ")")
    texts = ", ".join(f"{_column(each)}::pg_catalog.text" for each in key)
    lines = joined(
        f"(SELECT pg_catalog.row_to_json({ALIAS}.*)::pg_catalog.text, ",
        f"pg_catalog.json_build_array({texts})::pg_catalog.text FROM ",
        recast(chosen, columns) if columns else chosen,
        f" AS {ALIAS}) AS {ALIAS}({_ROW}, {_KEY})",
    )
    count = "pg_catalog.count(*)"
    body = joined(f"pg_catalog.array_to_string((pg_catalog.array_agg({ALIAS}.{_ROW}))[1:", size_, "], ',')")
    last = joined(
        f"CASE WHEN {count} OPERATOR(pg_catalog.>) ",
        size_,
        f" THEN (pg_catalog.array_agg({ALIAS}.{_KEY}))[",
        size_,
        "] END",
    )
    whole = joined("pg_catalog.concat(", last, f", pg_catalog.chr({BETWEEN[0]}), ", body, ")")
    if max_bytes is not None:
        is_short = joined("pg_catalog.octet_length(", whole, f") OPERATOR(pg_catalog.<=) {max_bytes}")
        whole = joined("CASE WHEN ", is_short, " THEN ", whole, " END")
    return joined(f"SELECT LEAST({count}, ", size_, "), ", whole, " FROM ", lines)


def own_parameters(query: Query) -> list[tuple[Parameter, Type]]:
    """The parameters that ``@sort`` and ``@page`` add behind a query's own, with their types."""
    own = []
    if query.sorts:
        names = [sort.name for sort in query.sorts]
        chosen = Parameter(
            "sort", default=f'"{names[0]}"', constraints={"enum": names}, description="the order of rows"
        )
        own.append((chosen, TEXT))
    if query.page is not None:
        limits = {"minimum": 1, "maximum": query.page.most}
        size = Parameter("size", default=str(query.page.size), constraints=limits, description="rows of a page")
        own += [(size, INTEGER), (Parameter("cursor", default="null", description="`next` of the page before"), TEXT)]
    return own


def keys_of(query: Query) -> list[tuple[Order, ...]]:
    """What pages of a query are sorted by: of each sort, or of the page alone; none where there are no pages."""
    if query.page is None:
        return []
    return [sort.key for sort in query.sorts] or [query.page.key]


def is_own(type_: Type) -> bool:
    """Whether values of a type are compared by PostgreSQL's own operators."""
    return type_.sql.startswith("pg_catalog.") or type_.family is Family.ENUM


def _order(key: Sequence[Order]) -> str:
    return ", ".join(f"{_column(each)}{' DESC' if each.descends else ''}" for each in key)


def _column(order: Order) -> str:
    return f"{ALIAS}.{quoted(order.column)}"


def _beyond(key: Sequence[Order], types: Sequence[Type], after: Sequence[int | None]) -> Iterator[Text]:
    """Yield conditions of which exactly one holds for each row that comes after these values, and none for others."""
    alike = 0
    while alike < len(key) and after[alike] is not None and key[alike].descends is key[0].descends:
        alike += 1
    if alike:
        yield _compared(key[:alike], types[:alike], [each for each in after[:alike] if each is not None])
    for place, (order, type_, value) in enumerate(zip(key, types, after, strict=True)):
        equal = [_equal(*each) for each in zip(key[:place], types[:place], after[:place], strict=True)]
        if value is None:
            if order.descends:
                yield _all([*equal, joined(f"{_column(order)} IS NOT NULL")])
            continue
        if place >= alike:
            yield _all([*equal, _compared([order], [type_], [value])])
        if not order.descends:
            yield _all([*equal, joined(f"{_column(order)} IS NULL")])


def _compared(key: Sequence[Order], types: Sequence[Type], values: Sequence[int]) -> Text:
    """That these columns are beyond these values, as rows are compared; never where the one that decides is NULL."""
    columns = ", ".join(map(_column, key))
    parts: list[str | Text] = []
    for value in values:
        parts += [", ", Text(("", ""), (value,))]
    beyond = operator("<" if key[0].descends else ">", types)
    return joined(f"ROW({columns}) {beyond} ROW(", *parts[1:], ")")


def _equal(order: Order, type_: Type, value: int | None) -> Text:
    if value is None:
        return joined(f"{_column(order)} IS NULL")
    return joined(f"{_column(order)} {operator('=', [type_])} ", Text(("", ""), (value,)))


def operator(name: str, types: Sequence[Type]) -> str:
    """A comparison of values of these types."""
    return f"OPERATOR(pg_catalog.{name})" if all(map(is_own, types)) else name


def _all(conditions: Sequence[Text]) -> Text:
    parts: list[str | Text] = []
    for condition in conditions:
        parts += [" AND ", condition]
    return joined(*parts[1:])
