"""``Idempotency-Key``: read from the request, with a hash of what the request asks for."""

import hashlib
import re

import falcon

from gateway.errors import InvalidRequest
from gateway.postgres.idempotency import Claim

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
ANYBODY = ""
"""The caller, as long as nobody is asked who they are."""


def has_key(request: falcon.Request) -> bool:
    """Whether the request brings a key."""
    return "HTTP_IDEMPOTENCY_KEY" in request.env


def claim_of(request: falcon.Request, body: bytes) -> Claim | None:
    """What the request's key claims, None without one; raises InvalidRequest.

    The hash covers the method, the path and the body as sent.
    """
    key = request.env.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters")
    asked = b"\0".join([request.method.encode(), request.path.encode("utf-8", "surrogateescape"), body])
    return Claim(ANYBODY, key, hashlib.sha256(asked).hexdigest())
