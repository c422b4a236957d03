"""Reads a request's body within the limit, from whatever server we run under."""

from collections.abc import Callable
from typing import Any

import falcon

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, RequestTimeout, UnsupportedMediaType

_PIECE = 65536
_LONGEST_MEDIA = 1024
"""Characters of a Content-Type: the time to parse one grows with the square of its length."""


def read_json(request: falcon.Request, limit: int) -> bytes:
    """The body of a request that is said to be JSON (or says nothing), at most ``limit`` bytes.

    SECURITY: a browser asks nobody before it sends a page's body without a type, so one of those is not JSON.

    Raises UnsupportedMediaType, BodyTooLarge (before reading, where the length is announced), RequestTimeout (the
    server's limit of silence passed) or InvalidRequest.
    """
    env = request.env
    media = env.get("CONTENT_TYPE")
    if media != "application/json":
        if media:
            _require_json(media)
        elif ("HTTP_ORIGIN" in env or "HTTP_SEC_FETCH_SITE" in env) and _has_body(env):
            raise UnsupportedMediaType("a body from a browser needs Content-Type: application/json")
    return read(request, limit)


def read(request: falcon.Request, limit: int) -> bytes:
    """The body of a request, whatever it is, at most ``limit`` bytes; raises as ``read_json`` does."""
    env = request.env
    if "HTTP_CONTENT_ENCODING" in env:
        require_plain(request)
    whole: bytes | None = env.get("gateway.body")
    if whole is not None:
        if len(whole) > limit:
            raise BodyTooLarge(f"{len(whole)} bytes, at most {limit} are read")
        return whole
    stream = env["wsgi.input"]
    announced = request.content_length
    if announced is None:
        if "HTTP_TRANSFER_ENCODING" not in env:
            return b""
        return _read_unannounced(stream, limit)
    if announced > limit:
        raise BodyTooLarge(f"{announced} bytes, at most {limit} are read")
    body: bytes = _read(stream, announced)
    if len(body) < announced:
        raise InvalidRequest("the body ended before its announced length")
    return body


def require_plain(request: falcon.Request) -> None:
    """Raise UnsupportedMediaType for a body that is compressed."""
    if request.env.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read")


def read_piece(read: Callable[[int], bytes], size: int) -> bytes:
    """Some bytes of a body that is read while it arrives, none at its end; raises RequestTimeout or InvalidRequest."""
    try:
        return read(size)
    except (TimeoutError, BlockingIOError) as error:  # what SO_RCVTIMEO ends a blocking read with
        raise RequestTimeout("the body stopped coming before its end") from error
    except GatewayError:
        raise
    except Exception as error:
        raise InvalidRequest("the body could not be read to its end") from error


def _read_unannounced(stream: object, limit: int) -> bytes:
    """A chunked body: its length is known at its end only."""
    pieces, total = [], 0
    while piece := _read(stream, min(_PIECE, limit + 1 - total)):
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
    return b"".join(pieces)


def _read(stream: Any, size: int) -> bytes:
    return read_piece(stream.read, size)


def _require_json(media: str) -> None:
    """Raise UnsupportedMediaType unless the Content-Type is JSON's, or of a ``+json`` kind, in UTF-8."""
    if len(media) > _LONGEST_MEDIA:
        raise UnsupportedMediaType(f"a Content-Type of more than {_LONGEST_MEDIA} characters")
    kind, parameters = falcon.parse_header(media)
    if kind.lower() != "application/json" and not kind.lower().endswith("+json"):
        raise UnsupportedMediaType(f"not {kind}")
    if parameters.get("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("JSON is read as UTF-8 only")


def _has_body(env: dict[str, Any]) -> bool:
    return bool(env.get("gateway.body")) or env.get("CONTENT_LENGTH", "0") != "0" or "HTTP_TRANSFER_ENCODING" in env
