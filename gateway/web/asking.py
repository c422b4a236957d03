"""What a request says beside its arguments: who waits and until when, in which form, with which key."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import falcon
import msgspec
from msgspec import Raw

from gateway.catalogue.exporting import Format
from gateway.catalogue.query import TOOL_KEY, Access, Kind, Query
from gateway.errors import ArgumentFault, Forbidden, InvalidArguments, InvalidRequest, NotAcceptable
from gateway.execution import freshness
from gateway.execution.call import JSON
from gateway.execution.freshness import Freshness
from gateway.execution.results import require_few, rolled_back
from gateway.postgres.idempotency import Claim
from gateway.postgres.single import Result
from gateway.postgres.work import Work
from gateway.waiting import Client, ClientSocket
from gateway.web import formats, preferences
from gateway.web.preferences import Preferences

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_ANY_JSON = frozenset({"", "*/*", JSON})
"""What nearly all requests accept."""


class Asked(NamedTuple):
    """What the headers of a request ask for."""

    preferences: Preferences
    freshness: Freshness | None
    big_as_text: bool
    """Whether int8 and numeric are answered as strings."""


def asked_by(request: falcon.Request, default: Asked, rollback_roles: frozenset[str]) -> Asked:
    """Return what a request asks for, or else what holds by default; raises InvalidRequest and Forbidden."""
    wishes = preferences.parse(request.env.get("HTTP_PREFER"))
    if wishes.rolls_back and rollback_roles.isdisjoint(request.context.caller.roles):
        # SECURITY: not passed over, as preferences may be: what was to be tried out would be committed.
        raise Forbidden("Prefer: tx=rollback is for callers with a role in [server] rollback_roles")
    token = request.env.get("HTTP_GATEWAY_CONSISTENCY_TOKEN")
    return Asked(
        wishes,
        freshness.asked_for(max_staleness=wishes.max_staleness, strict=wishes.strict, token=token),
        default.big_as_text if wishes.bigint is None else wishes.bigint == "string",
    )


def client_of(env: Mapping[str, Any]) -> Client | None:
    """Whoever waits for the answer, where a server other than our own lets us see."""
    sock = env.get("gunicorn.socket")
    return None if sock is None else ClientSocket(sock)


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


def claim_of_tool(request: falcon.Request, query: Query, arguments: Mapping[str, Raw]) -> Claim | None:
    """What an agent's idempotency key claims, which is an argument, or else the header; None without one.

    The hash covers the tool and the other arguments, whatever their order: an agent that repeats a call writes it anew.

    Raises InvalidArguments.
    """
    given = arguments.get(TOOL_KEY)
    key: Any = request.env.get("HTTP_IDEMPOTENCY_KEY") if given is None else msgspec.json.decode(given)
    if key is None:
        return None
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        fault = ArgumentFault(TOOL_KEY, "must be 1 to 255 printable ASCII characters")
        raise InvalidArguments(f"{fault.parameter} {fault.message}", faults=[fault])
    others = sorted((name, bytes(raw)) for name, raw in arguments.items() if name != TOOL_KEY)
    pieces = [query.name.encode(), *(piece for name, raw in others for piece in (name.encode(), raw))]
    hashed = hashlib.sha256(begins_hash(request) + b"\0".join(pieces))
    return Claim(request.context.caller.name, key, hashed.hexdigest())


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
    accept = request.env.get("HTTP_ACCEPT", "")
    if accept not in _ANY_JSON and not formats.accepts_json(accept):
        raise NotAcceptable("what this answers is application/json")


def wanted(request: falcon.Request, query: Query) -> Format | str | None:
    """What ``formats.wanted`` says, None for JSON."""
    accept = request.env.get("HTTP_ACCEPT", "")
    return None if accept in _ANY_JSON else formats.wanted(accept, query)


def commits_apart(query: Query, asked: Asked) -> bool:
    """Whether the COMMIT of a write is a message of its own: something has to be known before it is sent, or after."""
    wishes = asked.preferences
    is_checked = query.expect is not None or wishes.max_affected is not None or wishes.rolls_back
    return query.tracked or query.retry_serialization or is_checked


def limited(work: Work, queries: Sequence[Query], asked: Asked) -> Work:
    """The work, which is rolled back where that is asked for, or one of its writes touches more rows than is asked for.

    Raises InvalidRequest for a write that answers one row of however many it touches.
    """
    most = asked.preferences.max_affected
    if asked.preferences.rolls_back and work.writes:
        answer = work.encode
        work = work._replace(
            encode=lambda results: rolled_back(answer(results)), tracked=False, claim=None, rolls_back=True
        )
    encode = work.encode
    if most is None:
        return work
    for query in queries:
        if query.access is Access.WRITE and query.kind not in (Kind.EXEC, Kind.MANY):
            raise InvalidRequest(f"Prefer: max-affected: {query.name} answers one row, not how many it touches")

    def encode_few(results: Sequence[Result]) -> bytes:
        require_few(queries, results, most)
        return encode(results)

    return work._replace(encode=encode_few)
