"""What the parser says of statements."""

import pytest

from gateway.catalogue.lexing import parse
from gateway.catalogue.placeholders import find_parameters
from gateway.catalogue.query import Statement, Verb
from gateway.catalogue.statements import Analysis, Unserved, analyse, is_type


def analysis(body: str) -> Analysis:
    marked, wrong = find_parameters(body, None)
    assert wrong == []
    found, faults = analyse(marked)
    assert faults == []
    assert found is not None
    return found


def statement(body: str) -> Statement:
    return analysis(body).statement


def faults(body: str) -> list[tuple[int, str]]:
    marked, wrong = find_parameters(body, None)
    assert wrong == []
    found, told = analyse(marked)
    assert found is None
    return [(fault.offset, fault.message) for fault in told]


def wrapped(body: str) -> tuple[str | None, str | None]:
    found = statement(body)
    return (
        None if found.prelude is None else found.prelude.render(),
        None if found.source is None else found.source.render(),
    )


LOCKS = "a locking clause (FOR UPDATE, FOR SHARE …)"


@pytest.mark.parametrize(
    ("body", "verb", "writes"),
    [
        ("SELECT 1", Verb.SELECT, None),
        ("VALUES (1), (2)", Verb.SELECT, None),
        ("TABLE t", Verb.SELECT, None),
        ("(SELECT 1) UNION (SELECT 2) ORDER BY 1", Verb.SELECT, None),
        ("WITH x AS (SELECT 1) SELECT * FROM x", Verb.SELECT, None),
        ("INSERT INTO t DEFAULT VALUES", Verb.INSERT, "INSERT"),
        ("UPDATE t SET a = 1", Verb.UPDATE, "UPDATE"),
        ("DELETE FROM t", Verb.DELETE, "DELETE"),
        ("MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE", Verb.MERGE, "MERGE"),
        ("CALL p(:a)", Verb.CALL, "CALL"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", Verb.SELECT, "DELETE"),
        ("SELECT * FROM t FOR UPDATE", Verb.SELECT, LOCKS),
        ("SELECT (SELECT a FROM t FOR KEY SHARE)", Verb.SELECT, LOCKS),
        (
            "SELECT * FROM (SELECT * FROM t FOR NO KEY UPDATE) x",
            Verb.SELECT,
            LOCKS,
        ),
    ],
)
def test_a_write_is_told_from_a_read_by_parsing(body: str, verb: Verb, writes: str | None) -> None:
    found = analysis(body)
    assert (found.statement.verb, found.writes) == (verb, writes)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("", "a query is one statement; here are none"),
        ("SELECT 1; SELECT 2", "a query is one statement; here are 2"),
        ("SELECT 1 INTO t", "SELECT INTO creates a table"),
        ("SELECT * FROM _gw", "the name _gw is the gateway's own"),
        ("WITH _gw AS (SELECT 1) SELECT * FROM _gw", "the name _gw is the gateway's own"),
        ("SELECT (WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x)", "a data-modifying statement must be"),
        ("INSERT INTO t WITH x AS (DELETE FROM u RETURNING a) SELECT a FROM x", "a data-modifying statement must be"),
        ("(WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x)", "a data-modifying WITH must be what the statement"),
    ],
)
def test_what_the_server_would_refuse_is_a_fault(body: str, fault: str) -> None:
    ((_, message),) = faults(body)
    assert message.startswith(fault)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("CREATE TABLE t (a int)", "CREATE"),
        ("/* x */ explain SELECT 1", "EXPLAIN"),
        ("SET a = 1", "SET"),
        ("DO $$ $$", "DO"),
        ("COPY t FROM STDIN", "COPY"),
        ("BEGIN", "BEGIN"),
        ("EXECUTE x", "EXECUTE"),
        ("LOCK t", "LOCK"),
        ("VACUUM ANALYZE t", "VACUUM"),
    ],
)
def test_other_kinds_of_statements_are_not_served(body: str, word: str) -> None:
    with pytest.raises(Unserved, match=rf"^{word} cannot be served; a query is one of SELECT, "):
        faults(body)


@pytest.mark.parametrize(
    ("body", "verb", "relations"),
    [
        ("TRUNCATE a, s.b RESTART IDENTITY CASCADE", Verb.TRUNCATE, ("a", "s.b")),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", Verb.REFRESH, ("m",)),
        ("ANALYZE", Verb.ANALYZE, ()),
        ("ANALYZE (SKIP_LOCKED) a (x), b", Verb.ANALYZE, ("a", "b")),
        ("NOTIFY channel, 'news'", Verb.NOTIFY, ()),
    ],
)
def test_a_utility_statement_is_a_write_that_has_no_rows(body: str, verb: Verb, relations: tuple[str, ...]) -> None:
    found = analysis(body)
    assert (found.statement.verb, found.statement.relations, found.statement.source) == (verb, relations, None)
    assert found.writes is not None
    assert not verb.is_prepared


@pytest.mark.parametrize(
    ("body", "spelled"),
    [("SELECT 1 FROM :t", ":t"), ("SELECT 1 FROM sqlc.arg('t')", "sqlc.arg('t')"), ("SELECT 1 FROM  $1", "$1")],
)
def test_a_syntax_error_shows_a_parameter_as_it_is_written(body: str, spelled: str) -> None:
    assert faults(body) == [(body.index(spelled), f'syntax error at or near "{spelled}"')]


def test_a_syntax_error_is_told_where_it_stands_in_the_users_text() -> None:
    body = "SELECT :customer_name,\n  sqlc.arg(x) FROM FROM é"
    assert faults(body) == [(body.rindex("FROM"), 'syntax error at or near "FROM"')]


@pytest.mark.parametrize("body", ["SELECT 1 AS _gw", "SELECT _gw FROM s._gw", "SELECT _gw.a FROM t AS _gw"])
def test_the_gateways_name_is_free_for_columns_aliases_and_other_schemas(body: str) -> None:
    analysis(body)


@pytest.mark.parametrize(
    ("body", "effects"),
    [
        ("SELECT nextval('s'), lower('x')", ("nextval",)),
        ("SELECT pg_catalog.set_config('a', 'b', true)", ("pg_catalog.set_config",)),
        ("SELECT setval('s', 1), pg_notify('a', 'b')", ("pg_notify", "setval")),
        ("SELECT lo_put(1, 0, '')", ("lo_put",)),
        ("SELECT (SELECT pg_try_advisory_lock_shared(1))", ("pg_try_advisory_lock_shared",)),
        ("SELECT * FROM t WHERE pg_advisory_unlock_all() IS NULL", ("pg_advisory_unlock_all",)),
        ("SELECT pg_advisory_xact_lock(1), currval('s'), app.nextval(1), loess(1)", ()),
    ],
)
def test_functions_that_no_read_may_call_are_known(body: str, effects: tuple[str, ...]) -> None:
    assert analysis(body).side_effects == effects


def test_functions_and_relations_are_named_once_and_sorted() -> None:
    found = statement(
        "WITH c AS (SELECT upper(x) FROM base) SELECT lower(:a), app.audit(lower('b')),"
        ' "Odd"."Name"(), extract(year FROM d)'
        ' FROM c, shop.orders o JOIN "Base" USING (x), base WHERE EXISTS (SELECT FROM deep)'
    )
    assert found.functions == ("Odd.Name", "app.audit", "lower", "pg_catalog.extract", "upper")
    assert found.relations == ("Base", "base", "deep", "shop.orders")


@pytest.mark.parametrize(
    ("body", "relations"),
    [
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", ("t",)),
        ("WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) SELECT * FROM t", ()),
        ("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b", ()),
        ("WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b", ("a",)),
        ("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) x, a", ("a",)),
        ("WITH t AS (SELECT 1) INSERT INTO t SELECT * FROM t", ("t",)),
        ("WITH a AS (SELECT 1) SELECT * FROM s.a", ("s.a",)),
        ("WITH a AS (SELECT 1) SELECT 1 UNION SELECT * FROM a", ()),
        ("CALL p((SELECT 1 FROM t))", ("t",)),
    ],
)
def test_names_that_a_with_defines_are_no_relations_where_they_hold(body: str, relations: tuple[str, ...]) -> None:
    assert statement(body).relations == relations


@pytest.mark.parametrize(
    ("body", "prelude", "source"),
    [
        ("SELECT :a -- x", None, "(\nSELECT $1 -- x\n)"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", None, "(\nWITH x AS (SELECT 1) SELECT * FROM x\n)"),
        ("DELETE FROM t", None, None),
        ("CALL p(:a)", None, None),
        ("MERGE INTO t USING s ON a = b WHEN MATCHED THEN DELETE", None, None),
        ("DELETE FROM t WHERE a = :a RETURNING *", "WITH _gw AS (\nDELETE FROM t WHERE a = $1 RETURNING *\n)", "_gw"),
        (
            "MERGE INTO t USING s ON a = b WHEN MATCHED THEN DELETE RETURNING a",
            "WITH _gw AS (\nMERGE INTO t USING s ON a = b WHEN MATCHED THEN DELETE RETURNING a\n)",
            "_gw",
        ),
        (
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x RETURNING a",
            "WITH _gw AS (\nWITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x RETURNING a\n)",
            "_gw",
        ),
        (
            "WITH x AS (INSERT INTO t VALUES (:a) RETURNING a) -- c\nSELECT * FROM x WHERE a = :b",
            "WITH x AS (INSERT INTO t VALUES ($1) RETURNING a) -- c\n\n, _gw AS (\nSELECT * FROM x WHERE a = $2\n)",
            "_gw",
        ),
        (
            "WITH x AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM x RETURNING a",
            "WITH x AS (DELETE FROM t RETURNING *) \n, _gw AS (\nINSERT INTO u SELECT * FROM x RETURNING a\n)",
            "_gw",
        ),
        ("WITH x AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM x", None, None),
    ],
)
def test_the_rows_of_a_statement_can_be_selected_from(body: str, prelude: str | None, source: str | None) -> None:
    assert wrapped(body) == (prelude, source)


HOISTED = [
    ("WITH x AS (DELETE FROM t RETURNING a) ", "(SELECT 1) UNION SELECT a FROM x"),
    ("WITH x(a, b) AS NOT MATERIALIZED (DELETE FROM t RETURNING a, (b)) ", "TABLE x"),
    ("with update as materialized (delete from t returning a), values(a) as (select 1) ", "select * from update"),
    ('WITH "AS" AS (DELETE FROM t RETURNING a), U&"s" UESCAPE \'!\' AS (SELECT 1) ', "VALUES (1)"),
    (
        "WITH RECURSIVE r(a, b) AS (SELECT 1, 2 UNION ALL SELECT a + 1, b FROM r)"
        " SEARCH BREADTH FIRST BY a, b SET o CYCLE a, b SET c TO 'y' DEFAULT 'n' USING p,"
        " s(a) AS (SELECT 1 UNION ALL SELECT a FROM s) CYCLE a SET c USING p, "
        " x AS (DELETE FROM t RETURNING a) /* ) */ ",
        "SELECT * FROM r",
    ),
]


@pytest.mark.parametrize(("before", "main"), HOISTED, ids=[before[:30] for before, _ in HOISTED])
def test_the_main_statement_is_found_behind_any_with(before: str, main: str) -> None:
    prelude, source = wrapped(before + main)
    assert prelude == f"{before}\n, _gw AS (\n{main}\n)"
    assert source == "_gw"
    assert len(parse(f"{prelude} SELECT * FROM {source}")) == 1


@pytest.mark.parametrize(
    ("body", "duplicates"),
    [
        ("SELECT a, b AS a, t.c, c, 1, 2 FROM t", ("a", "c")),
        ("SELECT *, t.* FROM t", ()),
        ("DELETE FROM t RETURNING a, b AS a", ("a",)),
        ("INSERT INTO t DEFAULT VALUES RETURNING a, b", ()),
        ("VALUES (1, 2)", ()),
    ],
)
def test_columns_of_the_same_name_are_noticed(body: str, duplicates: tuple[str, ...]) -> None:
    assert analysis(body).duplicates == duplicates


@pytest.mark.parametrize(
    "name",
    [
        "int4",
        "text[]",
        "int[3][]",
        "numeric(10, 2)",
        "timestamp with time zone",
        "shop.mood",
        '"Odd Type"',
        "char",
        "interval day to second",
        "double precision",
        "bit varying(8)",
        "character varying",
        "time(3) without time zone",
    ],
)
def test_types_are_known_by_their_form(name: str) -> None:
    assert is_type(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "int4 x",
        "int4, text",
        "int4) --",
        "int4; DROP TABLE t",
        "int4 FROM t",
        "int4 + 1",
        "setof int4",
        "1",
        "a.b.c.d(",
        "int4 UNION SELECT 1",
        "int4::text",
        "int4 ORDER BY 1",
        "x y",
        "numeric(10",
        "int4 LIMIT 1",
        "int4 AS a",
        "int4 COLLATE x",
    ],
)
def test_what_is_more_than_a_type_is_none(name: str) -> None:
    assert not is_type(name)


def test_long_chains_do_not_trouble_anybody() -> None:
    found = analysis("SELECT " + " || ".join(f"f{number}(:a)" for number in range(2_000)))
    assert len(found.statement.functions) == 2_000
