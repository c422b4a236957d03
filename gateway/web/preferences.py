"""The ``Prefer`` header (RFC 7240): what a caller would like, of which we know a few."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.errors import InvalidRequest

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"?|[,;]|[^",;]+', re.DOTALL)
"""A quoted string (an open one reaches to the end), a separator, or what is between them."""
_SECONDS = re.compile(r"[0-9]{0,9}(?:\.[0-9]{0,9})?")


class Preferences(NamedTuple):
    """What was asked for; unknown preferences are ignored, as the RFC wants."""

    wait: float | None = None
    """Seconds within which the whole answer is wanted."""
    bigint_as_string: bool = False


NONE = Preferences()


def parse(header: str | None) -> Preferences:
    """Read the header; raises InvalidRequest where a preference we know has a value we do not.

    Of one preference given twice the first holds.
    """
    if not header:
        return NONE
    known: dict[str, str] = {}
    for preference in _preferences(header):
        name, _, value = preference.partition("=")
        known.setdefault(name.strip().lower(), value.strip())
    wait, bigint = known.get("wait"), known.get("bigint")
    return Preferences(
        wait=None if wait is None else _seconds(_unquoted(wait)),
        bigint_as_string=bigint is not None and _is_string(_unquoted(bigint)),
    )


def _preferences(header: str) -> Iterator[str]:
    """Each ``name`` or ``name=value`` without its parameters; commas in quoted strings do not count."""
    preference, in_parameters = "", False
    for piece in _PIECE.findall(header):
        if piece == ",":
            yield preference
            preference, in_parameters = "", False
        elif piece == ";":
            in_parameters = True
        elif not in_parameters:
            preference += piece
    yield preference


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _is_string(value: str) -> bool:
    if value not in ("string", "number"):
        raise InvalidRequest("Prefer: bigint must be string or number")
    return value == "string"


def _seconds(value: str) -> float:
    seconds = float(f"0{value}") if _SECONDS.fullmatch(value) else 0.0
    if seconds <= 0:
        raise InvalidRequest("Prefer: wait must be a positive number of seconds")
    return seconds
