"""The text of a query file, cut into entries: header, comment lines, statement.

Cut by PostgreSQL's lexer, so that a header inside a string or a block comment is none. Where the text cannot be
lexed, what stands before the fault and after the next header is still looked at: all faults are reported at once.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from gateway.catalogue.annotations import Comment, annotation_of
from gateway.catalogue.files import SourceFile
from gateway.catalogue.headers import HEADER
from gateway.catalogue.lexing import SyntaxFault, Token, tokens
from gateway.faults import Fault

LARGEST = 64 * 1024
"""Bytes of an entry; what the parser takes without harm (see ``lexing.parse``)."""

_HEADER_LINE = re.compile(r"^[ \t]*(?:--|/\*)[ \t]*name[ \t]*:", re.MULTILINE)
_LINE_END = re.compile(r"\r\n?|\n")
LEFT_OPEN = "what is quoted here runs over a `-- name:` line: is a quote left open?"
"""The fault of a string that contains what looks like a header."""


class Entry(NamedTuple):
    """One query as it stands in its file."""

    where: str
    line: int
    prefix: str
    header: str
    """What stands after ``-- name:``."""
    comments: tuple[Comment, ...]
    """Comment lines between the header and the statement."""
    body: str
    """From the first token of the statement to its last, comments inside included."""
    body_line: int
    broken: bool
    """Its statement cannot be lexed, or is too long to be looked at; a fault has been reported."""
    hidden: int
    """Line of a string that holds what looks like a header; 0 if there is none."""
    second: int
    """Line of a second statement; 0 if there is none."""

    def line_of(self, offset: int) -> int:
        """Line of a place in the body."""
        return self.body_line + sum(1 for _ in _LINE_END.finditer(self.body, 0, offset))


class _Lines:
    """Offsets turned into lines."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def at(self, offset: int) -> int:
        return bisect_right(self._starts, offset)

    def start(self, offset: int) -> int:
        """Where the line of this offset begins."""
        return self._starts[self.at(offset) - 1]


class Scanned(NamedTuple):
    """What is in a file."""

    entries: list[Entry]
    """In order."""
    faults: list[Fault]
    warnings: list[Fault]


def has_header(text: str) -> bool:
    """Whether there seems to be a query in this text."""
    return _HEADER_LINE.search(text) is not None


def scan(file: SourceFile) -> Scanned:
    """Cut one file into its entries."""
    return _Scan(file).run()


class _Scan:
    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._lines = _Lines(file.text)
        # NOTE: PostgreSQL's lexer takes a NUL for the end of the text.
        self._text = file.text.replace("\0", " ")
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._entries: list[Entry] = []

    def run(self) -> Scanned:
        nul = self._file.text.find("\0")
        if nul >= 0:
            self._report(nul, "a NUL character cannot be part of a query file")
        start = 0
        while start < len(self._text):
            found, broken_at, end = self._lex(start)
            self._cut(found, start, broken_at, end)
            start = end
        return Scanned(self._entries, self._faults, self._warnings)

    def _lex(self, start: int) -> tuple[list[Token], int | None, int]:
        """Tokens from ``start``, where they break off, and where the next attempt begins."""
        try:
            return _moved(tokens(self._text[start:]), start), None, len(self._text)
        except SyntaxFault as fault:
            found, broken_at = self._before(start, self._broken_at(start, fault))
            # An open quote takes whole queries with it, up to the next quote: more likely than a header in a string.
            over = next((index for index, token in enumerate(found) if self._hides_header(token)), None)
            if over is not None:
                found, broken_at = found[:over], found[over].start
            self._report(broken_at, fault.message if over is None else LEFT_OPEN)
        next_header = _HEADER_LINE.search(self._text, self._line_end(broken_at))
        return found, broken_at, next_header.start() if next_header else len(self._text)

    def _broken_at(self, start: int, fault: SyntaxFault) -> int:
        """Where the text breaks; for faults without a place, the header of the first entry that does not lex."""
        if fault.offset is not None:
            return start + fault.offset
        last = start
        for header in _HEADER_LINE.finditer(self._text, self._line_end(start)):
            try:
                tokens(self._text[start : header.start()])
            except SyntaxFault as cut:
                if cut.offset is None:
                    break
                continue  # cut inside a string or comment that holds what looks like a header
            last = header.start()
        return self._line_end(last)

    def _before(self, start: int, broken_at: int) -> tuple[list[Token], int]:
        """The tokens before a break; earlier where that lies inside a token that has begun before."""
        while broken_at > start:
            try:
                return _moved(tokens(self._text[start:broken_at]), start), broken_at
            except SyntaxFault as fault:
                broken_at = min(broken_at - 1, start + (fault.offset or 0))
        return [], start

    def _line_end(self, offset: int) -> int:
        match = _LINE_END.search(self._text, offset)
        return match.end() if match else len(self._text)

    def _cut(self, found: Sequence[Token], start: int, broken_at: int | None, end: int) -> None:
        """Make entries of tokens: one from each header to the next."""
        heads = list(self._headers(found))
        self._before_the_first(found[: heads[0]] if heads else found, broken_at if not heads else None, first=not start)
        for head, following in pairwise([*heads, len(found)]):
            last = following == len(found)
            until = end if last else found[following].start
            self._entry(found[head:following], until, broken_at if last else None)

    def _headers(self, found: Sequence[Token]) -> Iterator[int]:
        """Where the headers are: comments that begin their lines; block comments only where no statement is open."""
        is_open = False
        for index, token in enumerate(found):
            if not token.is_comment:
                is_open = token.kind != ";"
                continue
            before = self._text[self._lines.start(token.start) : token.start]
            if HEADER.match(token.text) and not before.strip() and (token.kind == "SQL_COMMENT" or not is_open):
                is_open = False
                yield index

    def _before_the_first(self, found: Sequence[Token], broken_at: int | None, *, first: bool) -> None:
        statement = next((token for token in found if not token.is_comment), None)
        if statement is not None and first:
            line = self._lines.at(statement.start)
            message = "SQL before the first `-- name:` header belongs to no query and is ignored"
            self._warnings.append(Fault(self._file.where, line, message))
        if broken_at is None:
            self._misplaced(found)

    def _entry(self, found: Sequence[Token], end: int, broken_at: int | None) -> None:
        head, rest = found[0], found[1:]
        first = next((index for index, token in enumerate(rest) if not token.is_comment), len(rest))
        lead = _block_lines(head)[1:] if head.kind == "C_COMMENT" else []
        lead += [(token.start, _content(token)) for token in rest[:first] if token.kind == "SQL_COMMENT"]
        statement = rest[first:]
        self._misplaced([token for token in rest[:first] if token.kind == "C_COMMENT"])
        self._misplaced(statement)
        start, stop, second = self._span([token for token in statement if not token.is_comment], head.end)
        too_long = len(self._text[head.start : end].encode()) > LARGEST
        if too_long:
            self._report(head.start, "the entry is longer than 64 kB")
        hidden = next((token.start for token in rest if self._hides_header(token)), None)
        header = HEADER.match(head.text)
        self._entries.append(
            Entry(
                where=self._file.where,
                line=self._lines.at(head.start),
                prefix=self._file.prefix,
                header=header["rest"] if header else "",
                comments=tuple(Comment(self._lines.at(start), text) for start, text in lead),
                body=self._text[start:stop],
                body_line=self._lines.at(start),
                broken=broken_at is not None or too_long,
                hidden=0 if hidden is None else self._lines.at(hidden),
                second=0 if second is None else self._lines.at(second),
            )
        )

    def _span(self, statement: Sequence[Token], empty: int) -> tuple[int, int, int | None]:
        """From where to where the statement goes, its semicolon excluded; and where a second one begins."""
        if not statement:
            return empty, empty, None
        ends = [index for index, token in enumerate(statement) if token.kind == ";"]
        first = ends[0] if ends else len(statement)
        second = next((token.start for token in statement[first:] if token.kind != ";"), None)
        return statement[0].start, statement[first - 1].end if first else statement[0].start, second

    def _misplaced(self, found: Sequence[Token]) -> None:
        """Report annotations where they have no effect: a role that silently guards nothing would be worse."""
        for token in found:
            if token.kind == "SQL_COMMENT" and (word := annotation_of(_content(token))):
                self._report(token.start, f"@{word} must stand between the header and the statement")
            for start, text in _block_lines(token) if token.kind == "C_COMMENT" else ():
                if word := annotation_of(text):
                    self._report(start, f"@{word} must stand in a line of its own, as `-- @{word}`, below the header")

    def _hides_header(self, token: Token) -> bool:
        return not token.is_comment and "\n" in token.text and _HEADER_LINE.search(token.text) is not None

    def _report(self, offset: int, message: str) -> None:
        self._faults.append(Fault(self._file.where, self._lines.at(offset), message))


def _moved(found: list[Token], by: int) -> list[Token]:
    return found if by == 0 else [token._replace(start=token.start + by, end=token.end + by) for token in found]


def _block_lines(token: Token) -> list[tuple[int, str]]:
    """The lines of a block comment, without what frames them; each with the offset where it begins."""
    text = token.text.removesuffix("*/")
    starts = [0, *(match.end() for match in _LINE_END.finditer(text))]
    return [(token.start + start, text[start:end].strip(" \t\r\n/*")) for start, end in pairwise([*starts, len(text)])]


def _content(token: Token) -> str:
    return token.text.removeprefix("--").removeprefix(" ").rstrip()
