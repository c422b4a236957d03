"""The query string of a call, for the link to its next page: in the form in which GET takes arguments."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from gateway.catalogue.types import TEXT, Family, Type

CURSOR = "cursor"
LONGEST = 2048
"""Characters of a query string that is still linked to."""


def of_text(arguments: Mapping[str, Sequence[str]]) -> str | None:
    """The arguments of a GET without a cursor, ready to have one added; None where they are too long for a link."""
    pairs = [(name, text) for name, texts in arguments.items() if name != CURSOR for text in texts]
    query = urlencode(pairs) + "&" if pairs else ""
    return query if len(query) <= LONGEST else None


def of_json(arguments: Mapping[str, msgspec.Raw], types: Mapping[str, Type]) -> str | None:
    """Return the query string of JSON arguments; None where it is too long, or a value has no text form.

    ``types``: of the query's parameters.
    """
    texts: dict[str, list[str]] = {}
    for name, raw in arguments.items():
        if name == CURSOR:
            continue
        if len(raw) > LONGEST or (written := _texts(raw, types.get(name, TEXT))) is None:
            return None
        texts[name] = written
    return of_text(texts)


def _texts(raw: msgspec.Raw, type_: Type) -> list[str] | None:
    """A value as GET takes it, a list as a key that is repeated; None: NULL, short lists, objects that are no JSON.

    Numbers are as they were written: decoded, they could lose digits.
    """
    value: Any = msgspec.json.decode(raw)
    if value is None:
        return None
    if type_.family is Family.JSON:
        return [bytes(raw).decode()]
    if isinstance(value, list):
        of_texts = type_.element is not None and type_.element.family not in (Family.JSON, Family.COMPOSITE)
        if len(value) <= 1 or not of_texts:
            return None
        parts = msgspec.json.decode(raw, type=list[msgspec.Raw])
        written = [
            None if isinstance(each, list) else _texts(part, TEXT) for each, part in zip(value, parts, strict=True)
        ]
        return None if None in written else [text for texts in written for text in texts or ()]
    if isinstance(value, dict):
        return None
    return [value if isinstance(value, str) else bytes(raw).decode()]
