"""One request's head: from raw bytes to a checked WSGI environ, by RFC 9112 and stricter.

httptools (llhttp) reads the bytes; what it lets through and should not is refused here: a second Host, any transfer
coding but ``chunked``, one with HTTP/1.0, a length beside a coding, ``_`` in a header's name, NUL and control
characters in values, white space where framing could be read two ways.
"""

import re
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from gateway.auth.proxies import FORWARDED

MAX_LINE = 8190
MAX_HEAD = 32768
MAX_FIELDS = 100

_ONCE = frozenset({b"host", b"content-length", b"content-type", b"authorization", b"transfer-encoding", b"expect"})
_RECORDS = (b"application/x-ndjson", b"text/csv")
"""Media types of which a body may be longer than is held in memory."""
_LINE = re.compile(rb"([A-Z][A-Z-]{2,19}) ([!-~]+) HTTP/([0-9]\.[0-9])")
_TOKEN = re.compile(rb"[!#$%&'*+.^`|~0-9A-Za-z-]+")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#]*)(/[^?#]*)?(\?[^#]*)?")


class BadRequest(Exception):
    """A head or a body that is not answered but with an error, after which the connection closes."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Head(msgspec.Struct, frozen=True):
    """What a head says, apart from whose connection it came over."""

    environ: dict[str, Any]
    length: int
    """Of the body in bytes; 0 where it is chunked or there is none."""
    chunked: bool
    keep_alive: bool
    expects_continue: bool
    http_1_1: bool
    is_upload: bool
    """Whether the body holds records that the application reads while it arrives."""
    is_forwarded: bool
    """A proxy (or somebody who says so) named the client behind it."""


class Line(NamedTuple):
    """A request line."""

    method: bytes
    target: bytes
    http_1_1: bool
    """Else HTTP/1.0."""
    host: bytes | None
    """Of a target in absolute form: it beats the Host header."""
    path: bytes
    query: bytes


class _Notes:
    """What the parser calls; it only notes."""

    __slots__ = ("fields", "url")

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))


def parse_head(raw: bytes) -> Head:
    """Read a head that ends with its blank line; raises BadRequest."""
    line = parse_line(raw[: raw.index(b"\r\n")])
    _check_bytes(raw)
    notes = _Notes()
    try:
        httptools.HttpRequestParser(notes).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # we upgrade to nothing, and answer as if not asked
    except httptools.HttpParserInvalidMethodError:
        raise BadRequest(501, "the method is not known here") from None
    except httptools.HttpParserError as error:
        raise BadRequest(400, f"the request's head cannot be read: {error}") from None
    if len(notes.fields) > MAX_FIELDS:
        raise BadRequest(431, f"more than {MAX_FIELDS} header fields")
    return _checked(line, notes.fields)


def parse_line(line: bytes) -> Line:
    """Read a request line, without its end; raises BadRequest."""
    if len(line) > MAX_LINE:
        raise BadRequest(414, "the request line is too long")
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadRequest(400, "the request line is malformed")
    method, target, version = found.groups()
    if version not in (b"1.0", b"1.1"):
        raise BadRequest(505, "HTTP/1.0 and HTTP/1.1 are spoken here")
    if method == b"CONNECT":
        raise BadRequest(501, "no tunnels are made here")
    host, path, query = _target(method, target)
    return Line(method, target, version == b"1.1", host, path, query)


def _check_bytes(raw: bytes) -> None:
    """What must be refused whatever the parser says."""
    if b"\0" in raw:
        raise BadRequest(400, "NUL in the head")
    if raw.count(b"\n") != raw.count(b"\r\n") or raw.count(b"\r") != raw.count(b"\r\n"):
        raise BadRequest(400, "a line ends in something other than CRLF")
    if b"\r\n " in raw or b"\r\n\t" in raw:
        raise BadRequest(400, "a folded header line")


def _checked(line: Line, fields: list[tuple[bytes, bytes]]) -> Head:
    environ: dict[str, Any] = {}
    seen: dict[bytes, bytes] = {}
    for name, value in fields:
        lowered = name.lower()
        if not _TOKEN.fullmatch(name):
            raise BadRequest(400, "a header's name is malformed")
        value = value.strip(b" \t")
        if _CONTROL.search(value):
            raise BadRequest(400, "control characters in a header's value")
        if lowered in seen:
            if lowered in _ONCE:
                raise BadRequest(400, f"more than one {lowered.decode()}")
            value = seen[lowered] + (b"; " if lowered == b"cookie" else b",") + value
        seen[lowered] = value
    if b"host" not in seen and line.http_1_1:
        raise BadRequest(400, "no Host")
    if b"host" in seen and not _HOST.fullmatch(seen[b"host"]):
        raise BadRequest(400, "Host is malformed")
    chunked, length = _framing(seen, line.http_1_1)
    for lowered, value in seen.items():
        key = lowered.decode().upper().replace("-", "_")
        environ[key if lowered in (b"content-type", b"content-length") else f"HTTP_{key}"] = value.decode("latin-1")
    environ.pop("HTTP_TRANSFER_ENCODING", None)  # the application gets the body as it was before that
    if line.host is not None:
        environ["HTTP_HOST"] = line.host.decode("latin-1")
    environ |= {
        "REQUEST_METHOD": line.method.decode(),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(line.path).decode("latin-1"),
        "QUERY_STRING": line.query.decode("latin-1"),
        "RAW_URI": line.target.decode("latin-1"),
        "SERVER_PROTOCOL": "HTTP/1.1" if line.http_1_1 else "HTTP/1.0",
        "wsgi.version": (1, 0),
        "wsgi.input_terminated": True,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    connection = {word.strip().lower() for word in seen.get(b"connection", b"").split(b",")}
    expects = seen.get(b"expect")
    if expects is not None and expects.lower() != b"100-continue":
        raise BadRequest(417, "Expect can be 100-continue only")
    return Head(
        environ=environ,
        length=length,
        chunked=chunked,
        keep_alive=line.http_1_1 and b"close" not in connection,
        expects_continue=expects is not None and line.http_1_1,  # RFC 9110 §10.1.1: of HTTP/1.0 it is ignored
        http_1_1=line.http_1_1,
        is_upload=(chunked or length > 0)
        and line.method == b"POST"
        and line.path.startswith(b"/query/")
        and seen.get(b"content-type", b"").partition(b";")[0].strip().lower() in _RECORDS,
        is_forwarded=not FORWARDED.isdisjoint(environ),
    )


def _target(method: bytes, target: bytes) -> tuple[bytes | None, bytes, bytes]:
    """Host (of an absolute form), path and query of a request target (RFC 9112 §3.2)."""
    if b"#" in target:
        raise BadRequest(400, "the request target is malformed")
    if target == b"*" and method == b"OPTIONS":
        return None, b"*", b""
    if target.startswith(b"/"):
        path, _, query = target.partition(b"?")
        return None, path, query
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not absolute[1] or not _HOST.fullmatch(absolute[1]):
        raise BadRequest(400, "the request target is malformed")
    return absolute[1], absolute[2] or b"/", (absolute[3] or b"?")[1:]


def _framing(seen: dict[bytes, bytes], http_1_1: bool) -> tuple[bool, int]:
    coding, length = seen.get(b"transfer-encoding"), seen.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadRequest(400, "both Transfer-Encoding and Content-Length")
        if not http_1_1:
            raise BadRequest(400, "Transfer-Encoding with HTTP/1.0")
        if coding.lower() != b"chunked":
            raise BadRequest(501, "Transfer-Encoding can be chunked only")
        return True, 0
    if length is None:
        return False, 0
    if not _LENGTH.fullmatch(length):
        raise BadRequest(400, "Content-Length is malformed")
    return False, int(length)
