"""The form in which clients carry tokens and marks: opaque, safe in a header, a path and a cookie; no secret.

The checksum tells what was cut or mistyped from what was given out; it does not keep anybody from making one.
"""

import base64
import binascii
import struct

_CHECKSUM = struct.Struct(">I")


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
