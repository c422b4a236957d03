"""From the bytes of a body to checked pieces of JSON text: nothing is decoded that is only passed on.

Whatever comes out of here is well-formed (RFC 8259, checked by msgspec), strict UTF-8, nested at most
``MAX_DEPTH`` deep, and its strings hold neither NUL nor half a surrogate pair: PostgreSQL's text can hold neither.
"""

import re

import msgspec

from gateway.errors import InvalidJSON

MAX_DEPTH = 64
"""Objects and lists within each other, the outermost counted."""

_SPACE = b" \t\r\n"
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
_NOT_A_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
# Harmless escapes and whole pairs match without the group, so that an escape is never taken from the middle.
_ESCAPE = re.compile(
    rb"\\(?:[^u]|u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u0000|u[dD][89a-fA-F]))", re.DOTALL
)
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder(msgspec.Raw).decode


def split_object(body: bytes) -> dict[str, msgspec.Raw]:
    """Cut a JSON object into its members' own texts; an empty body is ``{}``.

    Of duplicate keys the last one wins. The texts carry no white space around them and keep ``body`` alive.

    Raises :class:`InvalidJSON` when the body breaks a rule of this module or is another JSON value.
    """
    _check(body)
    try:
        return _decode_object(body)
    except msgspec.DecodeError as error:
        if not body.strip(_SPACE):
            return {}
        raise _malformed(body, error) from None


def split_list(body: bytes) -> list[msgspec.Raw]:
    """Cut a JSON list into its elements' own texts.

    Raises :class:`InvalidJSON` when the body breaks a rule of this module or is another JSON value.
    """
    _check(body)
    try:
        return _decode_list(body)
    except msgspec.DecodeError as error:
        raise _malformed(body, error, "list") from None


def begins_list(body: bytes) -> bool:
    """Whether the body, if it is JSON at all, is a list."""
    return body.lstrip(_SPACE).startswith(b"[")


def members(raw: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    """The members of a piece that this module has checked; None where it is no object."""
    return _decode_object(raw) if memoryview(raw)[0] == ord("{") else None


def elements(raw: msgspec.Raw) -> list[msgspec.Raw] | None:
    """The elements of a piece that this module has checked; None where it is no list."""
    return _decode_list(raw) if is_list(raw) else None


def value(text: str) -> msgspec.Raw:
    """One JSON value from text, by the same rules as a body.

    Raises :class:`InvalidJSON`.
    """
    try:
        body = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidJSON(f"not UTF-8 (character {error.start})") from None
    _check(body)
    try:
        return _decode_value(body)
    except msgspec.DecodeError as error:
        raise _malformed(body, error) from None


def is_null(raw: msgspec.Raw) -> bool:
    """Whether the text is JSON's ``null``."""
    return bytes(raw) == b"null"


def is_list(raw: msgspec.Raw) -> bool:
    """Whether the text is a list."""
    return memoryview(raw)[0] == ord("[")


def _check(body: bytes) -> None:
    """Refuse what msgspec would let through, or run out of stack on."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"not UTF-8 (byte {error.start})") from None
    # PERF: a body this short cannot nest deeper; spares the counting (0.15 µs) in most requests.
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(body)
    if "\\u" in text:
        _check_escapes(body)


def _check_depth(body: bytes) -> None:
    """Measure the nesting exactly, without recursion and without a loop over the bytes in Python.

    Strings are taken out and each pass removes the innermost pairs: one pass a level. Text that is not well-formed
    may pass here; it then has at most ``2 * MAX_DEPTH`` open levels, which is no danger to the parser.
    """
    brackets = _STRING.sub(b"", body).translate(_TO_SQUARE, _NOT_A_BRACKET)
    for _ in range(MAX_DEPTH):
        if b"[]" not in brackets:
            break
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH:
        raise InvalidJSON(f"nested more than {MAX_DEPTH} levels deep")


def _check_escapes(body: bytes) -> None:
    """Refuse escapes that stand for no character a text can hold."""
    if not _SUSPECT_ESCAPE.search(body):
        return
    for escape in _ESCAPE.finditer(body):
        if escape.lastindex:
            what = "NUL (\\u0000)" if escape[1] == b"u0000" else "half a surrogate pair"
            raise InvalidJSON(f"{what} is no text (byte {escape.start()})")


def _malformed(body: bytes, error: msgspec.DecodeError, wanted: str = "object") -> InvalidJSON:
    """Say in our words what msgspec found."""
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        found = message.rpartition("got ")[2].strip("`")
        return InvalidJSON(f"the body must be a JSON {wanted}, not {found}")
    if body.startswith(b"\xef\xbb\xbf"):
        return InvalidJSON("begins with a byte order mark (byte 0)")
    if "truncated" in message:
        return InvalidJSON(f"ends too early (byte {len(body)})")
    if "trailing characters" in message:
        # NOTE: without the place, which msgspec 0.22 gives one too far.
        return InvalidJSON("goes on after its end")
    return InvalidJSON(message.removeprefix("JSON is malformed: "))
