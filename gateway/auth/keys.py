"""API keys: what one looks like, and what is kept of it.

A key is ``gwk_<id>_<secret>_<check>`` in base62: 8, 43 and 6 characters. Its prefix lets scanners find keys that were
published by mistake, and its check (CRC-32 over all that stands before) tells them, and people, a key from a typing
error. Only the SHA-256 of the whole is kept: the secret is 256 random bits, which no slow hash would protect better.
"""

import hashlib
import re
import secrets
import zlib
from typing import Any

import msgspec

PREFIX = "gwk_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECK = 8, 43, 6
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID}}})_[0-9A-Za-z]{{{_SECRET}}}_([0-9A-Za-z]{{{_CHECK}}})")
LENGTH = len(PREFIX) + _ID + 1 + _SECRET + 1 + _CHECK


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one key."""

    id: str
    sha256: str
    """Of the whole key, in hex."""
    name: str
    """Several keys may have one: callers are ``key:NAME``."""
    roles: tuple[str, ...] = ()
    created: float = 0.0
    """Seconds of the Unix epoch."""
    expires: float | None = None
    """Seconds of the Unix epoch, from which on it is refused; None: it never is."""
    rate: str | None = None
    """How often callers of its name may call, such as ``100/s``."""
    parameters: dict[str, Any] = {}
    """What parameters are bound to, and what is sent to the server of its claims."""


def make() -> str:
    """Return a new key."""
    drawn = "".join(secrets.choice(_DIGITS) for _ in range(_ID + _SECRET))
    body = f"{PREFIX}{drawn[:_ID]}_{drawn[_ID:]}"
    return f"{body}_{_check_of(body)}"


def id_of(key: str) -> str | None:
    """Return the part of a key by which it is found; None for what is no key, a mistyped one included."""
    form = _FORM.fullmatch(key)
    return form[1] if form is not None and _check_of(key[: -_CHECK - 1]) == form[2] else None


def digest_of(key: str) -> bytes:
    """Return what is kept of a key in its stead."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _check_of(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
