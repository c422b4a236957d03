"""PostgreSQL's own text of a value, as a query string carries it, to the same value as JSON text.

So that GET and POST read values through one set of readers and constraints. The JSON need not fit the type: what
is no number, say, becomes a string, and the type's reader refuses that in its own words.
"""

import re
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from gateway.catalogue import json_text
from gateway.catalogue.types import Family, Type
from gateway.catalogue.values import MAX_DIMENSIONS, NUMBER, Refused
from gateway.errors import InvalidJSON

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_BOUNDS = re.compile(r"\s*(?:\[\s*[+-]?[0-9]+\s*(?::\s*[+-]?[0-9]+\s*)?\]\s*)+=", re.ASCII)

_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_SPACE = " \t\n\r\v\f"
_MAY_FOLLOW = {"{": {"{", "item", "}"}, ",": {"{", "item"}, "item": {",", "}"}}

_Tree: TypeAlias = "str | list[_Tree] | None"


def is_array_form(text: str) -> bool:
    """Whether the text is a whole array, ``{…}`` or ``[2:3]={…}``, rather than one element."""
    return text.lstrip(_SPACE).startswith("{") or _BOUNDS.match(text) is not None


def to_json(text: str, type_: Type) -> bytes:
    """JSON text of one value.

    Raises :class:`Refused` for what has none: characters outside Unicode, a JSON type's text that is not JSON, an
    array that is not well-formed, and any composite (only the server reads ``(…)``).
    """
    match type_.family:
        case Family.INTEGER | Family.FLOAT | Family.NUMERIC if NUMBER.fullmatch(text):
            return text.encode()
        case Family.BOOL if text.lower() in _TRUE:
            return b"true"
        case Family.BOOL if text.lower() in _FALSE:
            return b"false"
        case Family.JSON:
            try:
                return bytes(json_text.value(text))
            except InvalidJSON as error:
                raise Refused(f"must be JSON: {error.detail}") from None
        case Family.ARRAY:
            return _tree_to_json(_tree(text, type_), type_)
        case Family.COMPOSITE:
            raise Refused(f"must be sent by POST: {type_.name} in a query string cannot be checked")
        case _:
            return _string(text)


def list_to_json(texts: Sequence[str], type_: Type) -> bytes:
    """JSON text of an array of one dimension, from its elements' texts; raises as :func:`to_json` does."""
    return _tree_to_json(list(texts), type_)


def checked(text: str) -> str:
    """The text itself, for what the server is to read as it is.

    Raises :class:`Refused` where it holds NUL or characters outside Unicode.
    """
    _string(text)
    if "\0" in text:
        raise Refused("must not contain NUL")
    return text


def _string(text: str) -> bytes:
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:
        raise Refused("must be valid UTF-8") from None


def _tree_to_json(tree: _Tree, type_: Type) -> bytes:
    """Lists as lists, NULL as null; ``type_`` is the array's."""
    if tree is None:
        return b"null"
    if type_.element is None:
        raise ValueError(f"{type_.name} is an array of an unknown type")
    if isinstance(tree, str):
        return to_json(tree, type_.element)
    return b"[" + b",".join([_tree_to_json(branch, type_) for branch in tree]) + b"]"


def _tree(text: str, type_: Type) -> _Tree:
    """Read an array literal (PostgreSQL, "Array Input and Output Syntax"); lower bounds are dropped."""
    malformed = Refused(f"must be an array as PostgreSQL reads {type_.name}")
    delimiter = type_.element.delimiter if type_.element else ","
    token = _token(delimiter)
    bounds = _BOUNDS.match(text)
    position = bounds.end() if bounds else 0
    text = text.rstrip(_SPACE)
    outside: list[_Tree] = []
    open_lists = [outside]
    before = ","
    while position < len(text):
        match = token.match(text, position)
        if match is None or (len(open_lists) == 1 and (outside or match[1] != "{")):
            raise malformed
        position = match.end()
        mark, quoted, bare = match.groups()
        kind = "item" if mark is None else "," if mark == delimiter else mark
        if kind not in _MAY_FOLLOW[before]:
            raise malformed
        before = "item" if kind == "}" else kind
        if kind == "{":
            if len(open_lists) > MAX_DIMENSIONS:
                raise malformed
            inner: list[_Tree] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif kind == "}":
            open_lists.pop()
        elif kind == "item":
            open_lists[-1].append(_item(quoted, bare))
    if len(open_lists) != 1 or not outside:
        raise malformed
    return outside[0]


def _token(delimiter: str) -> re.Pattern[str]:
    """A brace or a delimiter, a quoted element, or a bare one without the white space around it."""
    plain = rf'{{}}"\\{re.escape(delimiter)}'
    return re.compile(
        rf'\s*(?:([{{}}{re.escape(delimiter)}])|"((?:[^"\\]|\\.)*)"|((?:[^{plain}]|\\.)*(?:[^{plain}\s]|\\.)))\s*',
        re.DOTALL | re.ASCII,
    )


def _item(quoted: str | None, bare: str | None) -> str | None:
    """An element's text; NULL is a null only without quotes and backslashes."""
    if quoted is None and bare is not None and bare.upper() == "NULL":
        return None
    return _ESCAPED.sub(r"\1", quoted if quoted is not None else bare or "")
