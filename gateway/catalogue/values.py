"""How one JSON value becomes PostgreSQL's input text of a type, family by family.

The text is what stands between the quotes of a literal before anything is doubled for SQL
(:func:`gateway.catalogue.arguments.literal` does that). Readers expect JSON text that ``json_text`` has checked.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Final, TypeVar

import msgspec

from gateway.catalogue.json_text import is_list, is_null
from gateway.catalogue.types import Family, Type

MAX_DIMENSIONS: Final = 6
"""Of an array, PostgreSQL's MAXDIM."""

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
"""A number as RFC 8259 writes it."""

WORDS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
"""Values of float and numeric types that JSON writes as strings."""

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_LONGEST_INTEGER = 20  # characters of the least int8
# Every group of four digits but the last may be followed by a hyphen, braces may be around (PostgreSQL, "UUID Type").
_UUID = re.compile(r"(\{)?(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}(?(1)\})")
_SHOWN = 10
_SLICE: Final = 512
_SLICE_OF_CONTAINERS: Final = 16
"""Elements that are read without a pause; each container pauses inside itself, too."""
_LONGEST_ARRAY: Final = 64 * 1024**2
"""Characters of an array as PostgreSQL reads it: fields that are left out of composites make it longer than JSON."""
_LONGEST_NAME = 63

_T = TypeVar("_T")

Reader = Callable[[msgspec.Raw], str]
"""JSON text to input text; raises :class:`Refused`.

``null`` is refused like any wrong value: what it means is decided by the caller, who looks for it only then.
PERF: a look at every value for null would cost 0.08 µs each.
"""

Pause = Callable[[], None]
"""Called between parts of long work, each of a few milliseconds at most, so that other requests get their turn."""


def no_pause() -> None:
    """The pause of work that nobody else waits for."""


_decode_bool = msgspec.json.Decoder(bool).decode
_decode_integer = msgspec.json.Decoder(int).decode
_decode_string = msgspec.json.Decoder(str).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Refused(Exception):
    """A value does not fit; the message has no subject, as in ``must be an integer``."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path

    def within(self, step: str) -> "Refused":
        """Return the refusal with its path one level further out: ``[2]`` of a list, ``.street`` of an object."""
        return Refused(self.message, step + self.path)

    def __str__(self) -> str:
        """The message, with the place inside the value if it is not the whole."""
        return f"at {self.path}: {self.message}" if self.path else self.message


def reader(type_: Type, pause: Pause = no_pause) -> Reader:
    """The reader of a type, composed once for all its elements and fields; it calls ``pause`` in long values."""
    match type_.family:
        case Family.BOOL:
            return _read_bool
        case Family.INTEGER:
            return _integer_reader(type_)
        case Family.FLOAT:
            return _read_float
        case Family.NUMERIC:
            return _read_numeric
        case Family.TEXT:
            return string
        case Family.UUID:
            return _read_uuid
        case Family.BYTEA:
            return _read_bytea
        case Family.JSON:
            return _read_json
        case Family.ENUM:
            return _enum_reader(type_)
        case Family.ARRAY:
            return _array_reader(type_, pause)
        case Family.COMPOSITE:
            return _composite_reader(type_, pause)
        case Family.OTHER:
            return _other_reader(type_)


def string(raw: msgspec.Raw) -> str:
    """The characters of a JSON string."""
    text = _typed(_decode_string, raw, "must be a string")
    if "\0" in text:
        raise Refused("must not contain NUL")
    return text


def items(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """The texts of a list's elements."""
    return _typed(_decode_list, raw, "must be a list")


def array_text(elements: Iterable[str | None], delimiter: str) -> str:
    """One dimension of an array literal from the elements' input texts, None for NULL."""
    return "{" + delimiter.join("NULL" if text is None else _quoted_element(text) for text in elements) + "}"


def one_of(choices: Sequence[str]) -> str:
    """``must be one of …``, the first ten by their JSON text."""
    shown = ", ".join(choices[:_SHOWN])
    return f"must be one of {shown}" + (f" … ({len(choices)} in all)" if len(choices) > _SHOWN else "")


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` (did you mean …?)`` where something known looks like the name, else nothing."""
    if len(name) > _LONGEST_NAME:
        return ""
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def shortened(name: str) -> str:
    """A name out of a request, cut to a length that an answer can carry."""
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def _typed(decode: Callable[[msgspec.Raw], _T], raw: msgspec.Raw, otherwise: str) -> _T:
    try:
        return decode(raw)
    except msgspec.DecodeError:
        raise Refused(otherwise) from None


def _read_bool(raw: msgspec.Raw) -> str:
    return "true" if _typed(_decode_bool, raw, "must be true or false") else "false"


def _integer_reader(type_: Type) -> Reader:
    high = (1 << (8 * type_.size - 1)) - 1
    low = -high - 1
    wide = type_.size == 8
    outside = f"must be an integer between {low} and {high}"

    def read(raw: msgspec.Raw) -> str:
        try:
            number = _decode_integer(raw)
        except msgspec.DecodeError:
            number = _long_integer(raw, wide=wide, outside=outside)
        if low <= number <= high:
            return str(number)
        raise Refused(outside)

    return read


def _long_integer(raw: msgspec.Raw, *, wide: bool, outside: str) -> int:
    """What is no JSON integer of a length that ``int`` takes: perhaps one in a string, perhaps one too long."""
    text = str(raw, "utf-8")
    if wide and text.startswith('"'):
        text = string(raw)
    if not _INTEGER.fullmatch(text):
        raise Refused("must be an integer")
    if len(text) > _LONGEST_INTEGER:
        raise Refused(outside)
    return int(text)


def _read_float(raw: msgspec.Raw) -> str:
    text = str(raw, "utf-8")
    if text[0] in "-0123456789":
        return text
    if text[0] == '"' and (word := string(raw)) in WORDS:
        return word
    raise Refused('must be a number, "NaN", "Infinity" or "-Infinity"')


def _read_numeric(raw: msgspec.Raw) -> str:
    text = str(raw, "utf-8")
    if text[0] in "-0123456789":
        return text
    if text[0] == '"':
        word = string(raw)
        if word in WORDS or NUMBER.fullmatch(word):
            return word
    raise Refused('must be a number, "NaN", "Infinity" or "-Infinity"')


def _read_uuid(raw: msgspec.Raw) -> str:
    text = _typed(_decode_string, raw, "must be a UUID in a string")
    if _UUID.fullmatch(text):
        return text
    raise Refused("must be a UUID in a string")


def _read_bytea(raw: msgspec.Raw) -> str:
    text = string(raw)
    if text.startswith("\\x"):
        try:
            bytes.fromhex(text[2:])
        except ValueError:
            raise Refused("must have pairs of hexadecimal digits after \\x") from None
    return text


def _read_json(raw: msgspec.Raw) -> str:
    if is_null(raw):
        raise Refused("must not be null")
    return str(raw, "utf-8")


def _enum_reader(type_: Type) -> Reader:
    labels = frozenset(type_.labels)
    otherwise = one_of([msgspec.json.encode(label).decode() for label in type_.labels])

    def read(raw: msgspec.Raw) -> str:
        text = _typed(_decode_string, raw, otherwise)
        if text in labels:
            return text
        raise Refused(otherwise)

    return read


def _other_reader(type_: Type) -> Reader:
    otherwise = f"must be a string as PostgreSQL reads {type_.name}"

    def read(raw: msgspec.Raw) -> str:
        text = str(raw, "utf-8")
        if text[0] == '"':
            return string(raw)
        if text[0] in "[{n":
            raise Refused(otherwise)
        return text

    return read


def _array_reader(type_: Type, pause: Pause) -> Reader:
    """Lists in lists are dimensions, except where a list can itself be the element's value."""
    element = type_.element
    if element is None:
        raise ValueError(f"{type_.name} is an array of an unknown type")
    read_element = reader(element, pause)
    delimiter = element.delimiter
    nests = element.family not in {Family.JSON, Family.ARRAY}
    width = _SLICE_OF_CONTAINERS if element.family in {Family.COMPOSITE, Family.ARRAY} else _SLICE

    def one_dimension(elements: list[msgspec.Raw]) -> str:
        out: list[str] = []
        length = 0
        for start, part in _slices(elements, width, pause):
            for index, raw in enumerate(part, start):
                try:
                    out.append(_quoted_element(read_element(raw)))
                except Refused as refused:
                    if not is_null(raw):
                        raise refused.within(f"[{index}]") from None
                    out.append("NULL")
            length += sum(map(len, out[start:]))
            if length > _LONGEST_ARRAY:
                raise Refused(f"must have at most {_LONGEST_ARRAY} characters as PostgreSQL reads {type_.name}")
        return "{" + delimiter.join(out) + "}"

    def dimensions(elements: list[msgspec.Raw], depth: int) -> tuple[str, tuple[int, ...]]:
        if not (elements and nests and is_list(elements[0])):
            return one_dimension(elements), (len(elements),)
        if depth == MAX_DIMENSIONS:
            raise Refused(f"must have at most {MAX_DIMENSIONS} dimensions")
        parts = []
        shapes = set()
        for start, some in _slices(elements, _SLICE_OF_CONTAINERS, pause):
            for index, raw in enumerate(some, start):
                try:
                    part, shape = dimensions(items(raw), depth + 1)
                except Refused as refused:
                    raise refused.within(f"[{index}]") from None
                parts.append(part)
                shapes.add(shape)
        if len(shapes) > 1:
            raise Refused("must have lists of the same length at every level")
        return "{" + delimiter.join(parts) + "}", (len(elements), *shape)

    def read(raw: msgspec.Raw) -> str:
        pause()
        text, shape = dimensions(items(raw), 1)
        # PostgreSQL has one empty array, without dimensions.
        return text if shape[-1] else "{}"

    return read


def _composite_reader(type_: Type, pause: Pause) -> Reader:
    fields = {name: (place, reader(field, pause)) for place, (name, field) in enumerate(type_.fields)}
    otherwise = f"must be an object with the fields of {type_.name}"

    def read(raw: msgspec.Raw) -> str:
        members = _typed(_decode_object, raw, otherwise)
        out = [""] * len(fields)
        for name, member in members.items():
            if name not in fields:
                raise Refused(f"has no field {shortened(name)}{suggestion(name, fields)}")
            place, read_field = fields[name]
            try:
                out[place] = _quoted_field(read_field(member))
            except Refused as refused:
                if not is_null(member):
                    raise refused.within(f".{name}") from None
        return "(" + ",".join(out) + ")"

    return read


def _slices(elements: list[msgspec.Raw], width: int, pause: Pause) -> Iterator[tuple[int, list[msgspec.Raw]]]:
    """The elements in slices, each with where it begins; a pause after each."""
    for start in range(0, len(elements), width):
        yield start, elements[start : start + width]
        pause()


def _quoted_element(text: str) -> str:
    """An array's element: a backslash in front of every quote and backslash (PostgreSQL, "Array Input")."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'


def _quoted_field(text: str) -> str:
    """A row's field: every quote and backslash doubled (PostgreSQL, "Composite Type Input")."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '""')
    return f'"{text}"'
