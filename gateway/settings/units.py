"""Durations, sizes and rates as people write them: ``250ms``, ``5s``, ``64kB``, ``100/s burst=200``."""

import re
from decimal import Decimal

import msgspec

_SECONDS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
MOST_RESTING = 366 * 86_400
"""Seconds in which a burst that was used up has to be back."""
_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}

_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(us|ms|s|min|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(B|kB|MB|GB|TB)?")
_RATE = re.compile(r"([1-9][0-9]{0,8}) ?/ ?(s|min|m|h|d)(?:\s+burst=([1-9][0-9]{0,8}))?")


class Rate(msgspec.Struct, frozen=True, gc=False):
    """How often something may happen."""

    events: int
    seconds: int
    """In which it may happen so often, time after time."""
    burst: int
    """How often it may happen at once, after a rest."""


def seconds(text: str) -> float:
    """Return the duration in seconds.

    Units are ``us``, ``ms``, ``s``, ``m`` (or ``min``), ``h`` and ``d``; a number alone is refused, since readers
    disagree about what it counts. Raises ValueError with a sentence.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError('must be a duration such as "250ms", "5s", "2m" or "1h"')
    return float(Decimal(match[1]) * _SECONDS[match[2]])


def size(text: str) -> int:
    """Return the size in bytes, rounded down.

    Units are ``B``, ``kB``, ``MB``, ``GB`` and ``TB``, by 1024 as PostgreSQL counts; a number alone is bytes.
    Raises ValueError with a sentence.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError('must be a size such as "64kB" or "1MB" (B, kB, MB, GB, TB)')
    return int(Decimal(match[1]) * _BYTES[match[2] or "B"])


def rate(text: str) -> Rate:
    """Return the rate: ``100/s``, ``10/min burst=5``; units are ``s``, ``m`` (or ``min``), ``h`` and ``d``.

    Without ``burst`` it is what may happen in a second, one at least. Raises ValueError with a sentence.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError('must be a rate such as "100/s", "100/s burst=200" or "30/min"')
    events, per = int(match[1]), int(_SECONDS[match[2]])
    burst = int(match[3]) if match[3] else -(-events // per)
    if burst * per > MOST_RESTING * events:
        raise ValueError("must have a burst that is back after a year at most")
    return Rate(events, per, burst)


def duration_text(number: float) -> str:
    """Write seconds as :func:`seconds` reads them, in the largest of ms, s and h that leaves a whole number."""
    exact = Decimal(repr(number))
    unit = next((unit for unit in ("h", "s", "ms") if exact and exact % _SECONDS[unit] == 0), "us")
    return f"{exact / _SECONDS[unit]:.0f}{unit}"


def size_text(number: int) -> str:
    """Write bytes as :func:`size` reads them, in the largest unit that leaves a whole number."""
    unit = next(unit for unit in reversed(_BYTES) if number % _BYTES[unit] == 0)
    return f"{number // _BYTES[unit]}{unit}"


def rate_text(value: Rate) -> str:
    """Write a rate as :func:`rate` reads it."""
    unit = next(unit for unit in ("s", "min", "h", "d") if value.seconds == _SECONDS[unit])
    text = f"{value.events}/{unit}"
    return text if rate(text) == value else f"{text} burst={value.burst}"
