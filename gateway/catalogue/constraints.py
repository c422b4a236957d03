"""What ``@param`` asks of a value beyond its type: bounds, lengths, a pattern, a choice.

Meant as in JSON Schema, and compared exactly at any length. A constraint that has no meaning for a type is
refused when it is compiled: it would be a check that never happens. NULL is not checked.
"""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import msgspec

from gateway.catalogue.json_text import is_list
from gateway.catalogue.patterns import matcher
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import NUMBER, WORDS, Refused, items, one_of, string

Check = Callable[[msgspec.Raw, str], None]
"""Takes a value as JSON text and as input text of its type; raises :class:`Refused`."""

ANY_VALUE: Final = Type("json", "pg_catalog.json", Family.JSON)
"""The type by which constraints and defaults are checked before the real one is known."""

_NUMBERS = frozenset({Family.INTEGER, Family.FLOAT, Family.NUMERIC})
_STRINGS = frozenset({Family.TEXT, Family.UUID, Family.BYTEA, Family.ENUM, Family.OTHER})


_LONGEST_COMPARED: Final = 64 * 1024
"""Characters of JSON. No choice is longer than the entry it stands in, so only white space or needless digits could
make something longer equal to it; to read 1 MB of numbers exactly takes half a second."""


class Constraint(NamedTuple):
    """One constraint, declared."""

    applies: frozenset[Family]
    """The types for which it has a meaning."""
    make: Callable[[str, Any, Type], Check]
    """Makes the check of its key, the key's value and a type; raises ValueError for a value that makes no sense."""


def checks(constraints: Mapping[str, Any], type_: Type) -> tuple[Check, ...]:
    """The checks of one parameter.

    Raises :class:`ValueError` for a key or a value that makes no sense, or none with this type.
    """
    return tuple(check_of(key, bound, type_) for key, bound in constraints.items())


def check_of(key: str, bound: Any, type_: Type) -> Check:
    """The check of one constraint; raises ValueError as :func:`checks` does."""
    constraint = CONSTRAINTS.get(key)
    if constraint is None:
        raise ValueError(f"{key} is no constraint; there are {', '.join(CONSTRAINTS)}")
    if type_.family not in constraint.applies:
        raise ValueError(f"{key} does not apply to {type_.name}")
    return constraint.make(key, bound, type_)


def _bound(key: str, bound: Any, type_: Type) -> Check:
    exact = _canonical(bound)
    if not isinstance(exact, Decimal) or not exact.is_finite():
        raise ValueError(f"{key} must be a number")
    limit = bound if isinstance(bound, int) else exact
    # PERF: 0.15 µs instead of 0.6 a bound; a checked integer is short enough for int.
    parse: Callable[[str], int | Decimal | None] = int if type_.family is Family.INTEGER else _number
    least = key == "minimum"
    message = f"must be at {'least' if least else 'most'} {bound}"

    def check(_: msgspec.Raw, text: str) -> None:
        number = parse(text)
        # NaN and what no Decimal can hold are within no bounds.
        if number is None or not (number >= limit if least else number <= limit):
            raise Refused(message)

    def check_if_number(raw: msgspec.Raw, text: str) -> None:
        if NUMBER.fullmatch(text):
            check(raw, text)

    return check_if_number if type_.family is Family.JSON else check


def _number(text: str) -> Decimal | None:
    if text == "NaN" or not (text in WORDS or NUMBER.fullmatch(text)):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _length(key: str, bound: Any, type_: Type) -> Check:
    if isinstance(bound, bool) or not isinstance(bound, int) or bound < 0:
        raise ValueError(f"{key} must be an integer from 0 up")
    least = key == "minLength"
    amount = f"must have at {'least' if least else 'most'} {bound}"
    plural = "" if bound == 1 else "s"

    def check(length: int, unit: str) -> None:
        if (length < bound) if least else (length > bound):
            raise Refused(f"{amount} {unit}{plural}")

    def check_characters(_: msgspec.Raw, text: str) -> None:
        check(len(text), "character")

    def check_elements(raw: msgspec.Raw, _: str) -> None:
        check(len(items(raw)), "element")

    def check_json(raw: msgspec.Raw, text: str) -> None:
        if is_list(raw):
            check_elements(raw, text)
        elif text.startswith('"'):
            check_characters(raw, string(raw))

    match type_.family:
        case Family.ARRAY:
            return check_elements
        case Family.JSON:
            return check_json
        case _:
            return check_characters


def _pattern(_key: str, bound: Any, type_: Type) -> Check:
    matches = matcher(bound) if isinstance(bound, str) else None
    if matches is None:
        raise ValueError("pattern must be a string")
    message = f"must match {bound}"

    def check(_: msgspec.Raw, text: str) -> None:
        if not matches(text):
            raise Refused(message)

    def check_if_string(raw: msgspec.Raw, text: str) -> None:
        if text.startswith('"'):
            check(raw, string(raw))

    return check_if_string if type_.family is Family.JSON else check


def _enum(_key: str, bound: Any, type_: Type) -> Check:
    if not isinstance(bound, list | tuple) or not bound:
        raise ValueError("enum must be a list with at least one value")
    choices = [msgspec.json.encode(choice).decode() for choice in bound]
    verbatim = frozenset(choices)
    canonical = frozenset(map(_canonical, bound))
    message = one_of(choices)
    # A number may have come in a string (int8, numeric); its input text is the number either way.
    by_text = type_.family in _NUMBERS

    def check(raw: msgspec.Raw, text: str) -> None:
        written = text if by_text and text not in WORDS else str(raw, "utf-8")
        if written in verbatim:
            return
        if len(written) > _LONGEST_COMPARED:
            raise Refused(message)
        try:
            value = json.loads(written, parse_int=Decimal, parse_float=Decimal)
        except InvalidOperation:
            raise Refused(message) from None
        if _canonical(value) not in canonical:
            raise Refused(message)

    return check


def _canonical(value: Any) -> Any:
    """A hashable value equal to another exactly when their JSON is: ``1`` and ``1.0`` are, ``1`` and ``true`` not."""
    match value:
        case bool():
            return ("bool", value)
        case float():
            # The shortest decimal that reads back as it: what its author wrote.
            return Decimal(repr(value))
        case int():
            return Decimal(value)
        case list() | tuple():
            return ("list", tuple(map(_canonical, value)))
        case dict():
            return ("object", frozenset((key, _canonical(member)) for key, member in value.items()))
        case _:
            return value


_BOUNDS = Constraint(_NUMBERS | {Family.OTHER, Family.JSON}, _bound)
_LENGTHS = Constraint(_STRINGS | {Family.ARRAY, Family.JSON}, _length)

CONSTRAINTS: Final[Mapping[str, Constraint]] = {
    "minimum": _BOUNDS,
    "maximum": _BOUNDS,
    "minLength": _LENGTHS,
    "maxLength": _LENGTHS,
    "pattern": Constraint(_STRINGS | {Family.JSON}, _pattern),
    "enum": Constraint(frozenset(Family), _enum),
}
"""Every constraint by its key, named as in JSON Schema."""
