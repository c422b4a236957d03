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

LARGEST = 2 * 1024**2
"""Bytes of a result that is looked into; to split it takes up to 20 ms a megabyte."""

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


class Lookup:
    """Finds what references point at in the results of one run of the steps.

    PERF: each piece is split once, however many references go through it: a hundred references into a result of 1 MB
    took a quarter of a second otherwise.
    """

    def __init__(self) -> None:
        self._rows: dict[int, msgspec.Raw] = {}
        """The rows of a step as one list."""
        self._split: dict[tuple[int, tuple[str, ...]], list[msgspec.Raw] | dict[str, msgspec.Raw] | None] = {}
        """What is in a piece, by step and path: None where it is neither list nor object."""

    def look(self, reference: Reference, kind: Kind, text: bytes, count: int) -> msgspec.Raw:
        """The text at the place, from what the step answered: JSON, many rows joined by commas, and a count.

        Raises Refused, if it is nowhere.
        """
        path = reference.path
        if len(text) > LARGEST and len(path) > 1:
            raise Refused(f"refers to a part of a result of more than {LARGEST} bytes, which is not looked into")
        found: msgspec.Raw | None = self._outermost(reference.step, path[0], kind, text, count)
        for end in range(1, len(path)):
            if found is None:
                break
            found = self._inside(found, reference.step, path[:end], path[end])
        if found is None:
            raise Refused(f"refers to {shortened(reference.pointer)}, where there is nothing")
        return found

    def _outermost(self, step: int, member: str, kind: Kind, text: bytes, count: int) -> msgspec.Raw:
        if kind is Kind.EXEC or member == "row_count":
            return msgspec.Raw(b"%d" % count)
        if kind is not Kind.MANY:
            return msgspec.Raw(text or b"null")
        if step not in self._rows:
            self._rows[step] = msgspec.Raw(b"[%b]" % text)
        return self._rows[step]

    def _inside(self, piece: msgspec.Raw, step: int, path: tuple[str, ...], part: str) -> msgspec.Raw | None:
        where = step, path
        if where not in self._split:
            try:
                items = json_text.elements(piece)
                self._split[where] = json_text.members(piece) if items is None else items
            except RecursionError:  # json and jsonb may be nested deeper than what a request may send
                raise Refused("refers to a part of a result that is nested too deep to be looked into") from None
        inside = self._split[where]
        if isinstance(inside, dict):
            return inside.get(part)
        number = _index(part)
        return None if inside is None or number is None or number >= len(inside) else inside[number]


def _index(part: str) -> int | None:
    return int(part) if _NUMBER.fullmatch(part) else None


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
