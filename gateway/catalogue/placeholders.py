"""Where a statement's text holds parameters, in every spelling: ``:name``, ``$1``, ``@name``, ``sqlc.arg(name)``.

In one statement ``$1`` may stand beside names: numbers stay, names take the numbers that are free, as in sqlc.

The lexer gives the same tokens for ``arr[lo:hi]`` and for a parameter; they differ by this rule: inside
``[…]`` and ``JSON_OBJECT(…)`` a colon after something that ends an operand separates, everywhere else a colon that
touches a name is a parameter.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from gateway.catalogue.headers import is_parameter
from gateway.catalogue.lexing import Token, tokens
from gateway.catalogue.query import Text

_OPERANDS = frozenset({
    "IDENT", "UIDENT", "ICONST", "FCONST", "SCONST", "USCONST", "BCONST", "XCONST", "PARAM", ")", "]",
    "NULL_P", "TRUE_P", "FALSE_P", "END_P", "USER", "CURRENT_USER", "SESSION_USER", "CURRENT_ROLE",
    "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP",
})  # fmt: skip
"""Tokens that end an operand wherever they stand; for other keywords see ``_Finder._ends_operand``."""

_OPERATORS = frozenset({
    "=", "<>", "!=", ">=", "<=", ">", "+", "-", "*", "/", "%", "||", "&&", "->", "->>", "#>", "#>>", "~", "!~", "~*",
})  # fmt: skip
"""Operators that nobody means to end in @: in ``id=@id`` the lexer sees the operator ``=@``."""

_SEPARATED = ("JSON_OBJECT", "JSON_OBJECTAGG")

_NOT = ("NOT", "NOT_LA")

_MACROS = {"arg": "name", "narg": "name", "slice": "ids", "embed": "orders"}
"""What sqlc expands, with an example of what each takes."""


class FaultAt(NamedTuple):
    """Something wrong at a place of the statement's text."""

    offset: int
    message: str


class Span(NamedTuple):
    """A part of the text that is replaced."""

    start: int
    end: int
    parameter: int | None
    text: str
    """What replaces it where it is no parameter."""


class Marked(NamedTuple):
    """A statement's text with its parameters found."""

    body: str
    spans: tuple[Span, ...]
    names: tuple[str, ...]
    """Of the parameters, in the order of ``$1`` …."""
    nullable: frozenset[str]
    """Parameters that sqlc gives NULL for when they are left out."""
    unnamed: frozenset[int] = frozenset()
    """Indices of parameters that the text only numbers; they are called ``arg1`` … here."""
    doubled: bool = False
    """Whether there is a ``%%``, which stands for one ``%`` in texts that psycopg reads."""

    def text(self, start: int = 0, end: int | None = None) -> Text:
        """The text, or a part of it that cuts no parameter in two; untouched outside of parameters.

        Where a parameter touches a word (``LIMIT:n``) a space goes between: ``LIMIT$1`` would be one word.
        """
        pieces, references = [""], []
        for _, text, parameter in self._parts(start, len(self.body) if end is None else end):
            if parameter is None:
                pieces[-1] += text
            else:
                references.append(parameter)
                pieces.append("")
        return Text(tuple(pieces), tuple(references))

    def origin(self, offset: int) -> int:
        """Where in the body this offset of the whole rendered text comes from."""
        seen = 0
        for start, text, parameter in self._parts(0, len(self.body)):
            width = len(text) if parameter is None else len(f"${parameter + 1}")
            if offset < seen + width:
                return min(start + offset - seen, len(self.body))
            seen += width
        return len(self.body)

    def spelling(self, offset: int) -> str | None:
        """How the parameter is written that the whole rendered text has at this offset; None if there is none."""
        start = self.origin(offset)
        return next(
            (self.body[s.start : s.end] for s in self.spans if s.start == start and s.parameter is not None), None
        )

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, str, int | None]]:
        at, before = start, ""
        for span in self.spans:
            if span.start < start or span.end > end:
                continue
            literal = self.body[at : span.start]
            before = (literal or before)[-2:]
            if span.parameter is not None and _continues(before):
                literal += " "
            yield at, literal, None
            yield span.start, span.text, span.parameter
            at, before = span.end, span.text
            if _is_word(self.body[at : min(at + 1, end)]) and self.body[span.end - 1] == ")":
                yield at, " ", None
        yield at, self.body[at:end], None


def find_parameters(body: str, declared: Sequence[str] | None) -> tuple[Marked, list[FaultAt]]:
    """Find the parameters of a statement that is known to lex; ``declared`` is the header's list, if it has one.

    The order of parameters is the list's, else that of ``$n``; names have the free numbers by first appearance.
    """
    finder = _Finder(body)
    finder.run()
    names, index, unnamed = _listed(finder, declared) if declared is not None else _numbered(finder)
    spans = [Span(use.start, use.end, index.get(use.name, 0), "") for use in (*finder.uses, *finder.numbers)]
    marked = Marked(
        body,
        tuple(sorted([*spans, *finder.replaced])),
        tuple(names),
        frozenset(finder.nullable),
        frozenset(unnamed),
        finder.doubled,
    )
    return marked, sorted(finder.faults)


class _Use(NamedTuple):
    start: int
    end: int
    name: str
    """With the dollar sign where it is a number."""


class _Finder:
    """Walks the tokens once, knowing which bracket it is in and whether the token before ends an operand."""

    def __init__(self, body: str) -> None:
        self._body = body
        self._tokens = [token for token in tokens(body) if not token.is_comment]
        self._brackets: list[str] = []
        self._operand = False
        self._before = ""
        """Kind of the token before; of a NOT IN both."""
        self.uses: list[_Use] = []
        self.numbers: list[_Use] = []
        self.replaced: list[Span] = []
        self.nullable: set[str] = set()
        self.doubled = False
        self.faults: list[FaultAt] = []

    def run(self) -> None:
        index = 0
        while index < len(self._tokens):
            index += self._step(index)

    def _step(self, index: int) -> int:
        """Deal with one token, or with several that are one parameter; how many."""
        token = self._tokens[index]
        taken = 0
        if token.kind == ":":
            taken = self._colon(index)
        elif token.kind == "Op" and token.text.endswith("@"):
            taken = self._at(index)
        elif token.kind == "IDENT" and token.text.lower() == "sqlc":
            taken = self._sqlc(index)
        elif token.kind == "PARAM":
            self._number(token)
        if taken:
            self._operand, self._before = True, ""
            return taken
        self._enter_or_leave(index)
        self._operand = self._ends_operand(token)
        negated = token.kind == "IN_P" and self._before in _NOT
        self._before = "NOT IN_P" if negated else token.kind
        self.doubled |= "%%" in token.text and token.kind in ("Op", "SCONST")
        return 1

    def _touching(self, index: int) -> Token | None:
        """The next token, if nothing is between."""
        after = self._tokens[index + 1] if index + 1 < len(self._tokens) else None
        return after if after is not None and after.start == self._tokens[index].end else None

    def _enter_or_leave(self, index: int) -> None:
        kind = self._tokens[index].kind
        if kind in ("(", "["):
            before = self._tokens[index - 1].kind if index else ""
            self._brackets.append("{" if kind == "(" and before in _SEPARATED else kind)
        elif kind in (")", "]") and self._brackets:
            self._brackets.pop()

    def _ends_operand(self, token: Token) -> bool:
        if token.kind in _OPERANDS:
            return True
        # NOTE: after an operand comes no name, so there `VALUE` or `BETWEEN` is the keyword; elsewhere a column.
        return token.keyword in ("unreserved", "column") and not self._operand

    def _colon(self, index: int) -> int:
        colon, after = self._tokens[index], self._touching(index)
        inside = self._brackets[-1] if self._brackets else ""
        if after is None or (self._operand and inside in ("[", "{")):
            return 0
        if after.is_word:
            self._use(colon.start, after, ":")
            self._no_field(index + 1)
            return 2
        if after.kind in ("SCONST", "IDENT"):
            meant = after.text.strip("\"'")
            self._fault(colon, f":{after.text} is psql's spelling; a parameter is written :{meant}")
            return 2
        if after.kind == "ICONST" and inside != "[":
            self._fault(colon, f":{after.text} is no parameter; by number it is written ${after.text}")
            return 2
        return 0

    def _at(self, index: int) -> int:
        operator, after = self._tokens[index], self._touching(index)
        if after is None or not after.is_word:
            return 0
        if operator.text == "@":
            self._use(operator.start, after, "@")
            self._no_field(index + 1)
            return 2
        if operator.text[:-1] in _OPERATORS:
            meant = f"{operator.text[:-1]} @{after.text}"
            self._fault(operator, f"{operator.text} is one operator here; for a parameter put a space: {meant}")
            return 2
        return 0

    def _sqlc(self, index: int) -> int:
        """``sqlc.arg(name)``, ``sqlc.narg('name')``, ``sqlc.slice(name)``, ``sqlc.embed(table)``."""
        found = self._tokens[index : index + 6]
        if [token.kind for token in found[1:4:2]] != [".", "("] or not found[2].is_word:
            return 0
        call, verb = found[0], found[2].text.lower()
        if verb not in _MACROS:
            self._fault(call, f"sqlc.{verb} is not one of " + ", ".join(f"sqlc.{known}(name)" for known in _MACROS))
            return 3
        wrong = _miscalled(found[4:])
        if wrong:
            self._fault(call, f"sqlc.{verb} takes one name, as in sqlc.{verb}({_MACROS[verb]}): {wrong}")
            return 3
        name, end = found[4], found[5].end
        if verb == "embed":
            self.replaced.append(Span(call.start, end, None, name.text))
            return 6
        bare = name._replace(text=name.text.strip("'\""))
        if verb == "narg":
            self.nullable.add(bare.text)
        elif verb == "slice":
            self._slice(index)
        self._use(call.start, bare, "", end)
        return 6

    def _slice(self, index: int) -> None:
        """``x IN (sqlc.slice(ids))`` is ``x = ANY(ids)``; elsewhere a slice is the array itself."""
        around = self._tokens[max(index - 3, 0) : index]
        after = self._tokens[index + 6] if index + 6 < len(self._tokens) else None
        if [token.kind for token in around[-2:]] != ["IN_P", "("] or after is None or after.kind != ")":
            return
        negated = around[0].kind in _NOT
        begin = around[0] if negated else around[-2]
        self.replaced.append(Span(begin.start, around[-1].end, None, "<> ALL(" if negated else "= ANY("))

    def _use(self, start: int, name: Token, sign: str, end: int | None = None) -> None:
        if not is_parameter(name.text):
            rule = "a letter or _, then at most 62 letters, digits and _"
            self.faults.append(FaultAt(start, f"{sign}{name.text} cannot be a parameter's name: {rule}"))
            return
        end = name.end if end is None else end
        self._no_list(start, end)
        self.uses.append(_Use(start, end, name.text))

    def _number(self, token: Token) -> None:
        if int(token.text[1:]) == 0:
            self._fault(token, "parameters are numbered from $1")
            return
        self._no_list(token.start, token.end)
        self.numbers.append(_Use(token.start, token.end, token.text))

    def _no_list(self, start: int, end: int) -> None:
        """``IN :ids`` is what psycopg makes a list of."""
        if self._before in ("IN_P", "NOT IN_P"):
            meant = "<> ALL" if self._before == "NOT IN_P" else "= ANY"
            written = self._body[start:end]
            self.faults.append(
                FaultAt(start, f"IN {written} is no SQL: write {meant}({written}), which takes an array")
            )

    def _no_field(self, index: int) -> None:
        """``:a.b`` is an attribute in aiosql and nothing in SQL."""
        dot = self._touching(index)
        if dot is not None and dot.kind == ".":
            name = self._tokens[index].text
            self._fault(dot, f"a parameter has no attributes: for a field of a composite write (:{name}).field")

    def _fault(self, token: Token, message: str) -> None:
        self.faults.append(FaultAt(token.start, message))


def _miscalled(found: Sequence[Token]) -> str:
    """What is wrong between the parentheses of a call of sqlc's; empty where a name stands there alone."""
    if not found or found[0].kind == ")":
        return "it is called without one"
    name = found[0]
    if not (name.is_word or name.kind in ("SCONST", "IDENT")):
        return f"{name.text} is none"
    if len(found) < 2 or found[1].kind != ")":
        return f"more than {name.text} stands there"
    return ""


_Assigned = tuple[list[str], dict[str, int], list[int]]
"""The names of the parameters, the index of each spelling, and the indices of those that are only numbered."""


def _numbered(finder: _Finder) -> _Assigned:
    numbers = {int(use.name[1:]): use for use in reversed(finder.numbers)}
    names = list(dict.fromkeys(use.name for use in finder.uses))
    free = (number for number in count(1) if number not in numbers)
    taken = dict(zip(free, names, strict=False))
    given = numbers.keys() | taken.keys()
    highest = max(given, default=0)
    if highest > len(given):
        gap = next(number for number in count(1) if number not in given)
        use = numbers[highest]
        finder.faults.append(FaultAt(use.start, f"{use.name} is used, but ${gap} is not"))
        return [], {}, []
    called = [taken.get(number, f"arg{number}") for number in range(1, highest + 1)]
    index = {name: number - 1 for number, name in taken.items()} | {f"${number}": number - 1 for number in numbers}
    return called, index, [number - 1 for number in numbers]


def _listed(finder: _Finder, declared: Sequence[str]) -> _Assigned:
    """The header's list has all parameters, in the order of their numbers."""
    index = {name: position for position, name in enumerate(declared)}
    index |= {f"${number}": number - 1 for number in range(1, len(declared) + 1)}
    used = {use.name: use for use in reversed((*finder.uses, *finder.numbers))}
    for name, use in sorted(used.items(), key=lambda item: item[1].start):
        if name not in index:
            finder.faults.append(FaultAt(use.start, f"{name} is not in the header's parameter list"))
    for number, name in enumerate(declared, 1):
        if name not in used and f"${number}" not in used:
            message = f"{name} is in the header's parameter list, but not in the statement"
            finder.faults.append(FaultAt(0, message))
    return list(declared), index, []


def _is_word(character: str) -> bool:
    return character != "" and (character.isalnum() or character in "_$" or character >= "\x80")


def _continues(before: str) -> bool:
    """Whether what is written for a parameter could become part of what stands before: ``LIMIT$1``, ``u&'x'``."""
    return _is_word(before[-1:]) or before.lower() == "u&"
