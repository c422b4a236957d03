"""From the bytes of a body to checked pieces of JSON text: nothing is decoded that is only passed on.

Whatever comes out of here is well-formed (RFC 8259, checked by msgspec), strict UTF-8, nested at most
``MAX_DEPTH`` deep, and its strings hold neither NUL nor half a surrogate pair: PostgreSQL's text can hold neither.
"""

import re
from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

import msgspec

from gateway.errors import InvalidJSON

MAX_DEPTH = 64
"""Objects and lists within each other, the outermost counted."""

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_T = TypeVar("_T")

_SPACE = b" \t\r\n"
_NOT_A_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")
"""A bracket's step into depth or out of it, as a signed byte."""
_NO_CHARACTER = re.compile(
    rb"\\u(?:0000"
    rb"|[dD][89abAB](?![0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|[dD][c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD].))"
)
"""The beginning of an escape for NUL, for a high surrogate without a low one behind it, or the other way around."""

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder(msgspec.Raw).decode


def split_object(body: bytes) -> dict[str, msgspec.Raw]:
    """Cut a JSON object into its members' own texts; an empty body is ``{}``.

    Of duplicate keys the last one wins. The texts carry no white space around them and keep ``body`` alive.

    Raises :class:`InvalidJSON` when the body breaks a rule of this module or is another JSON value.
    """
    if len(body) <= MAX_DEPTH and body.isascii() and b"\\" not in body:
        try:
            return _decode_object(body)  # PERF: nothing in it needs a check, as nearly always
        except msgspec.DecodeError:
            pass
    try:
        return _decoded(_decode_object, body)
    except InvalidJSON:
        if body.strip(_SPACE):
            raise
        return {}


def split_list(body: bytes) -> list[msgspec.Raw]:
    """Cut a JSON list into its elements' own texts.

    Raises :class:`InvalidJSON` when the body breaks a rule of this module or is another JSON value.
    """
    return _decoded(_decode_list, body, "list")


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
    return _decoded(_decode_value, body)


def is_null(raw: msgspec.Raw) -> bool:
    """Whether the text is JSON's ``null``."""
    return bytes(raw) == b"null"


def is_list(raw: msgspec.Raw) -> bool:
    """Whether the text is a list."""
    return memoryview(raw)[0] == ord("[")


def _decoded(decode: Callable[[bytes], _T], body: bytes, wanted: str = "object") -> _T:
    _check(body)
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        raise _malformed(body, error, wanted) from None
    except RecursionError:
        raise InvalidJSON(_TOO_DEEP) from None


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
    """Refuse what is nested too deep.

    Of text that is not well-formed only what stands before its first fault is measured right, and nothing else is
    read by a parser. Brackets that are not in pairs are such a fault, and the parser reports it with its place.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(body.split(b'"')[::2])
    steps = outside_strings.translate(_STEPS, _NOT_A_BRACKET)
    if steps.count(b"\x01") == steps.count(b"\xff") and max(accumulate(array("b", steps)), default=0) > MAX_DEPTH:
        raise InvalidJSON(_TOO_DEEP)


def _check_escapes(body: bytes) -> None:
    """Refuse escapes that stand for no character a text can hold."""
    if b"\\\\" in body:
        body = body.replace(b"\\\\", b"..")  # what is left of a backslash begins an escape; places stay what they are
    escape = _NO_CHARACTER.search(body)
    if escape:
        what = "NUL (\\u0000)" if escape[0].endswith(b"0") else "half a surrogate pair"
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
