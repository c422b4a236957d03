"""The Prefer header, in the forms that RFC 7240 allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.web.preferences import NONE, Preferences, parse

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~", min_size=1)
QUOTED = st.text('abc ,;="\\\té', max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
KNOWN = {"wait", "bigint", "max-staleness", "handling", "max-affected", "tx"}


@st.composite
def preferences(draw: st.DrawFn, names: st.SearchStrategy[str] = TOKEN) -> str:
    def pair(name: str) -> str:
        space = draw(st.sampled_from(["", " ", "\t"]))
        value = draw(st.none() | TOKEN | QUOTED)
        return name if value is None else f"{name}{space}={space}{value}"

    name = draw(names.filter(lambda name: name.lower() not in KNOWN))
    return "; ".join([pair(name), *(pair(parameter) for parameter in draw(st.lists(TOKEN, max_size=2)))])


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, NONE),
        ("", NONE),
        ("wait=10", Preferences(wait=10.0)),
        ("wait=1.5", Preferences(wait=1.5)),
        ("WAIT = 1.5", Preferences(wait=1.5)),
        ('wait="1.5"', Preferences(wait=1.5)),
        ("wait=.25", Preferences(wait=0.25)),
        ("tx=rollback", Preferences(rolls_back=True)),
        ("tx=commit", Preferences()),
        ("max-affected=10", Preferences(max_affected=10)),
        ('max-affected="0", wait=1', Preferences(wait=1.0, max_affected=0)),
        ("bigint=string", Preferences(bigint="string")),
        ('bigint="string"', Preferences(bigint="string")),
        ("bigint=number", Preferences(bigint="number")),
        ("respond-async, wait=100; foo=bar, bigint=string", Preferences(100.0, bigint="string")),
        (", ,wait=2,,", Preferences(wait=2.0)),
        ('foo="a, wait=7"', NONE),
        ('foo; bar="wait=7, wait=8"; wait=9', NONE),
        ('foo="a\\", wait=7", wait=8', Preferences(wait=8.0)),
        ("wait=2, wait=3", Preferences(wait=2.0)),
        ("bigint=number, bigint=string", Preferences(bigint="number")),
        ("return=minimal", NONE),
        ("max-staleness=0.5", Preferences(max_staleness=0.5)),
        ("Max-Staleness = .5; x=y", Preferences(max_staleness=0.5)),
        ("max-staleness=0", Preferences(max_staleness=0.0)),
        ("max-staleness=2, handling=strict", Preferences(max_staleness=2.0, strict=True)),
        ("handling=lenient, max-staleness=2", Preferences(max_staleness=2.0)),
        ("handling=strict", Preferences(strict=True)),
        ("handling=lenient", NONE),
    ],
)
def test_what_is_known_is_read_and_the_rest_is_ignored(header: str | None, wanted: Preferences) -> None:
    assert parse(header) == wanted


@pytest.mark.parametrize(
    "header",
    [
        "wait",
        "wait=",
        'wait=""',
        "wait=0",
        "wait=-1",
        "wait=soon",
        "wait=nan",
        "wait=inf",
        "wait=1e400",
        "wait=1_0",
        "wait=0x10",
        "wait=1e3",
        "wait=²",
        "wait=0.0000",
        "bigint",
        "bigint=maybe",
        "bigint=String",
        "max-staleness",
        "max-staleness=",
        "max-staleness=.",
        "max-staleness=-1",
        "max-staleness=1s",
        "max-staleness=nan",
        "handling",
        "handling=Strict",
    ],
)
def test_a_known_preference_with_an_unknown_value_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(header)


@given(before=st.lists(preferences(), max_size=3), after=st.lists(preferences(), max_size=3))
def test_other_preferences_never_hide_or_change_the_known_ones(before: list[str], after: list[str]) -> None:
    header = ", ".join([*before, "wait=2.5", "bigint=string", *after])
    assert parse(header) == Preferences(2.5, bigint="string")


@given(st.lists(preferences()))
def test_a_header_without_a_known_preference_asks_for_nothing(items: list[str]) -> None:
    assert parse(",".join(items)) == NONE


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        asked = parse(header)
    except InvalidRequest:
        return
    assert asked.wait is None or 0 < asked.wait < float("inf")


@given(st.decimals(min_value="0.001", max_value=10**9 - 1, places=3))
def test_any_number_of_seconds_is_taken_as_written(seconds: object) -> None:
    assert parse(f"wait={seconds}").wait == float(str(seconds))


@pytest.mark.parametrize(
    ("header", "applied"),
    [
        ("wait=10", "wait=10"),
        ("wait=.25, bigint=string", "wait=0.25, bigint=string"),
        ("bigint=number", "bigint=number"),
        ("handling=strict", ""),
        ("handling=strict, max-staleness=0.5", "max-staleness=0.5, handling=strict"),
        ("return=minimal", ""),
    ],
)
def test_what_is_said_to_be_applied_reads_as_the_same_preferences(header: str, applied: str) -> None:
    assert parse(header).applied == applied
    assert parse(applied) == parse(header)._replace(strict="strict" in applied)
