"""Cursors of pages: the key of the last row of a page, signed together with all that the next page must have in common.

A client carries it, and can read what is in it, which is what the page answered. It cannot make one, nor use it with
another query, other arguments or another order, as the signature is over those as well.
"""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.errors import InvalidRequest
from gateway.postgres.tokens import Token

_SIGNATURE = 16
"""Bytes, of the 32 of SHA-256."""
_LONGEST = 8192
"""Characters of a cursor that is looked at."""


class Position(NamedTuple):
    """Where a page ends."""

    values: Sequence[str | None]
    """Of the key's columns in its last row, as PostgreSQL writes them."""
    token: Token | None
    """What a server must have replayed so that it shows nothing older than that page did; None: nothing is known."""


class Cursors:
    """Writes and reads the cursors of all nodes that have the same secret."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"gateway cursor", "sha256")

    def write(self, position: Position, context: bytes) -> str:
        """Return the cursor of a position, good only in this context: query, arguments, order."""
        token = "" if position.token is None else str(position.token)
        content = msgspec.json.encode([token, *position.values])
        return _text(self._signature(content, context) + content)

    def read(self, text: str, context: bytes) -> Position | None:
        """Return the position of a cursor that was written with this secret in this context; None: it was not."""
        if len(text) > _LONGEST:
            return None
        try:
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except ValueError:
            return None
        signature, content = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if _text(raw) != text or not hmac.compare_digest(signature, self._signature(content, context)):
            return None
        token, *values = msgspec.json.decode(content, type=list[str | None])
        return Position(values, Token.read(token) if token else None)

    def _signature(self, content: bytes, context: bytes) -> bytes:
        # The hash of the context has one length, so that no byte of it can be moved into the content.
        return hmac.digest(self._key, hashlib.sha256(context).digest() + content, "sha256")[:_SIGNATURE]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def newest(first: Token | None, second: Token | None) -> Token | None:
    """Return the token of two that asks for more; raises InvalidRequest where they are of two clusters."""
    if first is None or second is None:
        return first or second
    if first.system != second.system:
        raise InvalidRequest("Gateway-Consistency-Token: the token is of another database cluster than the cursor")
    return max(first, second, key=lambda token: (token.timeline, token.position))
