"""The comment lines between a query's header and its statement: annotations, and what is left is its description."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.catalogue.declarations import read_parameter
from gateway.catalogue.query import Access, Page, Parameter
from gateway.catalogue.scanning import Comment

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)", re.ASCII)
_LONGEST = 7 * 86400.0
"""Seconds; the server counts time limits in milliseconds of 31 bit."""
_PAGE = re.compile(r"key\s*\(([^()]*)\)\s+size\s*=\s*([1-9][0-9]{0,5})")
_COLUMN = re.compile(r"[A-Za-z_\x80-\uffff][\w$]*")
_ROLE = re.compile(r"[^\s,]+")
_ANNOTATION = re.compile(r"@(?P<word>[A-Za-z]\S*)\s*(?P<value>.*)", re.DOTALL)


class Annotations(NamedTuple):
    """What the comment lines of a query say."""

    lines: dict[str, int]
    """Where each annotation but ``@param`` stands."""
    group: str | None = None
    access: Access | None = None
    timeout: float | None = None
    roles: tuple[str, ...] = ()
    cache: float | None = None
    max_rows: int | None = None
    tracked: bool = False
    retry_serialization: bool = False
    batch: bool | None = None
    coalesce: bool = False
    page: Page | None = None
    deprecated: str | None = None
    parameters: tuple[tuple[int, Parameter], ...] = ()
    """What ``@param`` declares, each with its line."""
    description: str = ""


class Misread(Exception):
    """The value of an annotation is wrong; the message completes ``@word …``."""


def read_annotations(comments: Sequence[Comment]) -> tuple[Annotations, list[Comment]]:
    """Read comment lines; what they say, and the faults (a line and a sentence each)."""
    said: dict[str, Any] = {}
    lines: dict[str, int] = {}
    parameters: dict[str, tuple[int, Parameter]] = {}
    description: list[str] = []
    faults: list[Comment] = []
    for line, text in comments:
        annotation = _ANNOTATION.fullmatch(text.strip())
        if annotation is None:
            description.append(text)
            continue
        word, value = annotation["word"], annotation["value"]
        if word == "param":
            faults += [Comment(line, message) for message in _parameter(line, value, parameters)]
        elif word in lines:
            faults.append(Comment(line, f"@{word} is given twice, first in line {lines[word]}"))
        elif word in _READERS:
            lines[word] = line
            field, reader = _READERS[word]
            try:
                said[field] = reader(value)
            except Misread as misread:
                faults.append(Comment(line, f"@{word} {misread}"))
        elif not word.startswith("sqlc"):
            known = ", ".join(f"@{known}" for known in ("param", *_READERS))
            faults.append(Comment(line, f"@{word} is no annotation; there are {known}"))
    text = "\n".join(description).strip()
    return Annotations(lines, **said, parameters=tuple(parameters.values()), description=text), faults


def _parameter(line: int, value: str, parameters: dict[str, tuple[int, Parameter]]) -> list[str]:
    parameter, faults = read_parameter(value)
    if parameter is None:
        return faults
    if parameter.name in parameters:
        return [f"@param {parameter.name} is given twice, first in line {parameters[parameter.name][0]}"]
    parameters[parameter.name] = (line, parameter)
    return []


def _group(value: str) -> str:
    if not _ROLE.fullmatch(value):
        raise Misread("names one group")
    return value


def _one_of(words: dict[str, Any]) -> Callable[[str], Any]:
    def read(value: str) -> Any:
        if value not in words:
            raise Misread("is " + " or ".join(f"`{word}`" for word in words) + f', not "{value}"')
        return words[value]

    return read


def _alone(value: str) -> bool:
    if value:
        raise Misread(f'takes no value, not "{value}"')
    return True


def _duration(value: str) -> float:
    match = _DURATION.fullmatch(value)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0.001 <= seconds <= _LONGEST:
        raise Misread(f'is a duration such as 250ms, 2s or 1h, at most 7d, not "{value}"')
    return seconds


def _roles(value: str) -> tuple[str, ...]:
    roles = [role.strip() for role in value.split(",")]
    if not all(_ROLE.fullmatch(role) for role in roles):
        raise Misread("names roles, with commas between them")
    return tuple(dict.fromkeys(roles))


def _rows(value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise Misread(f'is a number of rows from 1 to 999999999, not "{value}"')
    return int(value)


def _page(value: str) -> Page:
    match = _PAGE.fullmatch(value)
    columns = [column.strip() for column in match[1].split(",")] if match else []
    if match is None or not all(_COLUMN.fullmatch(column) for column in columns) or len({*columns}) < len(columns):
        raise Misread("is written `key(column, ...) size=N`")
    return Page(tuple(columns), int(match[2]))


def _text(value: str) -> str:
    if not value:
        raise Misread("says what to use instead")
    return value


_READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "group": ("group", _group),
    "access": ("access", _one_of({"read": Access.READ, "write": Access.WRITE})),
    "timeout": ("timeout", _duration),
    "role": ("roles", _roles),
    "cache": ("cache", _duration),
    "max_rows": ("max_rows", _rows),
    "outcome": ("tracked", _one_of({"tracked": True})),
    "retry": ("retry_serialization", _one_of({"serialization": True})),
    "batch": ("batch", _one_of({"on": True, "off": False})),
    "coalesce": ("coalesce", _alone),
    "page": ("page", _page),
    "deprecated": ("deprecated", _text),
}
"""Annotation to field and reader."""
