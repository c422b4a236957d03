"""Consistency tokens: how far a server must have come to show a write. Opaque to clients, and no secret.

A position is comparable only within one cluster and along one timeline, so a token names all three.
"""

import struct
from typing import Self

import msgspec

from gateway.errors import InvalidRequest
from gateway.postgres.sealing import seal, unseal

_FORM = struct.Struct(">BQIQ")
_VERSION = 1
_NONSENSE = "Gateway-Consistency-Token: this is no token of a gateway; send one exactly as it came"
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
