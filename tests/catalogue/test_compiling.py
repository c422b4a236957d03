"""Query files to a catalogue: what is served, and how."""

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
from gateway.settings import CatalogueSettings, GroupSettings, ServerSettings, Settings
from tests.catalogue.compiler import GROUPS, TIMEOUT, Compile, write


@pytest.fixture
def compiled(tmp_path: Path) -> "Compile":
    return Compile(tmp_path)


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


def test_a_read_may_run_in_a_group_that_can_write(compiled: Compile) -> None:
    assert compiled("-- name: a\n-- @group batch\nSELECT 1").queries["a"].group == "batch"


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
