"""From a WSGI application's answer to bytes on the wire: head and body in one piece, or streamed in chunks.

Also the answer to what is not a request: a problem, as the application's own, and the end of the connection.
"""

import os
import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from gateway.events import RequestRefused
from gateway.web.problem import RETRY_AFTER, error_of, phrase_of, problem

_BODILESS = frozenset({"204", "304"})
_OK = "200 OK"
_CONTENT_LENGTH = "content-length"
LAST_CHUNK = b"0\r\n\r\n"


class Clock:
    """The Date header's text, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def line(self) -> str:
        """``Date: …`` with its CRLF."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = f"Date: {formatdate(second, usegmt=True)}\r\n"
        return self._text


class Answer:
    """Collects what an application answers: ``start_response`` and the body it returns."""

    __slots__ = ("headers", "status")

    status: str
    headers: list[tuple[str, str]]
    """Both once the application has begun to answer."""

    def start(self, status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[[bytes], object]:
        """``start_response`` (PEP 3333); the old ``write`` callable is not offered."""
        self.status = status
        self.headers = headers
        return _no_write

    def encode(self, body: list[bytes], *, lines: str, date: str, keep_alive: bool, is_head: bool) -> bytes:
        """The whole answer. ``lines``: of its head, with their ends, that the application vouches for.

        Raises ValueError for a header that would break the framing.
        """
        content = body[0] if len(body) == 1 else b"".join(body)
        if keep_alive and not (is_head or self.headers) and self.status == _OK:  # PERF: nearly all of them
            return f"HTTP/1.1 {_OK}\r\n{lines}Content-Length: {len(content)}\r\n{date}\r\n".encode("latin-1") + content
        if is_head or self.status[:3] in _BODILESS:
            return self._head(None, lines=lines, date=date, keep_alive=keep_alive)
        head = self._head(f"Content-Length: {len(content)}\r\n", lines=lines, date=date, keep_alive=keep_alive)
        return head + content

    def stream_head(self, *, lines: str, date: str, keep_alive: bool, chunked: bool) -> bytes:
        """The head of an answer whose length is not known; if not ``chunked``, the end of the connection is its end."""
        framing = "Transfer-Encoding: chunked\r\n" if chunked else ""
        return self._head(framing, lines=lines, date=date, keep_alive=keep_alive)

    def _head(self, framing: str | None, *, lines: str, date: str, keep_alive: bool) -> bytes:
        """``framing``: the line that tells where the body ends; None leaves the application's own."""
        for name, value in self.headers:
            # The length is ours alone: one that does not fit the body would be somebody else's next answer.
            if framing is None or len(name) != 14 or name.lower() != _CONTENT_LENGTH:
                if not (name.isprintable() and value.isprintable()):
                    raise ValueError("the application sent a header with a line break or a control character in it")
                lines += f"{name}: {value}\r\n"
        end = "" if keep_alive else "Connection: close\r\n"
        return f"HTTP/1.1 {self.status}\r\n{lines}{framing or ''}{date}{end}\r\n".encode("latin-1")


def refusal(status: int, detail: str, *, date: str) -> bytes:
    """The whole answer to what is not served; ``date`` is the Date header's line."""
    name = os.urandom(12).hex()
    body = problem(error_of(status, detail), status=status, request_id=name)
    retry = f"Retry-After: {RETRY_AFTER}\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status} {phrase_of(status)}\r\nContent-Type: application/problem+json\r\nX-Request-Id: {name}\r\n"
        f"Content-Length: {len(body)}\r\n{retry}Connection: close\r\n{date}\r\n"
    )
    return head.encode() + body


def report_of(status: int, detail: str) -> RequestRefused:
    """Return the event of such an answer."""
    return RequestRefused(status=status, code=error_of(status, detail).code, detail=detail)


def chunk_frame(size: int) -> tuple[bytes, bytes]:
    """What stands around a piece of a streamed answer; ``size`` must not be 0, for that would end it."""
    return b"%x\r\n" % size, b"\r\n"


def close(body: Iterable[bytes]) -> None:
    """Call the body's ``close``, if it has one: it is not read any further (PEP 3333)."""
    end = getattr(body, "close", None)
    if end is not None:
        end()


def _no_write(_data: bytes) -> None:
    raise NotImplementedError("write() of start_response is not offered; return the body")
