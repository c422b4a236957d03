"""Files cut into entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.annotations import Comment
from gateway.catalogue.files import SourceFile
from gateway.catalogue.scanning import LEFT_OPEN, Entry, scan
from gateway.faults import Fault


def cut(text: str) -> tuple[list[Entry], list[tuple[int, str]]]:
    entries, faults, _ = scan(SourceFile("a.sql", "p.", text))
    return entries, [(fault.line, fault.message) for fault in faults]


def test_an_entry_has_header_comments_and_statement() -> None:
    text = (
        "-- a banner\n\n-- name: f(a)^\n-- Says what.\n\n--  more\n  SELECT 1 -- one\n  , 2 ; -- tail\n"
        "-- name: g\nSELECT 3"
    )
    entries, faults = cut(text)
    assert faults == []
    first, second = entries
    assert first == Entry(
        where="a.sql",
        line=3,
        prefix="p.",
        header="f(a)^",
        comments=(Comment(4, "Says what."), Comment(6, " more")),
        body="SELECT 1 -- one\n  , 2",
        body_line=7,
        broken=False,
        hidden=0,
        second=0,
    )
    assert (second.line, second.header, second.body, second.body_line) == (9, "g", "SELECT 3", 10)
    assert first.line_of(len(first.body)) == 8


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_whatever_ends_them(end: str) -> None:
    entries, faults = cut(end.join(["-- name: a", "-- @x", "SELECT 1,", "2", "", "-- name: b", "SELECT 1"]))
    assert faults == []
    assert [(entry.line, entry.body_line) for entry in entries] == [(1, 3), (6, 7)]
    assert entries[0].comments == (Comment(2, "@x"),)
    assert entries[0].body == f"SELECT 1,{end}2"
    assert entries[0].line_of(len(entries[0].body)) == 4


@pytest.mark.parametrize(
    "body",
    [
        "SELECT '\n-- name: b\n'",
        "SELECT $$\n-- name: b\n$$",
        "SELECT $x$ $$\n-- name: b\n$$ $x$",
        "SELECT E'\\'\n-- name: b\n'",
        'SELECT 1 AS "\n-- name: b\n"',
        "SELECT U&'\n-- name: b\n'",
        "SELECT 1 /* /* */\n-- name: b\n*/ + 1",
        "SELECT 1 -- name: b",
        "/*\n-- name: b\nSELECT 2;\n*/ SELECT 1",
        "SELECT 1,\n/* name: b */\n2",
    ],
)
def test_what_only_looks_like_a_header_is_none(body: str) -> None:
    entries, faults = cut(f"-- name: a\n{body}")
    assert faults == []
    assert [entry.header for entry in entries] == ["a"]
    assert entries[0].body == body[body.index("SELECT 1") if body.startswith("/*") else 0 :].replace(" -- name: b", "")


def test_a_header_in_a_string_is_noted_and_one_in_a_comment_is_not() -> None:
    assert cut("-- name: a\nSELECT 1,\n'\n-- name: b\n'")[0][0].hidden == 3
    assert cut("-- name: a\nSELECT 1\n/*\n-- name: b\n*/")[0][0].hidden == 0


def test_an_indented_header_is_one() -> None:
    assert [entry.header for entry in cut("  -- name: a\nSELECT 1;\n\t-- name: b\nSELECT 2")[0]] == ["a", "b"]


def test_block_comments_do_not_end_the_comment_lines() -> None:
    entries, _ = cut("-- name: a\n/* licence */\n-- @role x\nSELECT 1")
    assert entries[0].comments == (Comment(3, "@role x"),)
    assert entries[0].body == "SELECT 1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-- name: a\nSELECT 1\n-- @role admin\n", 3),
        ("-- @role admin\n-- name: a\nSELECT 1", 1),
        ("-- name: a\nSELECT 1;\n\n-- @role admin\n-- name: b\nSELECT 2", 4),
        ("-- name: a\nSELECT 1 -- @role admin\n", 2),
    ],
)
def test_an_annotation_where_it_has_no_effect_is_a_fault(text: str, line: int) -> None:
    assert cut(text)[1] == [(line, "@role must stand between the header and the statement")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-- name: a\n/* @role admin */\nSELECT 1", 2),
        ("/* name: a */ /*\n * Who may.\n * @role admin\n */\nSELECT 1", 3),
        ("-- name: a\nSELECT 1 /* x */ /* @role admin */", 2),
    ],
)
def test_an_annotation_in_a_block_comment_is_never_passed_over(text: str, line: int) -> None:
    assert cut(text)[1] == [(line, "@role must stand in a line of its own, as `-- @role`, below the header")]


def test_other_at_signs_in_comments_are_nobodys_business() -> None:
    assert cut("-- name: a\nSELECT 1 -- @todo later\n-- mail @role.example\n-- @sqlc-vet-disable")[1] == []


def test_faults_around_entries_are_told_with_their_lines() -> None:
    text = "SELECT 0;\n-- name: a\nSELECT 1;\nSELECT 2;;\n-- name: b\nSELECT\0 3;;\n"
    entries, faults = cut(text)
    assert [entry.body for entry in entries] == ["SELECT 1", "SELECT  3"]
    assert faults == [(6, "a NUL character cannot be part of a query file")]
    assert [entry.second for entry in entries] == [4, 0]


def test_sql_before_the_first_header_is_warned_of_and_ignored() -> None:
    entries, faults, warnings = scan(SourceFile("a.sql", "", "-- schema\nCREATE TABLE t ();\n-- name: a\nSELECT 1"))
    assert ([entry.header for entry in entries], faults) == (["a"], [])
    assert warnings == [Fault("a.sql", 2, "SQL before the first `-- name:` header belongs to no query and is ignored")]


def test_a_block_comment_can_be_the_header_and_hold_annotations() -> None:
    text = "/* name: a :one */\nSELECT 1;\n/* name: b :many\n * What it is.\n * @timeout 2s */\n-- more\nSELECT 2"
    entries, faults = cut(text)
    assert faults == []
    assert [(entry.header, entry.line, entry.body) for entry in entries] == [
        ("a :one", 1, "SELECT 1"),
        ("b :many", 3, "SELECT 2"),
    ]
    assert entries[1].comments == (Comment(4, "What it is."), Comment(5, "@timeout 2s"), Comment(6, "more"))


def test_an_entry_of_more_than_64_kb_is_not_looked_at() -> None:
    entries, faults = cut(f"-- name: a\nSELECT '{'é' * 33_000}';\n-- name: b\nSELECT 1")
    assert [(entry.header, entry.broken) for entry in entries] == [("a", True), ("b", False)]
    assert faults == [(1, "the entry is longer than 64 kB")]


def test_entries_before_and_after_a_break_are_still_found() -> None:
    text = "-- name: a\nSELECT 1;\n-- name: b\n-- @x\nSELECT 'é', 12abc;\n-- name: c\nSELECT 2;\n-- name: d\nSELECT 0x"
    entries, faults = cut(text)
    assert [(entry.header, entry.line, entry.broken) for entry in entries] == [
        ("a", 1, False),
        ("b", 3, True),
        ("c", 6, False),
        ("d", 8, True),
    ]
    assert entries[1].comments == (Comment(4, "@x"),)
    assert faults == [
        (5, 'trailing junk after numeric literal at or near "12abc"'),
        (9, 'invalid hexadecimal integer at or near "0x"'),
    ]


def test_a_quote_left_open_is_blamed_where_it_opens() -> None:
    text = "-- name: a\nSELECT 'abc;\n-- name: b\nSELECT 'x';\n-- name: c\nSELECT 1"
    entries, faults = cut(text)
    assert [(entry.header, entry.broken) for entry in entries] == [("a", True), ("b", False), ("c", False)]
    assert faults == [(2, LEFT_OPEN)]


def test_a_last_quote_left_open_loses_nothing_either() -> None:
    entries, faults = cut("-- name: a\nSELECT $x$ abc;\n-- name: b\nSELECT 1")
    assert [(entry.header, entry.broken) for entry in entries] == [("a", True), ("b", False)]
    assert faults == [(2, 'unterminated dollar-quoted string at or near "$x$ abc;"')]


def test_a_break_that_does_not_say_where_is_blamed_on_its_entry() -> None:
    text = "-- name: a\nSELECT 1 /*\n-- name: x\n*/;\n-- name: b\nSELECT E'\\xff';\n-- name: c\nSELECT 1"
    entries, faults = cut(text)
    assert [(entry.header, entry.broken) for entry in entries] == [("a", False), ("b", True), ("c", False)]
    assert faults == [(6, 'invalid byte sequence for encoding "UTF8": 0xff')]


def test_an_empty_file_has_no_entries() -> None:
    assert cut("") == ([], [])
    assert cut("-- nothing but a comment\n") == ([], [])


PIECES = [
    "-- name: a\n",
    "SELECT",
    " ",
    "\n",
    "'",
    '"',
    "$$",
    "$x$",
    "/*",
    "*/",
    "--",
    ";",
    "é",
    "\\",
    "E'",
    "1x",
    "\0",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_any_text_is_cut_without_an_error_and_in_order(text: str) -> None:
    entries, faults = cut(text)
    lines = [entry.line for entry in entries]
    assert lines == sorted(set(lines))
    assert all(entry.body in text.replace("\0", " ") for entry in entries)
    assert all(0 < line <= text.count("\n") + 1 for line, _ in faults)
    if not faults:
        assert not any(entry.broken for entry in entries)
