"""The header of a query: ``-- name: NAME(a, b)`` and its result kind, in aiosql's or sqlc's words."""

import re
from typing import NamedTuple

from gateway.catalogue.query import Kind

HEADER = re.compile(r"(?:--|/\*)[ \t]*name[ \t]*:[ \t]*(?P<rest>[^\r\n]*?)\s*(?:\*/)?\s*(?:[\r\n]|$)")
"""A comment that begins a query; of a block comment the first line."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_FORM = re.compile(r"(?P<name>[^\s()^$!<*#:]*)\s*(?:\((?P<declared>[^()]*)\))?\s*(?P<kind>\S*)")

_KINDS = {
    "": Kind.MANY,
    "^": Kind.ONE,
    "$": Kind.SCALAR,
    "!": Kind.EXEC,
    "<!": Kind.ONE,
    "*!": Kind.EXEC,
    ":many": Kind.MANY,
    ":one": Kind.ONE,
    ":exec": Kind.EXEC,
    ":execrows": Kind.EXEC,
    ":execresult": Kind.EXEC,
}
_SERVED = "there are ^ $ ! <! and :one :many :exec :execrows"
_INSTEAD = "use :exec, :one or :many, and send a list of objects or a bulk body"
_UNSERVED = {
    "#": "a query is one statement",
    ":copyfrom": _INSTEAD,
    ":batchexec": _INSTEAD,
    ":batchone": _INSTEAD,
    ":batchmany": _INSTEAD,
    ":execlastid": "use :one, and add RETURNING",
}
"""Result kinds of the two conventions that cannot be served, with what to do."""


class Header(NamedTuple):
    """What a header declares."""

    name: str
    """Without the folder's prefix."""
    declared: tuple[str, ...] | None
    """The parameter list, if there is one."""
    kind: Kind
    unserved: str = ""
    """Why its result kind cannot be served; empty if it can."""


def is_name(text: str) -> bool:
    """Whether this can be the name of a query, or of a folder of queries."""
    return _NAME.fullmatch(text) is not None


def is_parameter(text: str) -> bool:
    """Whether this can be the name of a parameter."""
    return _PARAMETER.fullmatch(text) is not None


def read_header(rest: str) -> tuple[Header | None, list[str]]:
    """Read what stands after ``-- name:``; the header, where its name is good, and the faults."""
    form = _FORM.fullmatch(rest)
    if form is None:
        return None, [f'cannot read the header "{rest}": expected NAME, perhaps (parameters), perhaps a result kind']
    faults: list[str] = []
    word = form["kind"]
    unserved = ""
    if word in _UNSERVED:
        unserved = f"result kind {word} cannot be served: {_UNSERVED[word]}"
    elif word not in _KINDS:
        faults.append(f'"{word}" is no result kind; {_SERVED}')
    declared = None if form["declared"] is None else _declared(form["declared"], faults)
    name = form["name"]
    if not is_name(name):
        faults.append(f'"{name}" cannot be a query\'s name: a letter or _, then at most 127 letters, digits, _ and -')
        return None, faults
    return Header(name, declared, _KINDS.get(word, Kind.EXEC), unserved), faults


def _declared(text: str, faults: list[str]) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",")] if text.strip() else []
    for name in dict.fromkeys(names):
        if not is_parameter(name):
            faults.append(f'"{name}" in the parameter list cannot be a parameter\'s name')
        elif names.count(name) > 1:
            faults.append(f"{name} is twice in the parameter list")
    return tuple(dict.fromkeys(names))
