"""``{"$ref": "/0/row/id"}`` as an argument: a JSON pointer (RFC 6901) into the results of earlier steps.

What it points at is passed on as its own text: a number is not decoded, so it cannot be rounded.
"""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from gateway.catalogue import json_text
from gateway.catalogue.query import Kind
from gateway.catalogue.values import Refused, shortened

REFERENCE, LITERAL = "$ref", "$literal"

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_BAD_ESCAPE = re.compile(r"~(?![01])")
_MEMBERS = {
    Kind.MANY: ("rows", "row_count"),
    Kind.ONE: ("row",),
    Kind.SCALAR: ("value",),
    Kind.EXEC: ("affected",),
}
"""What a result of each kind holds."""
_NUMBERS_ONLY = ("row_count", "affected")


class Reference(NamedTuple):
    """A place in an earlier result."""

    pointer: str
    step: int
    path: tuple[str, ...]
    """From the step's result downwards."""


class Shape(NamedTuple):
    """What is known of a step's result before it is there."""

    kind: Kind
    columns: Collection[str]


def plain(raw: msgspec.Raw) -> tuple[msgspec.Raw, str | None]:
    """An argument's text without its escape; and the pointer, if it is a reference.

    An object is one of these only where ``$ref`` or ``$literal`` is its only member. Raises Refused.
    """
    members = json_text.members(raw)
    if members is None or len(members) != 1:
        return raw, None
    ((name, inner),) = members.items()
    if name == LITERAL:
        return inner, None
    if name != REFERENCE:
        return raw, None
    try:
        return raw, msgspec.json.decode(inner, type=str)
    except msgspec.DecodeError:
        raise Refused(f"{REFERENCE} must be a JSON pointer in a string") from None


def read_reference(pointer: str, before: Sequence[Shape]) -> Reference:
    """Read a pointer and hold it against the steps ``before``; raises Refused with a sentence."""
    shown = shortened(pointer)
    if not pointer.startswith("/") or _BAD_ESCAPE.search(pointer):
        raise Refused(f'{REFERENCE} "{shown}" is not a JSON pointer such as /0/row/id')
    first, *path = (part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))
    if not _NUMBER.fullmatch(first):
        raise Refused(f'{REFERENCE} "{shown}" must begin with the number of a step')
    step = int(first)
    if step >= len(before):
        raise Refused(f'{REFERENCE} "{shown}" does not point at an earlier step')
    wrong = _misfit(path, before[step])
    if wrong is not None:
        raise Refused(f'{REFERENCE} "{shown}": {wrong}')
    return Reference(pointer, step, tuple(path))


def look(reference: Reference, result: bytes) -> msgspec.Raw:
    """The text at the place, from the JSON text of the step's result; raises Refused where there is nothing."""
    found = msgspec.Raw(result)
    for part in reference.path:
        inner: msgspec.Raw | None = None
        if (items := json_text.elements(found)) is not None:
            if _NUMBER.fullmatch(part) and int(part) < len(items):
                inner = items[int(part)]
        elif (members := json_text.members(found)) is not None:
            inner = members.get(part)
        if inner is None:
            raise Refused(f"refers to {shortened(reference.pointer)}, where there is nothing")
        found = inner
    return found


def _misfit(path: Sequence[str], shape: Shape) -> str | None:
    """Why a result of this shape can have nothing there."""
    members = _MEMBERS[shape.kind]
    if not path:
        return "a result as a whole is no argument"
    if path[0] not in members:
        return f"the step's result has {' and '.join(members)} only"
    if path[0] in _NUMBERS_ONLY:
        return f"{path[0]} is a number" if len(path) > 1 else None
    inside = path[1:]
    if path[0] == "rows" and inside:
        if not _NUMBER.fullmatch(inside[0]):
            return "rows are numbered from 0"
        inside = inside[1:]
    if path[0] != "value" and inside and inside[0] not in shape.columns:
        return f"the step's rows have no column {shortened(inside[0])}"
    return None
