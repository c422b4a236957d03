"""Query files to a catalogue: what is served, what is refused, and all of it at once."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue.compiling import compile_catalogue, compile_project
from gateway.catalogue.query import (
    Access,
    Cache,
    Catalogue,
    Deprecation,
    Expect,
    Kind,
    Parameter,
    Query,
    Statement,
    Text,
    Verb,
)
from gateway.faults import FaultsFound
from gateway.settings import CatalogueSettings, GroupSettings, ServerSettings, Settings

GROUPS = {"read": "read", "write": "write", "reporting": "read", "batch": "write"}
TIMEOUT = 5.0


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


@pytest.fixture
def compiled(tmp_path: Path) -> "Compile":
    return Compile(tmp_path)


class Compile:
    """Compiles texts given in place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, groups: dict[str, str] = GROUPS) -> Catalogue:
        return compile_catalogue([write(self.folder, a=text)], groups=groups, timeout=TIMEOUT)

    def query(self, text: str) -> Query:
        (query,) = self(text).queries.values()
        return query

    def faults(self, text: str, groups: dict[str, str] = GROUPS) -> list[tuple[int, str]]:
        with pytest.raises(FaultsFound) as caught:
            self(text, groups)
        assert all(fault.where == str(self.folder / "a.sql") for fault in caught.value.faults)
        return [(fault.line, fault.message) for fault in caught.value.faults]


EXAMPLE = """\
-- name: orders_of_customer(customer_id, max_rows)
-- The customer's orders, newest first.
-- @timeout 2s
-- @param max_rows int4 = 50 minimum=1 maximum=500 -- how many rows at most
-- @role sales, support
SELECT id, placed_at, total
  FROM orders
 WHERE customer_id = :customer_id
 ORDER BY placed_at DESC
 LIMIT :max_rows;
"""


def test_the_contracts_example_compiles_whole(compiled: Compile) -> None:
    bare = (
        "SELECT id, placed_at, total\n  FROM orders\n WHERE customer_id = ",
        "\n ORDER BY placed_at DESC\n LIMIT ",
        "",
    )
    assert compiled.query(EXAMPLE) == Query(
        name="orders_of_customer",
        kind=Kind.MANY,
        access=Access.READ,
        statement=Statement(
            verb=Verb.SELECT,
            bare=Text(bare, (0, 1)),
            prelude=None,
            source=Text(("(\n" + bare[0], bare[1], "\n)"), (0, 1)),
            functions=(),
            relations=("orders",),
        ),
        parameters=(
            Parameter("customer_id"),
            Parameter("max_rows", "int4", "50", {"minimum": 1, "maximum": 500}, "how many rows at most"),
        ),
        group="read",
        description="The customer's orders, newest first.",
        timeout=2.0,
        has_timeout=True,
        roles=("sales", "support"),
        file=str(compiled.folder / "a.sql"),
        line=1,
    )


def test_every_annotation_arrives_in_its_query(compiled: Compile) -> None:
    query = compiled.query(
        "-- name: a(x) :many\n-- @group batch\n-- @access write\n-- @max_rows 5\n-- @outcome tracked\n"
        "-- @retry serialization\n-- @batch on\n-- @expect row\n-- @deprecated use b\nSELECT id, f(:x) FROM t"
    )
    assert (query.group, query.access, query.max_rows, query.tracked) == ("batch", Access.WRITE, 5, True)
    assert (query.retry_serialization, query.batch, query.deprecated) == (True, True, Deprecation("use b"))
    assert query.expect == Expect("row", 1)
    query = compiled.query("-- name: a\n-- @cache 5s\n-- @coalesce\n-- @group reporting\nSELECT 1")
    assert (query.cache, query.coalesce, query.group) == (Cache(5.0), True, "reporting")


def test_an_order_is_put_around_the_statement_and_is_part_of_a_pages_key(compiled: Compile) -> None:
    query = compiled.query("-- name: a\n-- @sort up: id | down: id DESC\nSELECT id FROM t")
    assert query.statement.bare.render() == 'SELECT _gw.* FROM (\nSELECT id FROM t\n) AS _gw ORDER BY _gw."id"'
    second = query.sorts[1].statement
    assert second is not None
    assert second.bare.render().endswith('ORDER BY _gw."id" DESC')
    query = compiled.query("-- name: a\n-- @sort by_b: b DESC\n-- @page key(id) size=9\nSELECT id, b FROM t")
    assert query.statement.bare.render() == "SELECT id, b FROM t"
    assert list(map(str, query.sorts[0].key)) == ["b DESC", "id"]


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


def test_a_query_without_a_timeout_of_its_own_has_the_configured_one(compiled: Compile) -> None:
    assert compiled.query("-- name: a\nSELECT 1").timeout == TIMEOUT
    assert compiled.query("-- name: a\n-- @timeout 1h\nSELECT 1").timeout == 3600.0


def test_a_project_is_compiled_as_its_settings_say(tmp_path: Path) -> None:
    write(tmp_path, a="-- name: a\n-- @group reporting\nSELECT 1")
    settings = Settings(
        catalogue=CatalogueSettings(paths=(str(tmp_path),)),
        server=ServerSettings(timeout=0.25),
        groups={"reporting": GroupSettings()},
    )
    (query,) = compile_project(settings).queries.values()
    assert (query.group, query.timeout) == ("reporting", 0.25)


def test_folders_prefix_names_and_queries_are_sorted(tmp_path: Path) -> None:
    write(tmp_path, b="-- name: z\nSELECT 1;\n-- name: b\nSELECT 1", reports__old__a="-- name: totals\nSELECT 1")
    catalogue = compile_catalogue([tmp_path], groups=GROUPS, timeout=TIMEOUT)
    assert list(catalogue.queries) == ["b", "reports.old.totals", "z"]
    assert all(name == query.name for name, query in catalogue.queries.items())


def test_windows_files_compile_to_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    (query,) = compile_catalogue([tmp_path], groups=GROUPS, timeout=TIMEOUT).queries.values()
    assert query.name == "orders_of_customer"
    assert query.timeout == 2.0
    assert query.statement.bare.pieces[0] == ("SELECT id, placed_at, total\r\n  FROM orders\r\n WHERE customer_id = ")


@pytest.mark.parametrize(
    ("header", "body", "kind", "access"),
    [
        ("a", "SELECT 1", Kind.MANY, Access.READ),
        ("a^", "SELECT 1", Kind.ONE, Access.READ),
        ("a$", "SELECT 1", Kind.SCALAR, Access.READ),
        ("a!", "SELECT 1", Kind.EXEC, Access.READ),
        ("a!", "DELETE FROM t", Kind.EXEC, Access.WRITE),
        ("a*!", "INSERT INTO t VALUES (:a)", Kind.EXEC, Access.WRITE),
        ("a<!", "INSERT INTO t VALUES (:a) RETURNING id", Kind.ONE, Access.WRITE),
        ("a$", "UPDATE t SET a = 1 RETURNING a", Kind.SCALAR, Access.WRITE),
        ("a :one", "SELECT * FROM t WHERE id = $1 FOR UPDATE", Kind.ONE, Access.WRITE),
        ("a :execrows", "DELETE FROM t RETURNING *", Kind.EXEC, Access.WRITE),
        ("a", "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Kind.MANY, Access.WRITE),
        ("a!", "CALL p()", Kind.EXEC, Access.WRITE),
        ("a^", "CALL p()", Kind.ONE, Access.WRITE),
        ("a$", "CALL p()", Kind.SCALAR, Access.WRITE),
    ],
)
def test_kind_and_access_decide_the_group(
    compiled: Compile, header: str, body: str, kind: Kind, access: Access
) -> None:
    query = compiled.query(f"-- name: {header}\n{body};")
    assert (query.kind, query.access, query.group) == (kind, access, access.value)


def test_a_select_may_be_declared_a_write(compiled: Compile) -> None:
    query = compiled.query("-- name: a$\n-- @access write\nSELECT nextval('s')")
    assert (query.access, query.group) == (Access.WRITE, "write")


def test_sqlc_nargs_default_to_null_unless_told_otherwise(compiled: Compile) -> None:
    query = compiled.query("-- name: a\n-- @param b int4 = 3\nSELECT sqlc.narg(a), sqlc.narg(b), sqlc.arg(c)")
    assert [(one.name, one.default) for one in query.parameters] == [("a", "null"), ("b", "3"), ("c", None)]


def test_numbered_parameters_can_be_declared(compiled: Compile) -> None:
    query = compiled.query('-- name: a :many\n-- @param arg2 text = "x"\nSELECT $2, $1')
    assert query.parameters == (Parameter("arg1"), Parameter("arg2", "text", '"x"'))


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


def test_a_read_may_run_in_a_group_that_can_write(compiled: Compile) -> None:
    assert compiled("-- name: a\n-- @group batch\nSELECT 1").queries["a"].group == "batch"


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


def test_the_hash_follows_what_is_served_and_nothing_else(tmp_path: Path) -> None:
    def digest(folder: str, **files: str) -> str:
        return compile_catalogue([write(tmp_path / folder, **files)], groups=GROUPS, timeout=TIMEOUT).hash

    one, two = "-- name: a\nSELECT :x;\n", "-- name: b\nSELECT 2;\n"
    first = digest("1", f=one + two)
    assert len(first) == 64
    assert digest("2", g=two + "\n\n-- a comment\n" + one) == first
    assert digest("3", f=one, g=two) == first
    assert digest("4", f=one.replace(":x", ":y") + two) != first
    assert digest("5", f=one + two.replace("SELECT", "-- @timeout 1s\nSELECT")) != first
    assert digest("6", f=one + two.replace("-- name: b", "-- name: b^")) != first


def test_a_compiled_catalogue_survives_storing(compiled: Compile) -> None:
    catalogue = compiled(EXAMPLE + "-- name: b\n-- @param x numeric = 0.1 minimum=0.1 enum=[0.1, 1e20]\nSELECT :x")
    assert msgspec.json.decode(msgspec.json.encode(catalogue), type=Catalogue) == catalogue


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


def test_the_names_that_numbers_are_given_are_noted(compiled: Compile) -> None:
    catalogue = compiled("-- name: boats\nSELECT id FROM boat WHERE length > $1 AND f($2) LIMIT $3")
    assert catalogue.notes == (f"{compiled.folder}/a.sql:1: boats: $1 length, $2 arg2, $3 limit",)
    assert [one.name for one in catalogue.queries["boats"].parameters] == ["length", "arg2", "limit"]
    assert compiled("-- name: boats(least)\nSELECT id FROM boat WHERE length > $1").notes == ()


def test_a_number_can_be_declared_by_its_name_or_as_arg(compiled: Compile) -> None:
    text = "-- name: boats\n-- @param {} numeric = 3\n-- @{} the least\nSELECT id FROM boat WHERE length > $1"
    for name in ("length", "arg1"):
        query = compiled.query(text.format(name, name))
        assert query.parameters == (Parameter(name, "numeric", "3"),)
        assert query.description == f"@{name} the least"


def test_percent_signs_doubled_for_psycopg_are_warned_of(compiled: Compile) -> None:
    (warning,) = compiled("-- name: boats\nSELECT id FROM boat WHERE name LIKE 'A%%'").warnings
    assert warning.endswith("query boats: %% stands for itself here, as psycopg's doubling is not undone: write %")


def test_a_utility_statement_is_a_write_without_rows(compiled: Compile) -> None:
    query = compiled.query("-- name: renew!\nREFRESH MATERIALIZED VIEW CONCURRENTLY totals")
    assert (query.access, query.kind, query.group) == (Access.WRITE, Kind.EXEC, "write")
    assert compiled.faults("-- name: renew\nTRUNCATE boat") == [
        (1, "TRUNCATE has no rows for kind many: use `!` or `:exec`")
    ]
    assert compiled.faults("-- name: renew!\n-- @access read\nTRUNCATE boat") == [
        (2, "@access read, but the statement has TRUNCATE")
    ]


def test_a_tool_is_called_by_its_folder_too_and_need_not_have_a_title(compiled: Compile, tmp_path: Path) -> None:
    write(tmp_path, reports__daily="-- name: totals\n-- @tool\nSELECT 1")
    titled, totals, other = compiled("-- name: a\n-- @tool A title\nSELECT 1;\n-- name: z\nSELECT 1;").queries.values()
    assert [(each.tool_name, each.tool) for each in (titled, totals, other)] == [
        ("a", "A title"),
        ("reports_totals", ""),
        ("z", None),
    ]


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
