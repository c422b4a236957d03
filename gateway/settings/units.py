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
