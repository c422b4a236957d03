"""The comment lines between a query's header and its statement: annotations, and what is left is its description."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from gateway.catalogue.declarations import read_parameter
from gateway.catalogue.query import Access, Cache, Deprecation, Expect, Order, Page, Parameter, Sort
from gateway.settings.keys import LONGEST_TIMEOUT
from gateway.settings.units import Rate, rate, seconds

_AFFECTED = re.compile(r"affected\s*(>?=)\s*(\d{1,9})", re.ASCII)
_CACHE = re.compile(r"(\S+?)(?:\s+stale=(\S+))?")
_PAGE = re.compile(r"key\s*\(([^()]*)\)\s+size\s*=\s*([1-9][0-9]{0,5})(?:\s+max\s*=\s*([1-9][0-9]{0,5}))?", re.ASCII)
_ORDER = re.compile(r"([A-Za-z_\x80-\uffff][\w$]*)(?:\s+(asc|desc))?", re.IGNORECASE)
_SORT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_MOST_SORTS, _MOST_COLUMNS = 16, 8
_MEDIA = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,63}/[A-Za-z0-9][\w!#$&^.+-]{0,63}", re.ASCII)
_LINES = frozenset({"application/json", "application/x-ndjson", "text/csv"})
"""Media types that are the gateway's to write."""
_ROLE = re.compile(r"[^\s,]+")
_ANNOTATION = re.compile(r"@(?P<word>[A-Za-z]\S*)\s*(?P<value>.*)", re.DOTALL)
_NAME = re.compile(r"\w*")
_PARAM = "param"
_DATED = re.compile(r"(since|sunset)=(\S*)\s*")


class Comment(NamedTuple):
    """A comment line, without its dashes and the space after them."""

    line: int
    text: str


class Annotations(NamedTuple):
    """What the comment lines of a query hold."""

    lines: dict[str, int]
    """Where each annotation but ``@param`` stands."""
    values: dict[str, Any]
    """Their values, by field of :class:`Query`."""
    parameters: tuple[tuple[int, Parameter], ...] = ()
    """What ``@param`` declares, each with its line."""
    description: str = ""


class Annotation(NamedTuple):
    """One annotation, declared."""

    field: str
    """The field of :class:`Query` that holds its value."""
    read: Callable[[str], Any]
    """Takes the text after the word; raises :class:`Misread`."""
    access: Access | None = None
    """The only kind of query that may have it; None: any."""


class Misread(Exception):
    """The value of an annotation is wrong; the message completes ``@word …``."""


def read_annotations(comments: Sequence[Comment], names: Collection[str]) -> tuple[Annotations, list[Comment]]:
    """Read comment lines; return their annotations and the faults (a line and a sentence each).

    ``names`` are the query's parameters: a line ``@customer_id …`` describes one. Any other word that is unknown is a
    fault, as what another tool takes for a guard (``@authorize``) must not be passed over.
    """
    values: dict[str, Any] = {}
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
        if word == _PARAM:
            faults += [Comment(line, message) for message in _parameter(line, value, parameters)]
        elif word in lines:
            faults.append(Comment(line, f"@{word} is given twice, first in line {lines[word]}"))
        elif word in ANNOTATIONS:
            lines[word] = line
            try:
                values[ANNOTATIONS[word].field] = ANNOTATIONS[word].read(value)
            except Misread as misread:
                faults.append(Comment(line, f"@{word} {misread}"))
        elif _first_name(word) in names:
            description.append(text)
        elif not word.startswith("sqlc"):
            known = ", ".join(f"@{known}" for known in (_PARAM, *ANNOTATIONS))
            faults.append(Comment(line, f"@{word} is no annotation; there are {known}"))
    text = "\n".join(description).strip()
    return Annotations(lines, values, tuple(parameters.values()), text), faults


def declared_names(comments: Sequence[Comment]) -> frozenset[str]:
    """The names that ``@param`` lines begin with."""
    found = (_ANNOTATION.fullmatch(text.strip()) for _, text in comments)
    return frozenset(_first_name(each["value"]) for each in found if each is not None and each["word"] == _PARAM)


def annotation_of(comment: str) -> str | None:
    """The word of the annotation that a comment's text is, if it is one."""
    match = _ANNOTATION.match(comment)
    return match["word"] if match and match["word"] in (_PARAM, *ANNOTATIONS) else None


def _first_name(text: str) -> str:
    match = _NAME.match(text)
    return match[0] if match else ""


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
    try:
        duration = seconds(value)
    except ValueError:
        duration = 0.0
    if not 0.001 <= duration <= LONGEST_TIMEOUT:
        raise Misread(f'is a duration such as 250ms, 2s or 1h, at most 24d, not "{value}"')
    return duration


def _cache(value: str) -> Cache:
    found = _CACHE.fullmatch(value)
    told = f'is written `D` or `D stale=D`, with durations such as 30s, at most 24d, not "{value}"'
    if found is None:
        raise Misread(told)
    try:
        return Cache(_duration(found[1]), 0.0 if found[2] is None else _duration(found[2]))
    except Misread:
        raise Misread(told) from None


def _roles(value: str) -> tuple[str, ...]:
    roles = [role.strip() for role in value.split(",")]
    if not all(_ROLE.fullmatch(role) for role in roles):
        raise Misread("names roles, with commas between them")
    return tuple(dict.fromkeys(roles))


def _rows(value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise Misread(f'is a number of rows from 1 to 999999999, not "{value}"')
    return int(value)


def _expect(value: str) -> Expect:
    if value == "row":
        return Expect(value, 1)
    found = _AFFECTED.fullmatch(value)
    if found is None or found.groups() == (">=", "0"):
        raise Misread(f'is `row`, `affected=N` or `affected>=N`, not "{value}"')
    sign, count = found[1], int(found[2])
    return Expect(f"affected{sign}{count}", count, count if sign == "=" else None)


def _page(value: str) -> Page:
    found = _PAGE.fullmatch(value)
    key = _orders(found[1]) if found is not None else None
    if found is None or key is None:
        raise Misread("is written `key(column [DESC], ...) size=N [max=N]`, with at most 8 columns")
    size, most = int(found[2]), int(found[3] or found[2])
    if most < size:
        raise Misread(f"has max={most}, less than size={size}")
    return Page(key, size, most)


def _sorts(value: str) -> tuple[Sort, ...]:
    sorts = []
    for part in value.split("|"):
        name, _, columns = part.partition(":")
        key = _orders(columns)
        if not _SORT.fullmatch(name.strip()) or key is None:
            raise Misread("is written `name: column [DESC], ... | name: ...`, with at most 8 columns each")
        sorts.append(Sort(name.strip(), key))
    if len({sort.name for sort in sorts}) < len(sorts):
        raise Misread("gives a name twice")
    if len(sorts) > _MOST_SORTS:
        raise Misread(f"has {len(sorts)} orders, and at most {_MOST_SORTS} are prepared")
    return tuple(sorts)


def _orders(text: str) -> tuple[Order, ...] | None:
    """Columns with their directions; None if these are none, or one is there twice."""
    found = [_ORDER.fullmatch(part.strip()) for part in text.split(",")]
    orders = tuple(Order(each[1], (each[2] or "").lower() == "desc") for each in found if each is not None)
    names = {order.column for order in orders}
    return orders if len(names) == len(found) <= _MOST_COLUMNS else None


def _rate(value: str) -> Rate:
    try:
        return rate(value)
    except ValueError as error:
        raise Misread(f'{error}, not "{value}"') from None


def _calls(value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", value, re.ASCII):
        raise Misread(f'is a number of calls from 1 to 999999, not "{value}"')
    return int(value)


def _media(value: str) -> str:
    if not _MEDIA.fullmatch(value):
        raise Misread(f'is a media type such as image/png, without parameters, not "{value}"')
    if value.lower() in _LINES:
        raise Misread("names what no value is without more around it")
    return value.lower()


def _deprecation(value: str) -> Deprecation:
    dates: dict[str, str] = {}
    while (found := _DATED.match(value)) is not None:
        key, text = found.groups()
        try:
            dates[key] = date.fromisoformat(text).isoformat()
        except ValueError:
            raise Misread(f'has dates such as {key}=2026-12-31, not "{text}"') from None
        value = value[found.end() :]
    if not value:
        raise Misread("says what to use instead")
    if dates.get("since", "") > dates.get("sunset", "~"):
        raise Misread(f"is since {dates['since']}, later than its sunset {dates['sunset']}")
    return Deprecation(value, **dates)


ANNOTATIONS: Final[Mapping[str, Annotation]] = {
    "group": Annotation("group", _group),
    "access": Annotation("access", _one_of({"read": Access.READ, "write": Access.WRITE})),
    "timeout": Annotation("timeout", _duration),
    "role": Annotation("roles", _roles),
    "cache": Annotation("cache", _cache, Access.READ),
    "max_rows": Annotation("max_rows", _rows),
    "outcome": Annotation("tracked", _one_of({"tracked": True}), Access.WRITE),
    "retry": Annotation("retry_serialization", _one_of({"serialization": True})),
    "expect": Annotation("expect", _expect),
    "batch": Annotation("batch", _one_of({"on": True, "off": False})),
    "join": Annotation("join", _one_of({"on": True, "off": False}), Access.READ),
    "coalesce": Annotation("coalesce", _alone, Access.READ),
    "page": Annotation("page", _page, Access.READ),
    "sort": Annotation("sorts", _sorts, Access.READ),
    "rate": Annotation("rate", _rate),
    "concurrency": Annotation("concurrency", _calls),
    "media": Annotation("media", _media, Access.READ),
    "deprecated": Annotation("deprecated", _deprecation),
    "tool": Annotation("tool", str),
}
"""Every annotation but ``@param`` by its word."""
