"""Consistency tokens: how far a server must have come to show a write. Opaque to clients, and no secret.

A position is comparable only within one cluster and along one timeline, so a token names all three. The form in which
clients carry it (and the marks of writes) is safe in a header, a path and a cookie. Its checksum tells what was cut or
mistyped from what was given out; it does not keep anybody from making one.
"""

import base64
import binascii
import struct
from typing import Self

import msgspec

from gateway.errors import InvalidRequest

_FORM = struct.Struct(">BQIQ")
_VERSION = 1
_NONSENSE = "Gateway-Consistency-Token: this is no token of a gateway; send one exactly as it came"
_CHECKSUM = struct.Struct(">I")
_PAGE = 8192
_PAGE_HEADERS = (24, 40)


def written_to(position: int) -> int:
    """Where the WAL in front of an insert position ends.

    At the start of a page that position is behind the page's header, and no standby gets there until something else is
    written: what was written ended where the page begins.
    """
    into_page = position % _PAGE
    return position - into_page if into_page in _PAGE_HEADERS else position


class Token(msgspec.Struct, frozen=True):
    """Whoever has replayed up to here has the write."""

    system: int
    """The cluster's system identifier."""
    timeline: int
    position: int
    """In bytes of WAL."""

    @classmethod
    def after(cls, *, system: int, timeline: int, position: int) -> Self:
        """The token of a write after whose COMMIT the insert position was ``position``."""
        return cls(system, timeline, written_to(position))

    @classmethod
    def read(cls, text: str) -> Self:
        """The token a client sent back; raises InvalidRequest for anything that is none."""
        try:
            version, *fields = _FORM.unpack(unseal(text))
        except (ValueError, struct.error) as error:
            raise InvalidRequest(_NONSENSE) from error
        if version != _VERSION:
            raise InvalidRequest(_NONSENSE)
        return cls(*fields)

    def __str__(self) -> str:
        """The token as clients see it: safe in a header, a URL and a cookie."""
        return seal(_FORM.pack(_VERSION, self.system, self.timeline, self.position))


def seal(packed: bytes) -> str:
    """Write these bytes with their checksum."""
    return base64.urlsafe_b64encode(packed + _CHECKSUM.pack(binascii.crc32(packed))).decode().rstrip("=")


def unseal(text: str) -> bytes:
    """The bytes of a text that ``seal`` wrote; raises ValueError for any other."""
    raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    packed = raw[: -_CHECKSUM.size]
    if seal(packed) != text:
        raise ValueError("not as it was written")
    return packed
