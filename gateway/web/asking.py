"""What a request says beside its arguments: who waits and until when, in which form, with which key."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import falcon

from gateway.catalogue.exporting import Format
from gateway.catalogue.query import Query
from gateway.errors import InvalidRequest, NotAcceptable
from gateway.execution.call import JSON
from gateway.postgres.idempotency import Claim
from gateway.waiting import Client, ClientSocket
from gateway.web import formats
from gateway.web.preferences import Preferences

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ANY_JSON = frozenset({"*/*", JSON})
"""What nearly all requests accept."""


def client_of(request: falcon.Request) -> Client | None:
    """Whoever waits for the answer, where the server we run under lets us see."""
    client: Client | None = request.env.get("gateway.client")
    if client is None:
        sock = request.env.get("gunicorn.socket")
        client = None if sock is None else ClientSocket(sock)
    return client


def deadline_of(request: falcon.Request, seconds: float, wishes: Preferences) -> float:
    """The point of ``time.monotonic`` by which a request is answered: ``seconds`` after it came, or as it wishes.

    The environ's ``gateway.deadline`` tells the server we run under, which has the answer to send.
    """
    deadline: float = request.context.arrived + (seconds if wishes.wait is None else min(seconds, wishes.wait))
    request.env["gateway.deadline"] = deadline
    return deadline


def claim_of(request: falcon.Request, body: bytes) -> Claim | None:
    """What the request's idempotency key claims, None without one; raises InvalidRequest.

    The hash covers the method, the path and the body as sent.
    """
    key = request.env.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters")
    return Claim(request.context.caller.name, key, hashlib.sha256(begins_hash(request) + body).hexdigest())


def begins_hash(request: falcon.Request) -> bytes:
    """Return what goes before the body into the hash of a request."""
    return b"\0".join([request.method.encode(), request.path.encode("utf-8", "surrogateescape"), b""])


def query_string(text: str) -> Mapping[str, Sequence[str]]:
    """The arguments of a GET, strictly UTF-8, in their order; raises InvalidRequest.

    ``text`` is as WSGI hands it on: bytes that a client did not percent-encode are Latin-1 characters in it.
    """
    try:
        text = text.encode("latin-1").decode()
        return parse_qs(text, keep_blank_values=True, strict_parsing=bool(text), errors="strict", max_num_fields=1000)
    except ValueError as error:
        raise InvalidRequest("the query string cannot be read: name=value pairs, percent-encoded UTF-8") from error


def require_json(request: falcon.Request) -> None:
    """Raise NotAcceptable unless the caller takes ``application/json``."""
    accept = request.env.get("HTTP_ACCEPT")
    if accept and accept not in _ANY_JSON and not formats.accepts_json(accept):
        raise NotAcceptable("what this answers is application/json")


def wanted(request: falcon.Request, query: Query) -> Format | str | None:
    """What ``formats.wanted`` says, None for JSON."""
    accept = request.env.get("HTTP_ACCEPT")
    return formats.wanted(accept, query) if accept and accept not in _ANY_JSON else None
