"""What callers of a catalogue rely on, as a lock file holds it, and what a change of it means to them. Pure.

The file is JSON, one object a query, sorted, so that a diff of it reads well in a review.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.catalogue.paging import own_parameters
from gateway.catalogue.query import Parameter, Query
from gateway.catalogue.types import Family, Signature, Type

VERSION = 1

_LOWER = ("minimum", "minLength")
_UPPER = ("maximum", "maxLength")


class Argument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may be given for one parameter."""

    type: str
    family: Family
    size: int = 0
    labels: tuple[str, ...] = ()
    default: str | None = None
    """JSON text; None: it must be given."""
    constraints: dict[str, Any] = {}
    bound: bool = False
    """Set by the gateway; no client may give it."""


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One column of the answer."""

    type: str
    labels: tuple[str, ...] = ()


class Locked(msgspec.Struct, frozen=True, omit_defaults=True):
    """One query as callers see it."""

    kind: str
    access: str
    parameters: dict[str, Argument] = {}
    columns: dict[str, Result] = {}
    roles: tuple[str, ...] = ()
    max_rows: int | None = None
    expect: str | None = None
    tool: bool = False
    """Whether it is offered to agents."""
    pages: bool = False


class Lock(msgspec.Struct, frozen=True):
    """A whole catalogue as callers see it."""

    queries: dict[str, Locked]
    version: int = VERSION


class Change(msgspec.Struct, frozen=True):
    """A difference between a lock file and the catalogue."""

    query: str
    message: str
    is_breaking: bool
    """Whether calls that were right before may fail, or be answered otherwise, now."""


class LockUnusable(Exception):
    """A lock file cannot be read; the message says why."""


def locked(query: Query, signature: Signature) -> Locked:
    """Return what callers rely on of a query, by what the server said of it."""
    return Locked(
        kind=query.kind,
        access=query.access,
        parameters={
            parameter.name: _argument(parameter, type_)
            for parameter, type_ in [*zip(query.parameters, signature.parameters, strict=True), *own_parameters(query)]
        },
        columns={column.name: Result(column.type.name, column.type.labels) for column in signature.columns},
        roles=tuple(sorted(query.roles)),
        max_rows=query.max_rows,
        expect=None if query.expect is None else query.expect.text,
        tool=query.tool is not None,
        pages=query.page is not None,
    )


def written(queries: Mapping[str, Locked]) -> bytes:
    """Return the content of a lock file."""
    text = msgspec.json.encode(Lock(dict(sorted(queries.items()))), order="sorted")
    return msgspec.json.format(text, indent=2) + b"\n"


def read(content: bytes) -> Lock:
    """Return what a lock file holds; raises LockUnusable."""
    try:
        lock = msgspec.json.decode(content, type=Lock)
    except msgspec.MsgspecError as error:
        raise LockUnusable(f"is no lock file: {error}") from None
    if lock.version != VERSION:
        raise LockUnusable(f"has version {lock.version}, this gateway knows {VERSION}; write it anew with --write-lock")
    return lock


def changes(before: Mapping[str, Locked], after: Mapping[str, Locked]) -> Iterator[Change]:
    """Yield every difference that callers can see."""
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            yield Change(name, "it is gone", is_breaking=True)
        elif name not in before:
            yield Change(name, "it is new", is_breaking=False)
        else:
            for message, is_breaking in _of_query(before[name], after[name]):
                yield Change(name, message, is_breaking)


def _argument(parameter: Parameter, type_: Type) -> Argument:
    return Argument(
        type=type_.name,
        family=type_.family,
        size=type_.size,
        labels=type_.labels,
        default=parameter.default,
        constraints=parameter.constraints,
        bound=parameter.bound is not None,
    )


Found = Iterator[tuple[str, bool]]
"""Sentences, and whether what they say breaks calls."""


def _of_query(before: Locked, after: Locked) -> Found:
    if before.kind != after.kind:
        yield f"it answers {after.kind} instead of {before.kind}", True
    if before.access != after.access:
        yield f"it is a {after.access} and was a {before.access}", True
    if after.roles and (not before.roles or not set(before.roles) <= set(after.roles)):
        yield f"it may be called by {_listed(after.roles)} only", True
    elif before.roles != after.roles:
        yield "more callers may call it", False
    if (before.max_rows or 0) != (after.max_rows or 0):
        is_less = after.max_rows is not None and (before.max_rows is None or after.max_rows < before.max_rows)
        yield f"it answers at most {after.max_rows or 'any number of'} rows", is_less
    if before.pages != after.pages:
        yield f"it answers {'a page' if after.pages else 'all rows'} at a time", True
    if before.expect != after.expect:
        yield f"it expects {after.expect or 'nothing'} (was {before.expect or 'nothing'})", True
    if before.tool != after.tool:
        yield f"it is {'offered to agents' if after.tool else 'not offered to agents any more'}", before.tool
    yield from _of_parameters(before.parameters, after.parameters)
    for name, column in before.columns.items():
        if name not in after.columns:
            yield f"column {name} is gone", True
        elif column.type != after.columns[name].type:
            yield f"column {name} is {after.columns[name].type} and was {column.type}", True
        elif column.labels != after.columns[name].labels:
            yield f"column {name} has other labels: {_listed(after.columns[name].labels)}", False
    for name in after.columns.keys() - before.columns.keys():
        yield f"column {name} is new", False


def _of_parameters(before: Mapping[str, Argument], after: Mapping[str, Argument]) -> Found:
    for name, argument in before.items():
        if argument.bound:
            continue
        if name not in after:
            yield f"parameter {name} is gone", True
        elif after[name].bound:
            yield f"parameter {name} is set by the gateway now", True
        else:
            yield from ((f"parameter {name} {said}", breaks) for said, breaks in _of_argument(argument, after[name]))
    for name in after.keys() - {each for each, argument in before.items() if not argument.bound}:
        if not after[name].bound:
            is_required = after[name].default is None
            yield f"parameter {name} is new{' and must be given' if is_required else ''}", is_required


def _of_argument(before: Argument, after: Argument) -> Found:
    if before.type != after.type:
        yield f"is {after.type} and was {before.type}", not _is_wider(before, after)
    elif gone := set(before.labels) - set(after.labels):
        yield f"does not take {_listed(sorted(gone))} any more", True
    elif before.labels != after.labels:
        yield "takes more labels", False
    if before.default is not None and after.default is None:
        yield "must be given", True
    elif before.default is None and after.default is not None:
        yield "may be left out", False
    elif before.default != after.default:
        yield f"is {after.default} where it is left out, and was {before.default}", True
    for key in sorted(before.constraints.keys() | after.constraints.keys()):
        old, new = before.constraints.get(key), after.constraints.get(key)
        if old != new:
            yield f"has {key} {new} (was {old})", _is_tighter(key, old, new)


def _is_wider(before: Argument, after: Argument) -> bool:
    """Whether whatever was taken before still is."""
    if before.family is not Family.INTEGER:
        return False
    return after.family is Family.NUMERIC or (after.family is Family.INTEGER and after.size > before.size)


def _is_tighter(key: str, old: Any, new: Any) -> bool:
    """Whether a value that was within the old limit may be beyond the new one; None: no limit."""
    if new is None:
        return False
    if old is None:
        return True
    if key in _LOWER:
        return bool(new > old)
    if key in _UPPER:
        return bool(new < old)
    if key == "enum":
        return not all(value in new for value in old)
    return True


def _listed(words: Any) -> str:
    return ", ".join(words)
