"""What a caller wants an answer as, by its ``Accept`` (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import falcon

from gateway.catalogue.exporting import DELIMITERS, Format, Layout
from gateway.catalogue.query import Access, Kind, Query
from gateway.errors import NotAcceptable
from gateway.execution.call import JSON

NDJSON = "application/x-ndjson"
CSV = "text/csv"

_LONGEST = 1024
"""Characters: the time to parse a media type grows with the square of its length."""
_RANGE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


class Range(NamedTuple):
    """One media range of an ``Accept`` header."""

    media: str
    """In small letters: ``type/subtype``, ``type/*`` or ``*/*``."""
    parameters: dict[str, str]
    quality: float

    def fit(self, media: str) -> int:
        """How exactly a media type is meant; 0: not at all."""
        if self.media == media:
            return 3
        if self.media.endswith("/*") and media.startswith(self.media[:-1]):
            return 2
        return int(self.media == "*/*")


def wanted(accept: str, query: Query) -> Format | str | None:
    """What a query is to be answered as: lines in a format, a value raw (its media type), or None: JSON.

    Of several that are accepted as gladly the one that is named more exactly, then JSON. Raises NotAcceptable.
    """
    ranges = _ranges(accept)
    best: tuple[float, int] = (0.0, 0)
    chosen: tuple[str, Range] | None = None
    offers = offered(query)
    for media in offers:
        found = max(ranges, key=lambda each: each.fit(media))
        if found.fit(media) and found.quality and (found.quality, found.fit(media)) > best:
            best, chosen = (found.quality, found.fit(media)), (media, found)
    if chosen is None:
        raise NotAcceptable(f"{query.name} is answered as {' or '.join(offers)}")
    media, found = chosen
    if media == JSON:
        return None
    if media == NDJSON:
        return Format(Layout.NDJSON)
    return media if media == query.media else csv_format(found.parameters)


def accepts_json(accept: str) -> bool:
    """Whether JSON may be answered."""
    found = max(_ranges(accept), key=lambda each: each.fit(JSON))
    return found.fit(JSON) > 0 and found.quality > 0


def offered(query: Query) -> Sequence[str]:
    """The media types that a query may be answered as, JSON first."""
    if query.access is Access.READ and query.kind is Kind.MANY and query.statement.source is not None:
        return JSON, NDJSON, CSV
    return (JSON, query.media) if query.media else (JSON,)


def _ranges(accept: str) -> list[Range]:
    if len(accept) > _LONGEST:
        raise NotAcceptable(f"an Accept header of more than {_LONGEST} characters")
    found = []
    for text in _RANGE.findall(accept):
        media, parameters = falcon.parse_header(text.strip())
        parameters = {name.lower(): value for name, value in parameters.items()}
        quality = parameters.pop("q", "1")
        if not _QUALITY.fullmatch(quality):
            raise NotAcceptable("a q in the Accept header that is no number from 0 to 1")
        found.append(Range(media.lower(), parameters, float(quality)))
    return found or [Range("*/*", {}, 1.0)]


def csv_format(parameters: dict[str, str]) -> Format:
    """CSV as the parameters of its media type say (RFC 4180 section 3, and ``delimiter``); raises NotAcceptable."""
    header = parameters.pop("header", "present").lower()
    delimiter = parameters.pop("delimiter", ",")
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    charset = parameters.pop("charset", "utf-8").lower()
    if header not in ("present", "absent"):
        raise NotAcceptable("the header of text/csv is present or absent")
    if len(delimiter) != 1 or delimiter not in DELIMITERS:
        raise NotAcceptable('the delimiter of text/csv is one of ",", ";", "|" (in quotes) and tab')
    if charset != "utf-8" or parameters:
        raise NotAcceptable("text/csv is written in UTF-8, with the parameters header and delimiter")
    return Format(Layout.CSV, has_header=header == "present", delimiter=delimiter)
