"""The messages of the Model Context Protocol, over the transport that it calls Streamable HTTP.

A message is a JSON-RPC 2.0 request. Clients of revision 2026-07-28 say with each one what they are, and repeat in
headers, for whatever stands between, what it is for; older ones begin with ``initialize``. What they say then is not
kept: every message can be answered by itself, by any worker.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import falcon
import msgspec
import orjson

from gateway.catalogue import json_text
from gateway.errors import InvalidJSON

MODERN: Final = "2026-07-28"
LEGACY: Final = ("2025-03-26", "2025-06-18", "2025-11-25")
"""Revisions whose clients begin with ``initialize``, the newest last."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022
_STATUS = {METHOD_NOT_FOUND: 404}
_META = "io.modelcontextprotocol/"
_VERSION, _CAPABILITIES = f"{_META}protocolVersion", f"{_META}clientCapabilities"
SERVER_INFO: Final = f"{_META}serverInfo"
_ENCODED, _END = "=?base64?", "?="
_NO_ID = b"null"
_DIGITS = b"-0123456789"
_LONGEST_SHOWN = 64


class Refused(Exception):
    """A message that is answered with an error of the protocol's."""

    def __init__(self, code: int, message: str, *, data: Any = None, status: int | None = None) -> None:
        """``status``: None: as it is in revision 2026-07-28."""
        super().__init__(message)
        self.status = _STATUS.get(code, 400) if status is None else status
        self._error = {"code": code, "message": message} | ({} if data is None else {"data": data})

    def written(self, id_: bytes | None) -> bytes:
        """Return the answer to the message with this id."""
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id_ or _NO_ID, orjson.dumps(self._error))


class Message(NamedTuple):
    """A request, or a notification."""

    id: bytes | None
    """JSON text; None: nobody waits for an answer."""
    method: str
    params: Mapping[str, msgspec.Raw]
    meta: Mapping[str, msgspec.Raw]
    """``_meta`` of the params."""

    def text(self, name: str) -> str | None:
        """Return a param that is a string; None if there is no such thing."""
        return _text(self.params.get(name))

    def members(self, name: str) -> dict[str, msgspec.Raw]:
        """Return the members of a param that is an object, none where it is left out; raises Refused."""
        return _members(self.params, name)


def read(body: bytes) -> Message:
    """Read a message; raises Refused."""
    if json_text.begins_list(body):
        raise Refused(INVALID_REQUEST, "one message at a time: batches are not read")
    try:
        parts = json_text.split_object(body)
    except InvalidJSON as error:
        raise Refused(PARSE_ERROR, f"not JSON that can be read: {error.detail}") from None
    method = _text(parts.get("method"))
    if _text(parts.get("jsonrpc")) != "2.0" or method is None:
        raise Refused(INVALID_REQUEST, "the body must be a JSON-RPC 2.0 request with a method")
    id_ = parts.get("id")
    if id_ is not None and not _is_id(id_):
        raise Refused(INVALID_REQUEST, "id must be a string or an integer")
    params = _members(parts, "params")
    return Message(None if id_ is None else bytes(id_), method, params, _members(params, "_meta"))


def is_modern(message: Message, request: falcon.Request) -> bool:
    """Whether the client speaks revision 2026-07-28, or else an older one that is known.

    Raises Refused where it is neither, or where the headers do not say what the message does.
    """
    header = _header(request, "HTTP_MCP_PROTOCOL_VERSION")
    if _VERSION in message.meta or header == MODERN:
        if message.id is not None:
            _check_modern(message, request, header)
        return True
    if header is not None and header not in LEGACY and message.method != "initialize":
        raise _unsupported(header)
    return False


def _check_modern(message: Message, request: falcon.Request, header: str | None) -> None:
    lacking = [key for key in (_VERSION, _CAPABILITIES) if key not in message.meta]
    if lacking:
        raise Refused(INVALID_PARAMS, f"params._meta lacks {' and '.join(lacking)}")
    version = _text(message.meta[_VERSION])
    _require_equal("MCP-Protocol-Version", header, version)
    _require_equal("Mcp-Method", _header(request, "HTTP_MCP_METHOD"), message.method)
    if message.method == "tools/call":
        _require_equal("Mcp-Name", _decoded(_header(request, "HTTP_MCP_NAME")), message.text("name"))
    if version != MODERN:
        raise _unsupported(version or "")
    if json_text.members(message.meta[_CAPABILITIES]) is None:
        raise Refused(INVALID_PARAMS, f"params._meta: {_CAPABILITIES} must be an object")


def _require_equal(name: str, header: str | None, value: str | None) -> None:
    """SECURITY: what stands between decides by the header, and we by the message: they must not differ."""
    if header is None or header != value:
        said = "is missing" if header is None else "does not say what the message does"
        raise Refused(HEADER_MISMATCH, f"the header {name} {said}")


def _header(request: falcon.Request, key: str) -> str | None:
    value: str | None = request.env.get(key)
    return None if value is None else value.strip(" \t")


def _decoded(value: str | None) -> str | None:
    """Return what a header says that may be written in Base64; None where that cannot be read."""
    if value is None or not (value.startswith(_ENCODED) and value.endswith(_END)):
        return value
    payload = value[len(_ENCODED) : -len(_END)]
    try:
        decoded = base64.b64decode(payload, validate=True)
        # What is not written as it is everywhere could be read as something else in between.
        return decoded.decode() if base64.b64encode(decoded).decode() == payload else None
    except (binascii.Error, ValueError):
        return None


def _unsupported(version: str) -> Refused:
    data = {"supported": [MODERN], "requested": version[:_LONGEST_SHOWN]}
    return Refused(UNSUPPORTED_VERSION, "the protocol's revision is not one of those that are spoken here", data=data)


def _is_id(raw: msgspec.Raw) -> bool:
    text = bytes(raw)
    return text[:1] == b'"' or not text.strip(_DIGITS)


def _text(raw: msgspec.Raw | None) -> str | None:
    return msgspec.json.decode(raw, type=str) if raw is not None and memoryview(raw)[0] == ord('"') else None


def _members(parts: Mapping[str, msgspec.Raw], name: str) -> dict[str, msgspec.Raw]:
    found = {} if name not in parts else json_text.members(parts[name])
    if found is None:
        raise Refused(INVALID_PARAMS if name != "params" else INVALID_REQUEST, f"{name} must be an object")
    return found
