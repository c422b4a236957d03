"""``pattern=…``: regular expressions as ECMA-262 defines them with the ``u`` flag, matched in linear time.

JSON Schema gives ``pattern`` this meaning. The expression is read here and written anew for RE2, whose time grows
linearly with the text whatever the expression is; captures are dropped, since only whether there is a match is
asked. What RE2 cannot match (look-around, back references) or would match differently is refused.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

from gateway.catalogue.values import Refused, shortened

_MOST_WORK = 1_000_000
"""Characters of a text times instructions of the compiled expression.

PERF: an expression whose states do not fit into RE2's cache takes up to 27 ns for each, so this is at most 30 ms.
"""
_FEW_INSTRUCTIONS = 10
"""With so few, all states fit: any text takes at most 20 ns a character."""

_DEEPEST = 100
"""Groups within each other."""

_LAST: Final = 0x10FFFF
_Ranges = list[tuple[int, int]]

_DIGITS: Final[_Ranges] = [(0x30, 0x39)]
_WORDS: Final[_Ranges] = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]
_SPACES: Final[_Ranges] = [
    (0x09, 0x0D),
    (0x20, 0x20),
    (0xA0, 0xA0),
    (0x1680, 0x1680),
    (0x2000, 0x200A),
    (0x2028, 0x2029),
    (0x202F, 0x202F),
    (0x205F, 0x205F),
    (0x3000, 0x3000),
    (0xFEFF, 0xFEFF),
]
_LINE_ENDS: Final[_Ranges] = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_CLASSES: Final = {"d": _DIGITS, "w": _WORDS, "s": _SPACES}
_CONTROLS: Final = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_SYNTAX: Final = frozenset("^$\\.*+?()[]{}|/")

_QUANTIFIER = re.compile(r"(?:[*+?]|\{([0-9]+)(,?)([0-9]*)\})\??")
_CODE = re.compile(r"x([0-9a-fA-F]{2})|u\{([0-9a-fA-F]+)\}|u([0-9a-fA-F]{4})(?:\\u([dD][c-fC-F][0-9a-fA-F]{2}))?")
_PROPERTY = re.compile(r"[pP]\{(?:(?:General_Category|gc)=)?(?:([A-Z][a-z]?)|(?:Script|sc)=([A-Z][A-Za-z_]*))\}")
_GROUP = re.compile(r"\(\?<(?![=!])([^>]*)>")


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that finds whether a text has a match; it raises :class:`Refused` for too long a text.

    Raises :class:`ValueError` with a sentence for a pattern that is no expression of ECMA-262's, or that cannot be
    matched in linear time.
    """
    written = _Translation(pattern).write()
    # Imported here: few catalogues have a pattern, and RE2 takes 3 MB of each worker's memory.
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile(written, options)
    except re2.error as error:
        reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"pattern {shortened(pattern)} cannot be used: {reason}") from None
    search = compiled.search
    work = compiled.programsize
    longest = None if work <= _FEW_INSTRUCTIONS else _MOST_WORK // work

    def matches(text: str) -> bool:
        if longest is not None and len(text) > longest:
            raise Refused(f"must have at most {longest} characters to be matched with {shortened(pattern)}")
        return search(text.encode()) is not None

    return matches


class _Translation:
    """Reads an expression from left to right by ECMA-262's grammar (``Pattern[+UnicodeMode]``) and writes RE2's."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0
        self._names: set[str] = set()
        self._depth = 0

    def write(self) -> str:
        written = self._disjunction()
        if self._at < len(self._pattern):
            self._fail("a ) closes nothing")
        return written

    def _disjunction(self) -> str:
        alternatives = [self._alternative()]
        while self._take("|"):
            alternatives.append(self._alternative())
        return "|".join(alternatives)

    def _alternative(self) -> str:
        terms = []
        while self._at < len(self._pattern) and self._pattern[self._at] not in "|)":
            assertion = self._assertion()
            terms.append(assertion or self._atom())
            quantifier = _QUANTIFIER.match(self._pattern, self._at)
            if quantifier is not None:
                if assertion:
                    self._fail("nothing that could be repeated stands before a quantifier")
                terms.append(self._quantifier(quantifier))
        return "".join(terms)

    def _assertion(self) -> str:
        """What matches between characters, as RE2 writes it; nothing, where no such thing stands."""
        for written, meant in (("^", r"\A"), ("$", r"\z"), (r"\b", r"\b")):
            if self._take(written):
                return meant
        if self._pattern.startswith(r"\B", self._at):
            self._fail(r"\B is not supported")
        return ""

    def _atom(self) -> str:
        character = self._pattern[self._at]
        if character == "(":
            return self._group()
        self._at += 1
        if character == "[":
            return self._class()
        if character == ".":
            return _class(_inverse(_LINE_ENDS))
        if character == "\\":
            escape = self._escape()
            return escape if isinstance(escape, str) else _class(escape)
        if character in _SYNTAX - {"/"}:
            self._fail(f"{character} must be written \\{character} here")
        return _class([(ord(character), ord(character))])

    def _group(self) -> str:
        name = _GROUP.match(self._pattern, self._at)
        if name is not None:
            if not name[1].replace("$", "_").isidentifier() or name[1] in self._names:
                self._fail(f"{name[1] or 'an empty word'} cannot be this group's name")
            self._names.add(name[1])
            self._at = name.end()
        elif not self._take("(?:"):
            if self._pattern.startswith("(?", self._at):
                self._fail("look-around and modifiers are not supported")
            self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(f"groups are nested more than {_DEEPEST} levels deep")
        inside = self._disjunction()
        self._depth -= 1
        if not self._take(")"):
            self._fail("a ( is not closed")
        return f"(?:{inside})"

    def _quantifier(self, found: re.Match[str]) -> str:
        """How often; whether as many or as few as possible makes no difference here."""
        self._at = found.end()
        least, comma, most = found.groups()
        if most and (not comma or int(most) < int(least)):
            self._fail("the numbers of a quantifier are out of order")
        return found[0].removesuffix("?") or found[0]

    def _class(self) -> str:
        """The class behind a ``[`` that has been read."""
        is_inverse = self._take("^")
        members: list[str] = []
        while not self._take("]"):
            first = self._member()
            if not self._is_range():
                members.append(first if isinstance(first, str) else _inside(first))
                continue
            self._at += 1
            last = self._member()
            low, high = _character(first), _character(last)
            if low is None or high is None:
                self._fail("a range goes from one character to another")
            if high < low:
                self._fail("a range in a class is out of order")
            members.append(_inside([(low, high)]))
        if not members:
            return _class([(0, _LAST)] if is_inverse else [])
        return f"[{'^' if is_inverse else ''}{''.join(members)}]"

    def _is_range(self) -> bool:
        return self._pattern.startswith("-", self._at) and not self._pattern.startswith("-]", self._at)

    def _member(self) -> _Ranges | str:
        if self._at == len(self._pattern):
            self._fail("a [ is not closed")
        character = self._pattern[self._at]
        self._at += 1
        if character != "\\":
            return [(ord(character), ord(character))]
        for written, meant in (("b", 0x08), ("-", 0x2D)):
            if self._take(written):
                return [(meant, meant)]
        return self._escape()

    def _escape(self) -> _Ranges | str:
        """What stands behind a backslash: the characters meant, or RE2's word for a property."""
        letter = self._pattern[self._at : self._at + 1]
        if (ranges := _CLASSES.get(letter.lower())) is not None:
            self._at += 1
            return ranges if letter.islower() else _inverse(ranges)
        if letter in ("p", "P"):
            return self._property()
        if letter and letter in "123456789k":
            self._fail("back references are not supported")
        code = self._code(letter)
        return [(code, code)]

    def _property(self) -> str:
        found = _PROPERTY.match(self._pattern, self._at)
        if found is None:
            self._fail(r"of properties there are general categories, \p{Lu}, and scripts, \p{Script=Greek}")
        self._at = found.end()
        return f"\\{found[0][0]}{{{found[1] or found[2]}}}"

    def _code(self, letter: str) -> int:
        found = _CODE.match(self._pattern, self._at)
        if found is not None:
            return self._hexadecimal(found)
        after = self._pattern[self._at + 1 : self._at + 2]
        self._at += 1
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter == "0" and not after.isdigit():
            return 0
        if letter == "c" and after.isascii() and after.isalpha():
            self._at += 1
            return ord(after) % 32
        if letter not in _SYNTAX:
            self._fail(f"\\{letter} is no escape")
        return ord(letter)

    def _hexadecimal(self, found: re.Match[str]) -> int:
        two, braced, four, low = found.groups()
        code = int(two or braced or four, 16)
        self._at = found.end()
        if low is not None and 0xD800 <= code <= 0xDBFF:
            return 0x10000 + ((code - 0xD800) << 10) + int(low, 16) - 0xDC00
        if low is not None:
            self._at -= len(r"\uDC00")
        if code > _LAST or 0xD800 <= code <= 0xDFFF:
            self._fail(f"{code:X} is no character")
        return code

    def _take(self, text: str) -> bool:
        if not self._pattern.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _fail(self, reason: str) -> NoReturn:
        raise ValueError(f"pattern {shortened(self._pattern)} cannot be used: {reason}")


def _character(member: _Ranges | str) -> int | None:
    """The code of a member of a class that is one character."""
    if isinstance(member, str) or len(member) > 1 or member[0][0] < member[0][1]:
        return None
    return member[0][0]


def _inverse(ranges: Iterable[tuple[int, int]]) -> _Ranges:
    """All other characters; the ranges are in order."""
    found = []
    begin = 0
    for low, high in ranges:
        if begin < low:
            found.append((begin, low - 1))
        begin = high + 1
    return [*found, (begin, _LAST)]


def _class(ranges: _Ranges) -> str:
    if not ranges:
        return f"[^{_inside([(0, _LAST)])}]"
    return f"[{_inside(ranges)}]"


def _inside(ranges: _Ranges) -> str:
    return "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in ranges)
