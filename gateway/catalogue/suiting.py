"""Whether annotations suit the query that they are written for."""

from collections.abc import Collection, Iterator

from gateway.catalogue.annotations import ANNOTATIONS, Annotations
from gateway.catalogue.query import Access, Expect, Kind
from gateway.catalogue.statements import Analysis

_KINDS = {
    "page": (Kind.MANY, "@page is for queries with many rows"),
    "sort": (Kind.MANY, "@sort is for queries with many rows"),
    "media": (Kind.SCALAR, "@media is for queries with one value: use `$`"),
}
"""The only kind of query that an annotation is for, and what is said of others."""
_RESERVED = {"page": ("cursor", "size"), "sort": ("sort",)}
"""Parameters that an annotation adds."""

Unsuited = Iterator[tuple[str, str]]
"""The word of an annotation, and a sentence."""


def of_text(kind: Kind | None, names: Collection[str], annotations: Annotations) -> Unsuited:
    """Find what needs no statement to tell. ``names``: of the query's parameters."""
    given = annotations.lines
    for word, (only, message) in _KINDS.items():
        if word in given and kind not in (None, only):
            yield word, message
    if "page" in given and "max_rows" in given:
        yield "max_rows", "@max_rows: pages are bounded by `max=` of @page"
    for word, reserved in _RESERVED.items():
        for name in reserved:
            if word in given and name in names:
                yield word, f"@{word}: the parameter {name} is the annotation's own; give the query's another name"


def of_statement(kind: Kind, access: Access, analysis: Analysis, annotations: Annotations) -> Unsuited:
    """Find what the statement is not for."""
    for word in annotations.lines:
        only = ANNOTATIONS[word].access
        if only is not None and only is not access:
            yield word, f"@{word} is for {only}s, and this query is a {access}"
    expect: Expect | None = annotations.values.get("expect")
    if expect is not None and (message := _unmeetable(expect, kind, access, analysis)):
        yield "expect", message


def _unmeetable(expect: Expect, kind: Kind, access: Access, analysis: Analysis) -> str:
    """Why an answer does not tell whether it came to what is expected; empty if it does."""
    verb = analysis.statement.verb
    if expect.is_row:
        no_rows = "@expect row: this query answers no rows; write `affected=1` or `affected>=1`"
        return no_rows if kind is Kind.EXEC else ""
    if access is not Access.WRITE:
        return "@expect affected is for writes; for a read write `@expect row`"
    if kind not in (Kind.EXEC, Kind.MANY):
        return "@expect affected: this query answers one row, not how many it touches; use `!`, or `row`"
    return "" if verb.is_prepared else f"@expect: {verb.upper()} does not tell how many rows it touches"
