"""The wraps that have PostgreSQL write the JSON, and the statements that try to fall out of them."""

from collections.abc import Iterator

import psycopg2.extensions
import pytest

from gateway.catalogue.types import Form
from gateway.demo.cluster import Cluster
from gateway.errors import QueryBroken, Raised
from tests.live.databases import Desk, connect, database, plain, soon
from tests.live.wrapped import TABLES, logged


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with database(cluster.primary, "live_wraps") as dsn, plain(dsn) as cursor:
        cursor.execute(TABLES)
        yield dsn


@pytest.fixture(scope="module")
def oracle(dsn: str) -> Iterator[psycopg2.extensions.cursor]:
    with plain(dsn) as cursor:
        yield cursor


@pytest.fixture(scope="module")
def desk(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    connection = connect(dsn)
    yield Desk(connection, tmp_path_factory.mktemp("wraps"))
    connection.close()


@pytest.fixture
def log(oracle: psycopg2.extensions.cursor) -> Iterator[psycopg2.extensions.cursor]:
    """Cursor over tables whose changes are undone after the test."""
    yield oracle
    oracle.execute("TRUNCATE log, ruled, redirected; DELETE FROM item WHERE id > 3")


# Kinds.


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "-- name: q\nSELECT id, name FROM item ORDER BY id LIMIT 2",
            ['{"id":1,"name":"one"}', '{"id":2,"name":"two"}'],
        ),
        ("-- name: q\nSELECT id FROM item WHERE false", []),
        ("-- name: q^\nSELECT id FROM item ORDER BY id DESC", ['{"id":3}']),
        ("-- name: q^\nSELECT id FROM item WHERE false", []),
        ("-- name: q$\nSELECT price FROM item ORDER BY id", ["1.10"]),
        ("-- name: q$\nSELECT price, name FROM item ORDER BY id DESC", ["null"]),
        ("-- name: q$\nSELECT id FROM item WHERE false", []),
        ("-- name: q\nVALUES (1, 'a'), (2, NULL)", ['{"column1":1,"column2":"a"}', '{"column1":2,"column2":null}']),
        ("-- name: q\nTABLE frozen ORDER BY id LIMIT 1", ['{"id":1}']),
        ("-- name: q\n(SELECT 1 AS a) UNION ALL (SELECT 2) ORDER BY a DESC", ['{"a":2}', '{"a":1}']),
        ("-- name: q\nWITH x AS (SELECT 1 AS a) SELECT * FROM x", ['{"a":1}']),
        (
            "-- name: q\nWITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 3) TABLE x",
            ['{"n":1}', '{"n":2}', '{"n":3}'],
        ),
        ("-- name: q\nSELECT FROM item LIMIT 1", ["{}"]),
        ("-- name: q\nSELECT * FROM cheap", ['{"id":1,"name":"one"}']),
        ("-- name: q\nSELECT item FROM item WHERE id = 2", ['{"item":{"id":2,"name":"two","price":2.20,"big":2}}']),
    ],
)
def test_a_read_of_each_kind(text: str, rows: list[str], desk: Desk) -> None:
    assert desk.learn(text)[1].form is Form.WRAPPED
    assert desk.rows(text) == rows


EAGERLY_PARALLEL = """
    SET max_parallel_workers_per_gather = 4; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;
    SET min_parallel_table_scan_size = 0; SET enable_indexscan = off; SET enable_bitmapscan = off
"""


@pytest.mark.parametrize("limit", ["", "\n-- @max_rows 30000"])
def test_many_rows_keep_the_order_asked_for_when_several_processes_find_them(
    limit: str, desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    oracle.execute("CREATE TABLE scattered AS SELECT i, md5(i::text) AS word FROM generate_series(1, 20000) i")
    oracle.execute("ANALYZE scattered")
    desk.connection.ask(EAGERLY_PARALLEL, soon())
    try:
        text = f"-- name: q{limit}\nSELECT word FROM scattered WHERE i > 7 ORDER BY word"
        plan = desk.plan(text)
        assert any(
            "Workers Planned" in str(row) for row in desk.connection.ask(f"EXPLAIN {plan.text.render()}", soon())
        )
        oracle.execute("SELECT word FROM scattered WHERE i > 7 ORDER BY word")
        assert desk.rows(text) == [f'{{"word":"{word}"}}' for (word,) in oracle.fetchall()]
    finally:
        desk.connection.ask("RESET ALL", soon())
        oracle.execute("DROP TABLE scattered")


@pytest.mark.parametrize(
    ("text", "affected"),
    [
        ("-- name: q!\nSELECT id FROM item", 3),
        ("-- name: q!\nSELECT id FROM item WHERE false", 0),
        ("-- name: q!\nUPDATE item SET name = name", 3),
        ("-- name: q!\nUPDATE item SET name = name RETURNING id", 3),
        ("-- name: q!\nDELETE FROM item WHERE id = -1", 0),
        ("-- name: q!\nINSERT INTO item (name) VALUES ('a'), ('b')", 2),
        ("-- name: q:execrows\nMERGE INTO item i USING (VALUES (1)) AS v(id) ON v.id = i.id"
         " WHEN MATCHED THEN DO NOTHING", 0),
        ("-- name: q!\nMERGE INTO item i USING (VALUES (1), (2)) AS v(id) ON v.id = i.id"
         " WHEN MATCHED THEN UPDATE SET name = i.name", 2),
        ("-- name: q!\nWITH gone AS (DELETE FROM log RETURNING id) UPDATE item SET name = name WHERE id = 1", 1),
        ("-- name: q!\nCALL put(1, 'x')", 0),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("log")
def test_exec_counts_the_rows(text: str, affected: int, desk: Desk) -> None:
    assert desk.affected(text) == affected


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("INSERT INTO item (id, name) VALUES (10, 'x'), (11, 'y') RETURNING id, name",
         ['{"id":10,"name":"x"}', '{"id":11,"name":"y"}']),
        ("UPDATE item SET name = name WHERE id < 3 RETURNING id", ['{"id":1}', '{"id":2}']),
        ("DELETE FROM item WHERE id = -1 RETURNING *", []),
        ("-- name: q^\nUPDATE item SET name = name WHERE id = 1 RETURNING id -- trailing", ['{"id":1}']),
        ("-- name: q<!\nINSERT INTO item (id) VALUES (12) RETURNING id AS _gw_id", ['{"_gw_id":12}']),
        ("-- name: q$\nINSERT INTO item (id, big) VALUES (13, 5) RETURNING big, id", ["5"]),
        ("-- name: q$\nUPDATE item SET name = name WHERE id = -1 RETURNING id", []),
        ("MERGE INTO item i USING (VALUES (1), (20)) AS v(id) ON v.id = i.id"
         " WHEN MATCHED THEN UPDATE SET name = i.name WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id)"
         " RETURNING merge_action(), i.id", ['{"merge_action":"UPDATE","id":1}', '{"merge_action":"INSERT","id":20}']),
        ("SELECT id FROM item ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", ['{"id":1}']),
        ("-- name: q^\nSELECT id FROM item ORDER BY id FOR UPDATE", ['{"id":1}']),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("log")
def test_a_write_that_gives_rows(text: str, rows: list[str], desk: Desk) -> None:
    query, signature = desk.learn(text)
    assert query.access == "write"
    assert signature.form is Form.WRAPPED
    assert desk.rows(text) == rows


# Names and texts that get in the way.


@pytest.mark.parametrize(
    "name", ["t", "c", "_gw_x", "row_to_json", "to_json", "_gw_c", "_gw_c1", "x", "select", 'a"b', "ü", "A"]
)
def test_a_column_may_be_called_anything(name: str, desk: Desk) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    key = name.replace('"', '\\"')
    assert desk.rows(f"SELECT 1 AS {quoted}, 2::int8 AS b") == [f'{{"{key}":1,"b":2}}']
    assert desk.rows(f"-- name: q$\nSELECT 1 AS {quoted}, 2 AS b") == ["1"]
    assert desk.rows(f"SELECT 1 AS {quoted}, 2::int8 AS b", bigint_as_string=True) == [f'{{"{key}":1,"b":"2"}}']


def test_a_column_may_have_the_name_of_the_alias(desk: Desk) -> None:
    assert desk.rows("SELECT 1 AS _gw, 2 AS b") == ['{"_gw":1,"b":2}']
    assert desk.rows("-- name: q^\nSELECT 1 AS _gw") == ['{"_gw":1}']
    assert desk.rows("-- name: q$\nSELECT 1 AS _gw") == ["1"]
    assert desk.rows("UPDATE item SET name = name WHERE id = 1 RETURNING id AS _gw") == ['{"_gw":1}']


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 AS a -- the end",
        "SELECT 1 AS a -- the end;",
        "SELECT 1 AS a; -- the end",
        "SELECT 1 AS a /* the end */ ;",
        "SELECT 1 AS a /* /* nested */ ; */",
        "/* first */ SELECT 1 AS a",
        "SELECT 1 AS a\n\n;\n\n",
        "SELECT 1 AS a -- :not_a_parameter $1 '",
    ],
)
def test_comments_and_semicolons_at_the_end_do_no_harm(text: str, desk: Desk) -> None:
    assert desk.rows(text) == ['{"a":1}']
    assert desk.rows(f"-- name: q$\n{text}") == ["1"]


def test_strings_keep_what_looks_like_a_parameter_or_the_end(desk: Desk) -> None:
    text = "SELECT ':x ; -- %s $1' AS a, $$:y ;$$ AS b, E'\\':z' AS c, :x::text AS d"
    assert desk.rows(text, '{"x": "v"}') == ['{"a":":x ; -- %s $1","b":":y ;","c":"\':z","d":"v"}']


def test_duplicate_columns_are_served_as_postgresql_writes_them(desk: Desk) -> None:
    text = "SELECT 1 AS a, 2::int8 AS a, 3 AS b"
    assert desk.rows(text) == ['{"a":1,"a":2,"b":3}']
    assert desk.rows(text, bigint_as_string=True) == ['{"a":1,"a":"2","b":3}']
    assert desk.rows("-- name: q$\nSELECT 1 AS a, 2 AS a") == ["1"]


def test_columns_without_a_name_keep_the_servers(desk: Desk) -> None:
    assert desk.rows("SELECT 1, 'x', now() IS NULL") == ['{"?column?":1,"?column?":"x","?column?":false}']


# Data-modifying WITH.


def test_data_modifying_withs_are_hoisted(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    text = """
        WITH new AS (INSERT INTO log VALUES (:id, :word) RETURNING id, word), -- a comment, with a comma
             twice AS (SELECT id * 2 AS id, word FROM new)
        SELECT id, word FROM twice -- the end"""
    assert desk.rows(text, '{"id": 21, "word": "x"}') == ['{"id":42,"word":"x"}']
    assert logged(log) == [(21, "x")]


@pytest.mark.parametrize(
    "text",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3),"
        " put AS (INSERT INTO log SELECT i, 'r' FROM n RETURNING id) SELECT id FROM put ORDER BY id",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SEARCH DEPTH FIRST BY i SET o,"
        " put AS (INSERT INTO log SELECT i, 'r' FROM n RETURNING id) SELECT id FROM put ORDER BY id",
        "WITH n(i) AS MATERIALIZED (VALUES (1), (2), (3)), put AS (INSERT INTO log SELECT i, 'r' FROM n RETURNING id)"
        " SELECT id FROM put ORDER BY id",
        "WITH n(i) AS NOT MATERIALIZED (VALUES (1), (2), (3)) INSERT INTO log SELECT i, 'r' FROM n RETURNING id",
    ],
)
def test_every_form_of_with_finds_its_main_statement(text: str, desk: Desk, log: psycopg2.extensions.cursor) -> None:
    assert desk.rows(text) == ['{"id":1}', '{"id":2}', '{"id":3}']
    assert logged(log) == [(1, "r"), (2, "r"), (3, "r")]


def test_a_with_and_a_main_statement_may_both_write(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    text = """-- name: q^
        WITH put AS (INSERT INTO log VALUES (5, 'w'))
        UPDATE item SET name = name WHERE id = :id RETURNING id"""
    assert desk.rows(text, '{"id": 2}') == ['{"id":2}']
    assert logged(log) == [(5, "w")]


def test_a_with_is_written_whole_even_if_nobody_reads_it_to_the_end(
    desk: Desk, log: psycopg2.extensions.cursor
) -> None:
    text = (
        "-- name: q$\nWITH put AS (INSERT INTO log SELECT i, 'all' FROM generate_series(1, 5) i RETURNING id) TABLE put"
    )
    assert desk.rows(text) == ["1"]
    assert len(logged(log)) == 5


def test_an_insert_of_many_rows_is_whole_under_one_and_scalar(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    for header in ("-- name: q^", "-- name: q$"):
        desk.rows(f"{header}\nINSERT INTO log SELECT i, 'all' FROM generate_series(1, 3) i RETURNING id")
    assert len(logged(log)) == 6


# Rules, views, procedures.


def test_a_table_with_an_also_rule_runs_plain_and_is_told_in_json_all_the_same(
    desk: Desk, log: psycopg2.extensions.cursor
) -> None:
    text = "INSERT INTO ruled VALUES (:id, :word), (8, NULL) RETURNING id, word"
    assert desk.learn(text)[1].form is Form.PLAIN
    assert desk.rows(text, '{"id": 7, "word": "a\\"b\\\\"}') == ['{"id":7,"word":"a\\"b\\\\"}', '{"id":8,"word":null}']
    assert logged(log) == [(7, "also"), (8, "also")]
    log.execute("SELECT count(*) FROM ruled")
    assert log.fetchall() == [(2,)]


@pytest.mark.usefixtures("log")
def test_a_table_with_a_rule_serves_one_scalar_and_exec(desk: Desk) -> None:
    insert = "INSERT INTO ruled VALUES (1, 'x'), (2, 'y')"
    assert desk.rows(f"-- name: q^\n{insert} RETURNING id, word") == ['{"id":1,"word":"x"}']
    assert desk.rows(f"-- name: q$\n{insert} RETURNING word") == ['"x"']
    assert desk.affected(f"-- name: q!\n{insert}") == 2
    assert desk.rows("-- name: q$\nDELETE FROM ruled WHERE id = -1 RETURNING id") == []


@pytest.mark.usefixtures("log")
def test_duplicate_columns_of_a_table_with_a_rule_are_kept(desk: Desk) -> None:
    assert desk.rows("INSERT INTO ruled VALUES (1, 'x') RETURNING id, id, word") == ['{"id":1,"id":1,"word":"x"}']


def test_an_instead_rule_answers_with_its_own_returning(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    assert desk.rows("INSERT INTO redirected VALUES (3, 'r') RETURNING id, word") == ['{"id":3,"word":"r"}']
    assert logged(log) == [(3, "r")]


@pytest.mark.usefixtures("log")
def test_a_view_that_can_be_written_is(desk: Desk) -> None:
    assert desk.rows("UPDATE cheap SET name = name RETURNING id") == ['{"id":1}']


def test_a_call_gives_its_out_arguments(desk: Desk) -> None:
    expected = '{"b":"x!","c":21,"d":[1.10,null,"NaN"]}'
    for call in ("CALL give(:a, :b, NULL, NULL)", "CALL give(a => :a, b => :b, c => NULL, d => NULL)"):
        query, signature = desk.learn(f"-- name: q^\n{call}")
        assert (query.access, signature.form) == ("write", Form.CALL)
        assert [type_.name for type_ in signature.parameters] == ["integer", "text"]
        assert desk.rows(f"-- name: q^\n{call}", '{"a": 3, "b": "x"}') == [expected]
        assert desk.rows(f"-- name: q\n{call}", '{"a": 3, "b": "x"}') == [expected]
        assert desk.rows(f"-- name: q$\n{call}", '{"a": 3, "b": "x"}') == ['"x!"']
        assert desk.rows(f"-- name: q$\n{call}", '{"a": null, "b": null}') == ["null"]


def test_a_default_of_a_procedure_may_be_given_or_left(desk: Desk) -> None:
    given = "-- name: q^\nCALL give(:a, :b, NULL, NULL, :e)"
    assert desk.rows(given, '{"a": 3, "b": "x", "e": 2}') == ['{"b":"x!","c":6,"d":[1.10,null,"NaN"]}']


def test_a_call_without_out_arguments_runs_as_exec(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    assert desk.affected("-- name: q!\nCALL put(:a, :b)", '{"a": 1, "b": "it\'s \\\\"}') == 0
    assert logged(log) == [(1, "it's \\")]


def test_a_procedure_that_commits_by_itself_fails_and_leaves_nothing(
    desk: Desk, log: psycopg2.extensions.cursor
) -> None:
    with pytest.raises(QueryBroken) as caught:
        desk.run("-- name: q!\nCALL commits(1)")
    assert (caught.value.sqlstate, caught.value.outcome) == ("2D000", "rolled_back")
    assert logged(log) == []


def test_a_procedure_that_fails_is_rolled_back(desk: Desk, log: psycopg2.extensions.cursor) -> None:
    with pytest.raises(Raised) as caught:
        desk.run("-- name: q!\nCALL fails(1)")
    assert (caught.value.shown_title, caught.value.outcome) == ("no", "rolled_back")
    assert logged(log) == []
    assert desk.connection.is_usable()
