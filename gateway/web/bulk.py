"""A body of records, NDJSON or CSV: from bytes as they arrive to the literals of one record after the other.

Held are the piece that came last and the record that is not complete yet, which is at most as long as any other body.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import falcon

from gateway.catalogue.arguments import Binder
from gateway.catalogue.exporting import Format, Layout
from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Query
from gateway.errors import (
    ArgumentFault,
    BodyTooLarge,
    GatewayError,
    InvalidArguments,
    InvalidJSON,
    InvalidRequest,
    UnsupportedMediaType,
)
from gateway.execution.steps import of_step
from gateway.web import bodies
from gateway.web.formats import CSV, NDJSON, csv_format

PIECE = 65536
_MEDIA = (NDJSON, CSV)


def format_of(media: str) -> Format | None:
    """The format of the records in a body of this Content-Type, None where it is for something else.

    Raises UnsupportedMediaType.
    """
    if not media.lower().startswith(_MEDIA):
        return None
    kind, parameters = falcon.parse_header(media)
    if kind.lower() == NDJSON:
        if parameters.get("charset", "utf-8").lower() != "utf-8":
            raise UnsupportedMediaType("NDJSON is read as UTF-8 only")
        return Format(Layout.NDJSON)
    if kind.lower() != CSV:
        return None
    try:
        return csv_format(dict(parameters))
    except GatewayError as error:
        raise UnsupportedMediaType(error.detail) from error


class Records:
    """The records of one body, read once."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        wanted: Format,
        query: Query,
        binder: Binder,
        *,
        prefix: bytes,
        announced: int | None,
        longest: int,
        most: tuple[int, int],
    ) -> None:
        """``prefix``: what the hash begins with; ``announced``: how many bytes the body has, if that is known.

        ``longest``: of a record in bytes; ``most``: bytes and records, 0 of these for no limit.
        """
        most_bytes, most_records = most
        if announced is not None and announced > most_bytes:
            raise BodyTooLarge(f"{announced} bytes, at most {most_bytes} are read")
        self._announced = announced
        self._read = read
        self._wanted = wanted
        self._query = query
        self._binder = binder
        self._hash = hashlib.sha256(prefix)
        self._most_bytes = most_bytes
        self._longest = longest
        self._most_records = most_records
        self._bytes = 0
        self._has_one_column = False

    def digest(self) -> str:
        """The hash of the prefix and all that has been read."""
        return self._hash.hexdigest()

    def drain(self) -> None:
        """Read all that is left. Raises a GatewayError."""
        for _ in self._pieces():
            pass

    def literals(self) -> Iterator[Sequence[str]]:
        """The literals of each record; raises a GatewayError, with the number of the record to blame as its step."""
        lines = _lines(self._pieces(), self._longest)
        if self._wanted.layout is Layout.NDJSON:
            bind: Callable[[bytes], Sequence[str]] = self._bind_object
        else:
            lines = _csv_records(lines, self._longest)
            bind = self._of_columns(lines)
        number = 0
        for line in lines:
            if not line and not self._has_one_column:  # of which an empty line is NULL
                continue
            if number == self._most_records > 0:
                raise BodyTooLarge(f"more than {self._most_records} records")
            try:
                yield bind(line)
            except InvalidArguments as error:
                raise error.but(step=number, faults=tuple(of_step(error.faults, number))) from error
            except (InvalidJSON, InvalidRequest) as error:
                raise error.but(step=number) from error
            number += 1

    def _pieces(self) -> Iterator[bytes]:
        while piece := bodies.read_piece(self._read, PIECE):
            self._bytes += len(piece)
            if self._bytes > self._most_bytes:
                raise BodyTooLarge(f"more than {self._most_bytes} bytes")
            self._hash.update(piece)
            yield piece
        if self._announced is not None and self._bytes < self._announced:
            raise InvalidRequest("the body ended before its announced length")

    def _bind_object(self, line: bytes) -> Sequence[str]:
        return self._binder.bind_json(split_object(line))

    def _of_columns(self, records: Iterator[bytes]) -> Callable[[bytes], Sequence[str]]:
        """Read the header, and return what binds the cells of a record. Raises InvalidRequest or InvalidArguments."""
        cells = _cutter(self._wanted.delimiter)
        names: Sequence[str] = [parameter.name for parameter in self._query.parameters]
        if self._wanted.has_header:
            first = cells(next(records, b"").removeprefix(b"\xef\xbb\xbf"))
            names = [cell or "" for cell in first]
        if len(set(names)) < len(names) or not all(names):
            raise InvalidRequest("the header of the CSV names each parameter once")
        self._has_one_column = len(names) == 1
        bind = self._binder.bind_text

        def bind_record(record: bytes) -> Sequence[str]:
            found = cells(record)
            if len(found) != len(names):
                sentence = f"has {len(found)} cells, and the header {len(names)}"
                raise InvalidArguments(f"the record {sentence}", faults=[ArgumentFault(None, sentence)])
            return bind({name: () if cell is None else (cell,) for name, cell in zip(names, found, strict=True)})

        return bind_record


def _lines(pieces: Iterator[bytes], longest: int) -> Iterator[bytes]:
    """The lines of a body, without their ends; what is behind the last end is one if there is anything."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
        if len(rest) > longest:
            raise BodyTooLarge(f"a record of more than {longest} bytes")
    if rest:
        yield rest.removesuffix(b"\r")


def _csv_records(lines: Iterator[bytes], longest: int) -> Iterator[bytes]:
    """The records of CSV (RFC 4180): a line that ends within quotes goes on in the next one."""
    begun: list[bytes] = []
    size = 0
    is_open = False
    for line in lines:
        is_open ^= line.count(b'"') % 2 == 1
        if begun or is_open:
            begun.append(line)
            size += len(line) + 1
            if size > longest:
                raise BodyTooLarge(f"a record of more than {longest} bytes")
            if is_open:
                continue
            line = b"\n".join(begun)
            begun, size = [], 0
        yield line
    if begun:
        raise InvalidRequest("the CSV ends within quotes")


def _cutter(delimiter: str) -> Callable[[bytes], list[str | None]]:
    """What cuts a record into its cells: NULL where one is empty, and the empty text where there are quotes alone."""
    cell = re.compile(rf'(?:"((?:[^"]|"")*+)"|([^"{re.escape(delimiter)}]*+))({re.escape(delimiter)}|\Z)', re.DOTALL)

    def cut(record: bytes) -> list[str | None]:
        try:
            text = record.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the CSV is not UTF-8 (byte {error.start} of the record)") from None
        if "\0" in text:
            raise InvalidRequest("the CSV has NUL in it")
        if '"' not in text:
            return [part or None for part in text.split(delimiter)]
        cells: list[str | None] = []
        at = 0
        while True:
            found: Any = cell.match(text, at)
            if found is None:
                raise InvalidRequest("quotes in the CSV that neither begin nor end a cell, nor are doubled within one")
            quoted, plain, end = found.groups()
            cells.append((plain or None) if quoted is None else quoted.replace('""', '"'))
            at = found.end()
            if not end:
                return cells

    return cut
