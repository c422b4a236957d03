"""One HTTP exchange, bounded in time and size as a whole, which waits as the process does, in a loop as the loop's.

TLS runs over memory, since the loop's sockets know none.
"""

import io
import re
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

T = TypeVar("T")

_PIECE = 65536
_LONGEST_RECEIPT = 65536
"""Bytes of an answer to what was posted."""
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


class FetchFailed(Exception):
    """There was no answer, or none that can be used; the message says why."""


def fetch(url: str, *, seconds: float, most: int) -> bytes:
    """Return the body of a 200 answer of at most so many bytes, that was there in time; raises FetchFailed.

    Redirects are not followed, and proxies of the environment are not used. The name is looked up beyond the time.
    """
    response = _exchange(url, b"", "Accept: application/json", seconds=seconds, most=most)
    if response.status != HTTPStatus.OK:
        raise FetchFailed(f"the answer is {response.status}")
    return response.read()


def post(url: str, body: bytes, *, media: str, seconds: float) -> None:
    """Send a body of this media type; raises FetchFailed where it was not taken in time."""
    head = f"Content-Type: {media}\r\nContent-Length: {len(body)}"
    response = _exchange(url, body, head, seconds=seconds, most=_LONGEST_RECEIPT)
    if response.status >= HTTPStatus.MULTIPLE_CHOICES:
        raise FetchFailed(f"the answer is {response.status}")


def _exchange(url: str, body: bytes, head: str, *, seconds: float, most: int) -> HTTPResponse:
    """Send a request, a POST where there is a body, with these lines in its head."""
    ends = monotonic() + seconds
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=seconds) as plain:
            stream = _Plain(plain, ends) if parts.scheme == "http" else _Tls(plain, ends, parts.hostname or "")
            stream.send(_request(parts, "POST" if body else "GET", head) + body)
            answer = _whole(stream.receive, most)
        response = HTTPResponse(_Received(answer))  # type: ignore[arg-type]  # all it needs of a socket
        response.begin()
    except TimeoutError:
        raise FetchFailed(f"no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise FetchFailed(f"its certificate is not good: {error.verify_message}") from None
    except (OSError, HTTPException, ValueError) as error:
        raise FetchFailed(f"{type(error).__name__}: {error}"[:200]) from None
    return response


def _request(parts: SplitResult, method: str, head: str) -> bytes:
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    host = parts.netloc.rpartition("@")[2]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", head, "User-Agent: pg-query-gateway"]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("ascii")


def _whole(receive: Callable[[], bytes], most: int) -> bytes:
    """Read until the end, of the connection or as the head says it."""
    data = bytearray()
    while piece := receive():
        data += piece
        if len(data) > most:
            raise FetchFailed(f"the answer has more than {most} bytes")
        head, end, body = bytes(data).partition(b"\r\n\r\n")
        if not end:
            continue
        length = _LENGTH.search(head + b"\r\n")
        if (length and len(body) >= int(length[1])) or (_CHUNKED.search(head) and body.endswith(b"0\r\n\r\n")):
            break
    return bytes(data)


class _Received:
    """What HTTPResponse needs of a socket."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, *_: Any) -> io.BytesIO:
        return io.BytesIO(self._answer)


class _Plain:
    """A connection on which every wait ends in time."""

    def __init__(self, sock: socket.socket, ends: float) -> None:
        self._sock = sock
        self._ends = ends

    def send(self, data: bytes) -> None:
        self._limit()
        self._sock.sendall(data)

    def receive(self) -> bytes:
        self._limit()
        return self._sock.recv(_PIECE)

    def _limit(self) -> None:
        left = self._ends - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)


class _Tls:
    """A connection through TLS that ends in time, with the server's certificate verified."""

    def __init__(self, sock: socket.socket, ends: float, host: str) -> None:
        self._plain = _Plain(sock, ends)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._run(self._tls.do_handshake)

    def send(self, data: bytes) -> None:
        self._run(lambda: self._tls.write(data))

    def receive(self) -> bytes:
        try:
            return self._run(lambda: self._tls.read(_PIECE))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    def _run(self, step: Callable[[], T]) -> T:
        """Take a step, with as much of the network in between as it wants."""
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._plain.receive():
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            else:
                self._flush()
                return done

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._plain.send(self._outgoing.read())
