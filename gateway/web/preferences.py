"""The ``Prefer`` header (RFC 7240): what a caller would like, of which we know a few."""

import math
from typing import NamedTuple

from gateway.errors import InvalidRequest


class Preferences(NamedTuple):
    """What was asked for; unknown preferences are ignored, as the RFC wants."""

    wait: float | None = None
    """Seconds within which the whole answer is wanted."""
    bigint_as_string: bool = False


NONE = Preferences()


def parse(header: str | None) -> Preferences:
    """Read the header; raises InvalidRequest where a preference we know has a value we do not."""
    if not header:
        return NONE
    wait = None
    bigint = False
    for item in header.split(","):
        name, _, value = item.partition(";")[0].partition("=")
        value = value.strip().strip('"')
        match name.strip().lower():
            case "wait":
                wait = _seconds(value)
            case "bigint":
                if value not in ("string", "number"):
                    raise InvalidRequest("Prefer: bigint must be string or number")
                bigint = value == "string"
    return Preferences(wait=wait, bigint_as_string=bigint)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidRequest("Prefer: wait must be a positive number of seconds")
    return seconds
