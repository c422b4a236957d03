"""What ``@param`` declares of one parameter: ``NAME [TYPE] [= JSON] [from=SOURCE] [key=JSON ...] [-- text]``."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn

from gateway.catalogue import json_text
from gateway.catalogue.constraints import ANY_VALUE, CONSTRAINTS, Check, check_of
from gateway.catalogue.headers import is_parameter
from gateway.catalogue.query import Parameter
from gateway.catalogue.values import Refused
from gateway.errors import InvalidJSON

_TYPE_WORD = re.compile(r'(?:"(?:[^"]|"")*"|\([^()]*\)|\[\d*\]|[^\W\d][\w$]*|\.(?=[\w"]))+')
_KEY = re.compile(r"(?:(" + "|".join(CONSTRAINTS) + r")\s*|([A-Za-z_]\w*))=")
_SOURCE = re.compile(r"from=(\S*)")
_KNOWN_SOURCE = re.compile(r"claim:\S+|key:[^\s.]+")
_SPACE = re.compile(r"\s*")
_ORDERED = (("minimum", "maximum"), ("minLength", "maxLength"))


class _Wrong(Exception):
    """The line cannot be read on from here."""


def read_parameter(text: str) -> tuple[Parameter | None, list[str]]:
    """Read what stands after ``@param``; the parameter, where nothing is wrong with it, and the faults."""
    reader = _Reader(text)
    try:
        reader.read()
    except _Wrong as wrong:
        reader.faults.append(str(wrong))
    faults = [f"@param {reader.name}: {message}" if reader.name else f"@param: {message}" for message in reader.faults]
    if faults:
        return None, faults
    return Parameter(reader.name, reader.type, reader.default, reader.constraints, reader.description, reader.bound), []


class _Reader:
    """Reads one line from left to right; a value that is no JSON ends it, other faults are collected."""

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        self._at = 0
        self.name = ""
        self.type: str | None = None
        self.default: str | None = None
        self.constraints: dict[str, Any] = {}
        self.description = ""
        self.bound: str | None = None
        self.faults: list[str] = []
        self._checks: list[Check] = []

    def read(self) -> None:
        name, _, _ = self._text.partition(" ")
        if not is_parameter(name):
            raise _Wrong(f'"{name}" cannot be a parameter\'s name' if name else "names no parameter")
        self.name = name
        self._at = len(name)
        self._read_type()
        while not self._ended():
            key = _KEY.match(self._text, self._at)
            if source := _SOURCE.match(self._text, self._at):
                self._at = source.end()
                self._read_source(source[1])
            elif key:
                self._at = key.end()
                self._read_constraint(key[1] or key[2])
            elif self._text[self._at] == "=" and self.default is None:
                self._at += 1
                _, self.default = self._json()
            else:
                raise _Wrong(f'cannot read from "{self._text[self._at : self._at + 20]}" on')
        self.faults.extend(self._contradictions())

    def _read_type(self) -> None:
        self._skip()
        start = end = self._at
        while not self._ended():
            word = _TYPE_WORD.match(self._text, self._at)
            if word is None or _KEY.match(self._text, self._at):
                break
            self._at = end = word.end()
            if not self._at_gap():
                raise _Wrong(f'cannot read the type "{self._text[start:]}"')
        self.type = self._text[start:end] or None

    def _read_source(self, source: str) -> None:
        if self.bound is not None:
            self.faults.append("from is given twice")
        elif not _KNOWN_SOURCE.fullmatch(source):
            self.faults.append(f'from is claim:PATH or key:NAME, not "{source}"')
        else:
            self.bound = source

    def _read_constraint(self, key: str) -> None:
        value, _ = self._json()
        if key not in CONSTRAINTS:
            known = ", ".join(CONSTRAINTS)
            self.faults.append(f"unknown key {key}; there are {known}, and a default is written ` = JSON`")
        elif key in self.constraints:
            self.faults.append(f"{key} is given twice")
        elif not _keeps(value):
            self.faults.append(f"{key} has a number with more digits than can be kept")
        else:
            plain = _plain(value)
            try:
                self._checks.append(check_of(key, plain, ANY_VALUE))
            except ValueError as error:
                self.faults.append(str(error))
                return
            self.constraints[key] = plain

    def _contradictions(self) -> Iterator[str]:
        """Constraints that nothing can meet, and a default that does not meet them."""
        for low, high in _ORDERED:
            if {low, high} <= self.constraints.keys() and self.constraints[low] > self.constraints[high]:
                yield f"{low} is greater than {high}"
        if self.default is None or self.default == "null":
            return
        raw = json_text.value(self.default)
        for check in self._checks:
            try:
                check(raw, self.default)
            except Refused as refused:
                yield f"the default {refused}"

    def _json(self) -> tuple[Any, str]:
        """The JSON value from here on, decimals exact, and its own text."""
        self._skip()
        start = self._at
        try:
            value, self._at = _DECODER.raw_decode(self._text, start)
            json_text.value(self._text[start : self._at])
        except InvalidJSON as error:
            raise _Wrong(f"{error.detail}") from None
        except (ValueError, ArithmeticError, RecursionError):
            raise _Wrong(f'no JSON value can be read from "{self._text[start : start + 20]}"') from None
        if not self._at_gap():
            raise _Wrong(f'cannot read from "{self._text[start : start + 20]}" on')
        return value, self._text[start : self._at]

    def _at_gap(self) -> bool:
        rest = self._text[self._at :]
        return rest == "" or rest[0].isspace() or rest.startswith(("--", "="))

    def _ended(self) -> bool:
        """Whether only the description is left; takes it."""
        self._skip()
        if self._text.startswith("--", self._at):
            self.description = self._text[self._at + 2 :].strip()
            return True
        return self._at == len(self._text)

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at


def _no_constant(word: str) -> NoReturn:
    raise ValueError(word)


_DECODER = json.JSONDecoder(parse_float=Decimal, parse_constant=_no_constant)


def _plain(value: Any) -> Any:
    """The value as a JSON reader gives it, without the decimals that only comparing needs."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _keeps(value: Any) -> bool:
    """Whether ``_plain`` changes nothing."""
    if isinstance(value, list | dict):
        return all(map(_keeps, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, Decimal) or Decimal(repr(float(value))) == value
