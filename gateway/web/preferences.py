"""The ``Prefer`` header (RFC 7240): what a caller would like, of which we know a few."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from gateway.errors import InvalidRequest

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"?|[,;]|[^",;]+', re.DOTALL)
"""A quoted string (an open one reaches to the end), a separator, or what is between them."""
_ROWS = re.compile(r"[0-9]{1,15}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{0,9}(?:\.[0-9]{0,9})?")


class Preferences(NamedTuple):
    """What was asked for; unknown preferences are ignored, as the RFC wants."""

    wait: float | None = None
    """Seconds within which the whole answer is wanted."""
    bigint: str | None = None
    """``string`` or ``number``: what int8 and numeric are answered as; None: what ``[server] bigint`` says."""
    max_staleness: float | None = None
    """Seconds that the data may be old at most."""
    strict: bool = False
    """Rather an error than a preference that is not kept."""
    max_affected: int | None = None
    """Rows that a write may touch; what touches more is rolled back."""
    rolls_back: bool = False
    """Whether a write is to be rolled back once its answer is known."""

    @property
    def applied(self) -> str:
        """What ``Preference-Applied`` says of an answer that kept them all; empty if nothing was asked for."""
        told = [] if self.wait is None else [f"wait={self.wait:g}"]
        if self.bigint is not None:
            told.append(f"bigint={self.bigint}")
        if self.max_staleness is not None:
            told.append(f"max-staleness={self.max_staleness:g}")
            if self.strict:
                told.append("handling=strict")
        if self.max_affected is not None:
            told.append(f"max-affected={self.max_affected}")
        if self.rolls_back:
            told.append("tx=rollback")
        return ", ".join(told)


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
    asked = {name: _unquoted(value) for name, value in known.items()}
    wait, staleness = asked.get("wait"), asked.get("max-staleness")
    return Preferences(
        wait=None if wait is None else _seconds("wait", wait, least=1e-9),
        bigint=_one_of("bigint", asked, "string", "number"),
        max_staleness=None if staleness is None else _seconds("max-staleness", staleness, least=0.0),
        strict=_one_of("handling", asked, "strict", "lenient") == "strict",
        max_affected=_count("max-affected", asked),
        rolls_back=_one_of("tx", asked, "rollback", "commit") == "rollback",
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


def _one_of(name: str, asked: dict[str, str], first: str, second: str) -> str | None:
    value = asked.get(name)
    if value not in (None, first, second):
        raise InvalidRequest(f"Prefer: {name} must be {first} or {second}")
    return value


def _count(name: str, asked: dict[str, str]) -> int | None:
    value = asked.get(name)
    if value is not None and not _ROWS.fullmatch(value):
        raise InvalidRequest(f"Prefer: {name} must be a number of rows")
    return None if value is None else int(value)


def _seconds(name: str, value: str, *, least: float) -> float:
    if not value.strip(".") or not _SECONDS.fullmatch(value) or float(f"0{value}") < least:
        raise InvalidRequest(f"Prefer: {name} must be a {'positive ' if least else ''}number of seconds")
    return float(f"0{value}")
