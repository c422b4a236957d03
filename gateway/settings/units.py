"""Durations and sizes as people write them: ``250ms``, ``5s``, ``64kB``."""

import re
from decimal import Decimal

_SECONDS = {
    "us": Decimal("0.000001"),
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}

_DURATION = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(us|ms|s|min|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?(B|kB|MB|GB|TB)?")


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


def duration_text(number: float) -> str:
    """Write seconds as :func:`seconds` reads them, in the largest of ms, s and h that leaves a whole number."""
    exact = Decimal(repr(number))
    unit = next((unit for unit in ("h", "s", "ms") if exact and exact % _SECONDS[unit] == 0), "us")
    return f"{exact / _SECONDS[unit]:.0f}{unit}"


def size_text(number: int) -> str:
    """Write bytes as :func:`size` reads them, in the largest unit that leaves a whole number."""
    unit = next(unit for unit in reversed(_BYTES) if number % _BYTES[unit] == 0)
    return f"{number // _BYTES[unit]}{unit}"
