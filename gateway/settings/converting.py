"""One value, as it was written, to the type of its key."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from gateway.settings.keys import Key
from gateway.settings.sources import Given, Source
from gateway.settings.units import rate, seconds, size

_TRUE = frozenset({"true", "on", "yes", "1"})
_FALSE = frozenset({"false", "off", "no", "0"})
_BEYOND = re.compile(r"Expected `\w+` (of length )?([<>]=) ([\d.]+)")
_ANOTHER_TYPE = re.compile(r"Expected `(\w+)`, got `\w+`")
_TYPES = {"int": "a whole number", "float": "a number", "str": "text in quotes", "array": "a list", "object": "a table"}


def converted(given: Given, key: Key) -> Any:
    """Return the value in the type of its key; raises ValueError with a sentence that shows no secret."""
    value = _parsed(given.value, key, is_text=given.source.is_text)
    try:
        value = msgspec.convert(value, key.hint)
    except msgspec.ValidationError as error:
        raise ValueError(_sentence(error, given.value, key)) from None
    if key.kind == "file":
        return str(_joined(given.source, value).absolute()) if value else ""
    if key.kind == "paths":
        return tuple(str(_joined(given.source, path)) for path in value)
    return value


def _joined(source: Source, path: str) -> Path:
    return Path(source.folder) / path


def _parsed(value: Any, key: Key, *, is_text: bool) -> Any:
    """Make the value what msgspec expects: units read, text from the environment taken apart."""
    plain = key.plain
    if key.kind == "duration":
        if not isinstance(value, str):
            raise ValueError('must be a duration in quotes, such as "250ms" or "5s"')
        return seconds(value)
    if key.kind == "rate":
        if not isinstance(value, str):
            raise ValueError('must be a rate in quotes, such as "10/s" or "10/s burst=20"')
        return rate(value)
    if key.kind == "size":
        return size(value) if isinstance(value, str) else value
    if plain is tuple and isinstance(value, str):
        return _list(value) if is_text else (value,)
    if not (is_text and isinstance(value, str)):
        return value
    if plain is bool:
        return _bool(value)
    if plain in (int, float):
        return _number(value, plain)
    if plain is dict:
        return _toml_or_json(value, "must be a TOML table or a JSON object")
    return value


def _bool(text: str) -> bool:
    if (word := text.strip().lower()) in _TRUE | _FALSE:
        return word in _TRUE
    raise ValueError("must be true or false")


def _number(text: str, plain: type[int] | type[float]) -> int | float:
    try:
        return plain(text.strip())
    except ValueError:
        raise ValueError(f"must be {'a whole number' if plain is int else 'a number'}") from None


def _list(text: str) -> Any:
    if text.strip().startswith("[") and text.strip().endswith("]"):  # "[::1]:80" is a word
        return _toml_or_json(text, "must be a TOML or JSON list, or words separated by commas")
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _toml_or_json(text: str, message: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(message) from None


def _sentence(error: msgspec.ValidationError, value: Any, key: Key) -> str:
    """Rephrase msgspec's message."""
    is_shown = key.kind != "secret"
    message = str(error).partition(" - at `")[0]
    shown = f" (it is {value!r})" if is_shown and not isinstance(value, dict) else ""
    if message.startswith("Invalid enum value"):
        words = ", ".join(f'"{word}"' for word in key.choices)
        return f"must be one of {words}{shown}"
    if match := _BEYOND.fullmatch(message):
        bound = match[3]
        if key.kind == "duration":
            bound = f"{float(bound):.0f}s" if float(bound) >= 1 else f"{float(bound) * 1000:.0f}ms"
        verb = "have a length of" if match[1] else "be"
        return f"must {verb} at {'least' if match[2] == '>=' else 'most'} {bound}{shown}"
    if (match := _ANOTHER_TYPE.fullmatch(message)) and match[1] in _TYPES:
        return f"must be {_TYPES[match[1]]}{shown}"
    return f"{message[0].lower()}{message[1:]}{shown}"
