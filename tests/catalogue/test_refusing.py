"""What a catalogue refuses when it is compiled: each fault with its line, and all of them at once."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue.compiling import compile_catalogue, compile_project
from gateway.faults import FaultsFound
from gateway.settings import CatalogueSettings, GroupSettings, Settings
from tests.catalogue.compiler import GROUPS, TIMEOUT, Compile, write


@pytest.fixture
def compiled(tmp_path: Path) -> "Compile":
    return Compile(tmp_path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "-- name: a!\n-- @expect row\nDELETE FROM t",
            "@expect row: this query answers no rows; write",
        ),
        (
            "-- name: a\n-- @expect affected=1\nSELECT 1",
            "@expect affected is for writes; for a read",
        ),
        (
            "-- name: a^\n-- @expect affected=1\nDELETE FROM t RETURNING 1",
            "this query answers one row, not how many",
        ),
        ("-- name: a!\n-- @expect affected=1\nCALL p()", "@expect: CALL does not tell how many rows it touches"),
        ("-- name: a^\n-- @page key(id) size=9\nSELECT 1", "@page is for queries with many rows"),
        ("-- name: a^\n-- @sort a: id\nSELECT 1", "@sort is for queries with many rows"),
        ("-- name: a\n-- @page key(id) size=9\nDELETE FROM t RETURNING id", "@page is for reads"),
        ("-- name: a\n-- @page key(id) size=9\n-- @max_rows 9\nSELECT 1", "@max_rows: pages are bounded by `max=`"),
        ("-- name: a\n-- @page key(id) size=9\nSELECT :size", "@page: the parameter size is the annotation's own"),
        ("-- name: a\n-- @page key(id) size=9\nSELECT :cursor", "@page: the parameter cursor is the annotation's own"),
        ("-- name: a\n-- @sort a: id\nSELECT :sort", "@sort: the parameter sort is the annotation's own"),
        ("-- name: a!\n-- @cache 1s\nDELETE FROM t", "@cache is for reads, and this query is a write"),
        ("-- name: a!\n-- @coalesce\nDELETE FROM t", "@coalesce is for reads, and this query is a write"),
    ],
)
def test_an_annotation_that_does_not_suit_its_query_is_a_fault(compiled: Compile, text: str, fault: str) -> None:
    with pytest.raises(FaultsFound, match=re.escape(fault)):
        compiled.query(text)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("-- name: a\n", [(1, "there is no statement below this header")]),
        ("-- name: a\n-- x\n;", [(1, "there is no statement below this header")]),
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 1", [(3, "query a is already defined in {}:1")]),
        ("-- name: a\nSELECT 1,\n FROM FROM", [(3, 'syntax error at or near "FROM"')]),
        ("-- name: a\nSELECT\n :'x'", [(3, ":'x' is psql's spelling; a parameter is written :x")]),
        ("-- name: a(x)\nSELECT 1", [(2, "x is in the header's parameter list, but not in the statement")]),
        ("-- name: a\n-- @param y int4\nSELECT :x", [(2, "@param y: the statement has no such parameter; it has x")]),
        ("-- name: a\n-- @param y int4\nSELECT 1", [(2, "@param y: the statement has no such parameter")]),
        ("-- name: a\n-- @param x int4 x (\nSELECT :x", [(2, '@param x: cannot read from "(" on')]),
        ("-- name: a\n-- @param x int4 bla\nSELECT :x", [(2, '@param x: "int4 bla" is not a type')]),
        ("-- name: a\n-- @access read\nDELETE FROM t RETURNING 1", [(2, "@access read, but the statement has DELETE")]),
        ("-- name: a\n-- @access read\nCALL p()", [(2, "@access read, but the statement has CALL")]),
        ("-- name: a\nSELECT nextval('s')", [(1, "a read cannot call nextval: add `-- @access write`")]),
        ("-- name: a\n-- @access read\nSELECT lo_get(1)", [(2, "a read cannot call lo_get: add `-- @access write`")]),
        (
            "-- name: a\nINSERT INTO t VALUES (1)",
            [(1, "INSERT without RETURNING has no rows for kind many: use `!` or `:exec`, or add RETURNING")],
        ),
        (
            "-- name: a\n-- @group nope\nSELECT 1",
            [(2, "there is no group nope; configured are: batch, read, reporting, write")],
        ),
        (
            "-- name: a!\n-- @group reporting\nDELETE FROM t",
            [(2, "a write cannot run in the group reporting, whose access is read")],
        ),
        ("-- name: a^\n-- @page key(a) size=2\nSELECT 1", [(2, "@page is for queries with many rows")]),
        (
            "-- name: a^\n-- @media image/png\nSELECT 1",
            [(2, "@media is for queries with one value: use `$`")],
        ),
        ("-- name: a!\n-- @cache 1s\nDELETE FROM t", [(2, "@cache is for reads, and this query is a write")]),
        ("-- name: a!\n-- @coalesce\nDELETE FROM t", [(2, "@coalesce is for reads, and this query is a write")]),
        ("-- name: a\n-- @outcome tracked\nSELECT 1", [(2, "@outcome is for writes, and this query is a read")]),
        (
            "-- name: a :copyfrom\nSELECT 1",
            [
                (
                    1,
                    "result kind :copyfrom cannot be served: use :exec, :one or :many, and send a list of objects or a"
                    " bulk body",
                )
            ],
        ),
    ],
)
def test_what_cannot_be_served_is_told_with_its_line(
    compiled: Compile, text: str, faults: list[tuple[int, str]]
) -> None:
    where = str(compiled.folder / "a.sql")
    assert compiled.faults(text) == [(line, message.format(where)) for line, message in faults]


def test_a_group_that_nobody_named_must_exist_too(compiled: Compile) -> None:
    assert compiled.faults("-- name: a!\nDELETE FROM t", {"read": "read"}) == [
        (1, "there is no group write for a write without `@group`; configured: read")
    ]
    assert compiled.faults("-- name: a\nSELECT 1", {}) == [
        (1, "there is no group read for a read without `@group`; configured: none")
    ]


def test_all_faults_of_all_files_are_told_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="-- name: one\n-- @foo\n-- @timeout x\n-- @group nope\nSELECT :a.b, :'c'\n;\n-- name: two #\nSELECT 1 FROM",
        b__c="-- name: three\nSELECT 'open\n-- name: four\nSELECT ')\n-- name: three\nVACUUM",
    )
    (tmp_path / "z.sql").write_bytes(b"\xff")
    with pytest.raises(FaultsFound) as caught:
        compile_catalogue([tmp_path / "missing", tmp_path], groups=GROUPS, timeout=TIMEOUT)
    shown = [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults]
    assert [one.partition("; a query is")[0].partition("; there are @")[0] for one in shown] == [
        "a.sql:2: @foo is no annotation",
        'a.sql:3: @timeout is a duration such as 250ms, 2s or 1h, at most 24d, not "x"',
        "a.sql:4: there is no group nope; configured are: batch, read, reporting, write",
        "a.sql:5: :'c' is psql's spelling; a parameter is written :c",
        "a.sql:5: a parameter has no attributes: for a field of a composite write (:a).field",
        "a.sql:7: result kind # cannot be served: a query is one statement",
        "b/c.sql:2: what is quoted here runs over a `-- name:` line: is a quote left open?",
        'b/c.sql:4: syntax error at or near ")"',
        "b/c.sql:5: query b.three is already defined in " + str(tmp_path / "b/c.sql:1"),
        "b/c.sql:6: VACUUM cannot be served",
        "missing: cannot be read: No such file or directory",
        "z.sql:1: is not UTF-8: byte 0xff",
    ]


def test_a_catalogue_without_queries_is_a_fault(tmp_path: Path) -> None:
    for paths, where in (([tmp_path], str(tmp_path)), ([], "[catalogue] paths")):
        with pytest.raises(FaultsFound) as caught:
            compile_catalogue(paths, groups=GROUPS, timeout=TIMEOUT)
        assert [(fault.where, fault.line) for fault in caught.value.faults] == [(where, 0)]


def test_what_is_odd_but_served_is_a_warning(compiled: Compile) -> None:
    catalogue = compiled(
        "-- name: a\nSELECT a, b AS a FROM t;\n-- name: b^\n-- @max_rows 3\nSELECT '\n-- name: c\n';\n"
        "-- name: d$\nSELECT a, a FROM t"
    )
    assert [warning.removeprefix(str(compiled.folder)) for warning in catalogue.warnings] == [
        "/a.sql:1: query a: two columns are called a",
        "/a.sql:3: query b: @max_rows has no effect, the kind is one",
        "/a.sql:5: a `-- name:` line inside a string is no header",
    ]


def test_a_string_that_hides_a_header_is_named_where_something_is_wrong(compiled: Compile) -> None:
    assert compiled.faults("-- name: a\nSELECT 'open;\n-- name: b\nSELECT 'x, y FROM") == [
        (2, "what is quoted here runs over a `-- name:` line: is a quote left open?"),
        (4, "syntax error at end of input"),
    ]


def test_an_unreadable_statement_still_has_its_header_and_annotations_checked(compiled: Compile) -> None:
    lines = [line for line, _ in compiled.faults("-- name: 1a :two\n-- @foo\n-- @group no\nSELECT 'open")]
    assert lines == [1, 1, 2, 3, 4]


UNSERVABLE = {
    "-- name: a :copyfrom\nINSERT INTO boat VALUES ($1)": "a.sql:1: result kind :copyfrom cannot be served",
    "-- name: a#\nCREATE TABLE a ();\nCREATE TABLE b ()": "a.sql:1: result kind # cannot be served",
    "-- name: a!\n-- about\nCREATE TABLE a ()": "a.sql:3: CREATE cannot be served",
    "-- name: a!\nDELETE FROM a;\nDELETE FROM b;": "a.sql:3: a second statement begins here",
}


@pytest.mark.parametrize(("text", "reason"), UNSERVABLE.items())
def test_what_cannot_be_served_is_a_fault_or_left_out_as_the_settings_say(
    text: str, reason: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, a=f"{text}\n-- name: b\nSELECT 1")
    settings = Settings(
        catalogue=CatalogueSettings(paths=(str(folder),)),
        groups={"read": GroupSettings(), "write": GroupSettings(access="write")},
    )
    with pytest.raises(FaultsFound) as caught:
        compile_project(settings)
    (fault,) = caught.value.faults
    assert str(fault).startswith(f"{folder}/{reason}")
    skipping = CatalogueSettings(paths=(str(folder),), unservable="skip")
    catalogue = compile_project(msgspec.structs.replace(settings, catalogue=skipping))
    assert [*catalogue.queries] == ["b"]
    assert catalogue.left_out == {"a": str(fault)}
    assert catalogue.warnings == (f"{fault}; a is left out",)


def test_an_entry_that_is_left_out_keeps_its_name(tmp_path: Path) -> None:
    folder = write(tmp_path, a="-- name: a#\nSELECT 1\n-- name: a\nSELECT 1")
    with pytest.raises(FaultsFound) as caught:
        compile_catalogue([folder], groups=GROUPS, timeout=TIMEOUT, skip=True)
    assert [fault.message.partition(" in ")[0] for fault in caught.value.faults] == ["query a is already defined"]


def test_what_is_wrong_besides_is_a_fault_whatever_may_be_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, a="-- name: a#\n-- @authorize admin\nSELECT 1\n-- name: b\nSELECT 1")
    with pytest.raises(FaultsFound) as caught:
        compile_catalogue([folder], groups=GROUPS, timeout=TIMEOUT, skip=True)
    assert [fault.line for fault in caught.value.faults] == [1, 2]


def test_percent_signs_doubled_for_psycopg_are_warned_of(compiled: Compile) -> None:
    (warning,) = compiled("-- name: boats\nSELECT id FROM boat WHERE name LIKE 'A%%'").warnings
    assert warning.endswith("query boats: %% stands for itself here, as psycopg's doubling is not undone: write %")


def test_agents_must_be_able_to_tell_tools_apart(compiled: Compile, tmp_path: Path) -> None:
    write(tmp_path, reports__daily="-- name: totals\n-- @tool\nSELECT 1")
    with pytest.raises(FaultsFound) as caught:
        compiled("-- name: reports_totals\n-- @tool\nSELECT 1;\n")
    assert [fault.message for fault in caught.value.faults] == [
        "@tool: reports.totals and reports_totals are both reports_totals to an agent"
    ]
    assert len(compiled("-- name: reports_totals\nSELECT 1;\n").queries) == 2


def test_the_name_of_a_tool_is_not_too_long_for_agents(compiled: Compile) -> None:
    text = f"-- name: {'x' * 65}\n-- @tool\nSELECT 1;\n"
    assert compiled.faults(text) == [(1, f"@tool: {'x' * 65} has 65 characters, agents take 64")]
    assert len(compiled(text.replace("x" * 65, "x" * 64)).queries) == 1


def test_a_tool_that_writes_has_no_parameter_where_its_key_goes(compiled: Compile) -> None:
    text = "-- name: a(idempotency_key)!\n-- @tool\nDELETE FROM t WHERE id = :idempotency_key"
    fault = "@tool: idempotency_key is an argument of every tool that writes: rename the parameter"
    assert compiled.faults(text) == [(1, fault)]
    assert compiled.query(text.replace("-- @tool\n", "")).tool is None
    assert compiled.query("-- name: a(idempotency_key)\n-- @tool\nSELECT :idempotency_key::int").tool == ""
