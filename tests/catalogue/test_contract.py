"""What callers rely on: written down, read again, and compared with what there is now."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.catalogue.contract import Argument, Locked, LockUnusable, Result, changes, locked, read, written
from gateway.catalogue.query import Access, Kind, Parameter, Query, Statement, Text, Verb
from gateway.catalogue.types import Column, Family, Form, Signature, Type

INT = Argument(type="integer", family=Family.INTEGER, size=4)
BIG = Argument(type="bigint", family=Family.INTEGER, size=8)
TEXT = Argument(type="text", family=Family.TEXT)
MOOD = Argument(type="mood", family=Family.ENUM, labels=("ok", "sad"))
BEFORE = Locked(
    kind="many",
    access="read",
    parameters={"a": INT, "b": replace(TEXT, default='"x"')},
    columns={"id": Result("integer"), "mood": Result("mood", ("ok", "sad"))},
)


def told(after: Locked, before: Locked = BEFORE) -> list[tuple[str, bool]]:
    return [(change.message, change.is_breaking) for change in changes({"q": before}, {"q": after})]


def of(**parameters: Argument) -> Locked:
    return replace(BEFORE, parameters=parameters)


def limited(**constraints: Any) -> Locked:
    return of(a=replace(INT, constraints=constraints))


def test_what_is_written_is_read_again() -> None:
    assert read(written({"q": BEFORE})).queries == {"q": BEFORE}
    assert written({"b": BEFORE, "a": BEFORE}) == written({"a": BEFORE, "b": BEFORE})


@pytest.mark.parametrize(
    ("content", "said"), [(b"{", "is no lock file"), (b'{"queries": {}, "version": 2}', "version 2")]
)
def test_a_file_that_cannot_be_compared_with_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(LockUnusable, match=said):
        read(content)


def test_a_query_that_is_gone_breaks_callers_and_a_new_one_does_not() -> None:
    assert [(each.query, each.is_breaking) for each in changes({"old": BEFORE}, {"new": BEFORE})] == [
        ("new", False),
        ("old", True),
    ]


def test_nothing_is_told_where_nothing_has_changed() -> None:
    assert told(BEFORE) == []


@pytest.mark.parametrize(
    ("after", "said", "breaks"),
    [
        (replace(BEFORE, kind="one"), "it answers one instead of many", True),
        (replace(BEFORE, access="write"), "it is a write and was a read", True),
        (replace(BEFORE, roles=("sales",)), "it may be called by sales only", True),
        (replace(BEFORE, max_rows=10), "it answers at most 10 rows", True),
        (replace(BEFORE, tool=True), "it is offered to agents", False),
        (replace(BEFORE, columns={"id": Result("integer")}), "column mood is gone", True),
        (replace(BEFORE, columns=BEFORE.columns | {"id": Result("text")}), "column id is text and was integer", True),
        (replace(BEFORE, columns=BEFORE.columns | {"n": Result("text")}), "column n is new", False),
    ],
)
def test_a_change_of_the_query_or_its_answer(after: Locked, said: str, breaks: bool) -> None:
    assert told(after) == [(said, breaks)]


@pytest.mark.parametrize(
    ("before", "after", "said", "breaks"),
    [
        (of(a=INT), of(), "parameter a is gone", True),
        (of(), of(a=INT), "parameter a is new and must be given", True),
        (of(), of(a=replace(INT, default="1")), "parameter a is new", False),
        (of(a=INT), of(a=replace(INT, bound=True)), "parameter a is set by the gateway now", True),
        (of(a=INT), of(a=BIG), "parameter a is bigint and was integer", False),
        (of(a=BIG), of(a=INT), "parameter a is integer and was bigint", True),
        (of(a=INT), of(a=TEXT), "parameter a is text and was integer", True),
        (of(a=replace(INT, default="1")), of(a=INT), "parameter a must be given", True),
        (of(a=INT), of(a=replace(INT, default="1")), "parameter a may be left out", False),
        (
            of(a=replace(INT, default="1")),
            of(a=replace(INT, default="2")),
            "parameter a is 2 where it is left out, and was 1",
            True,
        ),
        (of(a=MOOD), of(a=replace(MOOD, labels=("ok",))), "parameter a does not take sad any more", True),
        (of(a=MOOD), of(a=replace(MOOD, labels=("ok", "sad", "mad"))), "parameter a takes more labels", False),
        (limited(), limited(minimum=1), "parameter a has minimum 1 (was None)", True),
        (limited(minimum=2), limited(minimum=1), "parameter a has minimum 1 (was 2)", False),
        (limited(maximum=2), limited(maximum=1), "parameter a has maximum 1 (was 2)", True),
        (limited(maximum=1), limited(), "parameter a has maximum None (was 1)", False),
        (limited(enum=[1, 2]), limited(enum=[1, 2, 3]), "parameter a has enum [1, 2, 3] (was [1, 2])", False),
        (limited(enum=[1, 2]), limited(enum=[1]), "parameter a has enum [1] (was [1, 2])", True),
        (limited(pattern="a"), limited(pattern="b"), "parameter a has pattern b (was a)", True),
    ],
)
def test_a_change_of_a_parameter(before: Locked, after: Locked, said: str, breaks: bool) -> None:
    assert told(after, before) == [(said, breaks)]


def test_more_roles_are_no_restriction() -> None:
    before = replace(BEFORE, roles=("a",))
    assert told(replace(BEFORE, roles=("a", "b")), before) == [("more callers may call it", False)]
    assert told(replace(BEFORE, roles=("b",)), before) == [("it may be called by b only", True)]


def test_a_query_is_locked_by_what_the_server_said_of_it() -> None:
    integer = Type("integer", "pg_catalog.int4", Family.INTEGER, size=4)
    statement = Statement(Verb.SELECT, Text(("SELECT ", ""), (0,)))
    parameters = (Parameter("a", default="1", constraints={"minimum": 0}),)
    query = Query("q", Kind.MANY, Access.READ, statement, timeout=1.0, parameters=parameters, roles=("b", "a"))
    assert locked(query, Signature((integer,), (Column("id", integer),), Form.WRAPPED)) == Locked(
        kind="many",
        access="read",
        parameters={"a": replace(INT, default="1", constraints={"minimum": 0})},
        columns={"id": Result("integer")},
        roles=("a", "b"),
    )


def test_a_query_that_is_no_tool_any_more_breaks_agents() -> None:
    assert told(BEFORE, replace(BEFORE, tool=True)) == [("it is not offered to agents any more", True)]
