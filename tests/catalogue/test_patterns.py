"""Patterns: ECMA-262's meaning, held against another engine of it, in a time that the pattern cannot stretch."""

import re
import sys
import unicodedata
from subprocess import run
from time import process_time

import pytest
from corvus_regex_ecma262 import compile as compile_elsewhere
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.catalogue.patterns import matcher
from gateway.catalogue.values import Refused

CHARACTERS = "ab09_- .^$\n\r\t\v\f\u2028\u00a0\ufeff\u3000éÄßж中٣😀\U00010400{}()[]/\\"
TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=12)

LITERALS = st.sampled_from([*"ab09_- é中😀\n", r"\.", r"\/", r"\$", r"\{", r"\\"])
ESCAPES = st.sampled_from([
    r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\n", r"\t", r"\v", r"\f", r"\r", r"\cJ", r"\x61", r"\u0062",
    r"\u{1F600}", r"\uD83D\uDE00", r"\x00", r"\p{L}", r"\P{L}", r"\p{Lu}", r"\p{gc=Nd}", r"\p{Script=Cyrillic}",
    r"\P{sc=Han}",
])  # fmt: skip
RANGES = st.sampled_from(
    ["a-b", "0-9", "!-~", r"\x00-\x1f", "b-é", r"\u{10000}-\u{10FFFF}", r"\uD83D\uDE00-\uD83D\uDE4F"]
)
MEMBERS = st.one_of(ESCAPES, RANGES, st.sampled_from([*"ab09_^$.[({|", r"\b", r"\-", r"\]", r"\\"]))
CLASSES = st.builds(
    lambda sign, members: f"[{sign}{''.join(members)}]", st.sampled_from(["", "^"]), st.lists(MEMBERS, max_size=3)
)
SIMPLE = ["", "", "*", "+", "?", "*?", "+?", "??"]
COUNTED = ["{2}", "{1,}", "{0,2}", "{1,2}?"]


def _repeated(atoms: st.SearchStrategy[str], quantifiers: list[str]) -> st.SearchStrategy[str]:
    return st.builds(str.__add__, atoms, st.sampled_from(quantifiers))


PATTERNS = st.recursive(
    _repeated(st.one_of(LITERALS, ESCAPES, CLASSES, st.just(".")), SIMPLE + COUNTED)
    | st.sampled_from(["^", "$", r"\b", ""]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map("|".join),
        _repeated(st.builds("({}{})".format, st.sampled_from(["", "?:"]), inner), SIMPLE + COUNTED),
    ),
    max_leaves=8,
)


def elsewhere(pattern: str, text: str) -> bool:
    """What the other engine says; it raises, should it take long."""
    return compile_elsewhere(pattern, "u", timeout=5.0).test(text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PATTERNS, TEXTS)
@example("^[a-z]+$", "abc\n")
@example("^.$", "\u2028")
@example(r"^\s$", "\ufeff")
@example(r"^\w$", "é")
@example("[^a]", "\n")
@example("[]", "a")
@example("[^]", "\n")
@example("^(?:a|ab)(?:c|bcd)(?:d*)$", "abcd")
@example("(?:a*)*$", "b")
@example(r"(\b)*a", "ba")
def test_a_pattern_means_what_ecma_262_says(pattern: str, text: str) -> None:
    assert matcher(pattern)(text) == elsewhere(pattern, text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(st.sampled_from(r"ab0,:=!<>?*+|()[]{}\^$-./uxpkdwbBcLn1é"), max_size=10))
def test_what_is_taken_is_an_expression_of_ecma_262s(pattern: str) -> None:
    try:
        matches = matcher(pattern)
    except ValueError:
        return
    for text in ("", "a", "ab", "b\n", "é", "0-1", pattern):
        assert matches(text) == elsewhere(pattern, text)


def test_characters_have_the_classes_that_unicode_gives_them() -> None:
    for category, characters in (("Lu", "AÄЖ"), ("Nd", "0٣"), ("Zs", " \u3000"), ("Sc", "€$")):
        assert all(unicodedata.category(character) == category for character in characters)
        assert all(matcher(rf"^\p{{{category}}}$")(character) for character in characters)
        assert not matcher(rf"\p{{{category}}}")("a-")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?=a)b", "look-around and modifiers are not supported"),
        ("(?!a)b", "look-around and modifiers are not supported"),
        ("(?<=a)b", "look-around and modifiers are not supported"),
        ("(?<!a)b", "look-around and modifiers are not supported"),
        ("(?i:a)", "look-around and modifiers are not supported"),
        (r"(a)\1", "back references are not supported"),
        (r"(?<n>a)\k<n>", "back references are not supported"),
        (r"\B", r"\B is not supported"),
        (r"\p{Letter}", "of properties there are general categories"),
        (r"\p{Greek}", "of properties there are general categories"),
        (r"\p{Script=Klingon}", "invalid character class range"),
        ("a{1001}", "invalid repetition size: {1001}"),
        ("((a{100}){100}){100}", "invalid repetition size"),
        ("(" * 101 + ")" * 101, "groups are nested more than 100 levels deep"),
        ("(", "a ( is not closed"),
        (")", "a ) closes nothing"),
        ("[a", "a [ is not closed"),
        ("a]", r"] must be written \] here"),
        ("a{", r"{ must be written \{ here"),
        ("*a", r"* must be written \* here"),
        ("a**", r"* must be written \* here"),
        ("^*", "nothing that could be repeated stands before a quantifier"),
        ("a{2,1}", "the numbers of a quantifier are out of order"),
        ("[b-a]", "a range in a class is out of order"),
        (r"[a-\d]", "a range goes from one character to another"),
        (r"\-", r"\- is no escape"),
        (r"\Z", r"\Z is no escape"),
        ("a\\", "\\ is no escape"),
        (r"\uD800", "D800 is no character"),
        (r"\u{110000}", "110000 is no character"),
        ("(?<a-b>x)", "a-b cannot be this group's name"),
        ("(?<n>x)(?<n>y)", "n cannot be this group's name"),
    ],
)
def test_what_cannot_be_matched_so_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        matcher(pattern)


EXPENSIVE = ["^(a+)+$", "^(a|a)*$", "(a?){50}a{50}$", "(.*)(.*)(.*)(.*)(.*)x", "^(([a-z])+.)+[A-Z]([a-z])+$"]


@pytest.mark.parametrize("pattern", EXPENSIVE)
def test_no_pattern_holds_the_process(pattern: str) -> None:
    matches = matcher(pattern)
    for length in (41, 1_000, 5_000, 100_000, 1_000_000):
        began = process_time()
        try:
            assert not matches("a" * length + "!")
        except Refused as refused:
            assert "characters to be matched with" in str(refused)  # noqa: PT017 - both outcomes are good ones
        assert process_time() - began < 0.05


def test_a_text_is_refused_where_matching_it_could_take_long() -> None:
    with pytest.raises(Refused, match=r"must have at most \d+ characters to be matched with a\[ab\]\{100\}c"):
        matcher("a[ab]{100}c")("ab" * 10_000)
    assert matcher("^[A-Za-z0-9+/]+=?=?$")("A" * 1_000_000)


def test_no_regular_expression_engine_is_loaded_before_a_query_has_a_pattern() -> None:
    script = "import sys, gateway.catalogue.arguments; assert 're2' not in sys.modules"
    run([sys.executable, "-c", script], check=True, timeout=60)  # noqa: S603 - our own interpreter
