"""Reads a request's body within the limit, from whatever server we run under."""

import falcon

from gateway.errors import BodyTooLarge, InvalidRequest, RequestTimeout, UnsupportedMediaType

_PIECE = 65536


def read_json(request: falcon.Request, limit: int) -> bytes:
    """The body of a request that is said to be JSON (or says nothing), at most ``limit`` bytes.

    Raises UnsupportedMediaType, BodyTooLarge (before reading, where the length is announced), RequestTimeout (the
    server's limit of silence passed) or InvalidRequest.
    """
    env = request.env
    media = env.get("CONTENT_TYPE")
    if media and media != "application/json" and not _is_json(media):
        raise UnsupportedMediaType(f"not {media.partition(';')[0]!s}")
    coding = env.get("HTTP_CONTENT_ENCODING")
    if coding is not None and coding.lower() != "identity":
        raise UnsupportedMediaType("compressed bodies are not read")
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


def _read_unannounced(stream: object, limit: int) -> bytes:
    """A chunked body: its length is known at its end only."""
    pieces, total = [], 0
    while piece := _read(stream, min(_PIECE, limit + 1 - total)):
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise BodyTooLarge(f"more than {limit} bytes")
    return b"".join(pieces)


def _read(stream: object, size: int) -> bytes:
    try:
        piece: bytes = stream.read(size)  # type: ignore[attr-defined]  # wsgi.input is a file by PEP 3333
    except (TimeoutError, BlockingIOError) as error:  # what SO_RCVTIMEO ends a blocking read with
        raise RequestTimeout("the body stopped coming before its end") from error
    except Exception as error:
        raise InvalidRequest("the body could not be read to its end") from error
    return piece


def _is_json(media: str) -> bool:
    kind, _, rest = media.partition(";")
    charset = rest.strip().lower()
    kind = kind.strip().lower()
    return (kind == "application/json" or kind.endswith("+json")) and charset in (
        "",
        "charset=utf-8",
        'charset="utf-8"',
    )
