"""The answer to what is not a request: a problem, as the app's own, and the end of the connection."""

import os
from http import HTTPStatus

from gateway.web.problem import problem

_CODES = {
    400: "invalid_request",
    408: "request_timeout",
    413: "body_too_large",
    414: "headers_too_large",
    417: "invalid_request",
    431: "headers_too_large",
    500: "internal_error",
    501: "invalid_request",
    505: "invalid_request",
}


def refusal(status: int, detail: str, *, date: bytes) -> bytes:
    """The whole answer, head and body; ``date`` is the Date header's line."""
    phrase = HTTPStatus(status).phrase
    name = os.urandom(12).hex()
    body = problem(
        status=status,
        title=phrase,
        code=_CODES[status],
        detail=detail,
        request_id=name,
        retryable=status == HTTPStatus.REQUEST_TIMEOUT,
    )
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/problem+json\r\nX-Request-Id: {name}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    )
    return b"%b%b\r\n%b" % (head.encode(), date, body)
