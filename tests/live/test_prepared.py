"""Prepared statements: kept within bounds, and prepared again when somebody took them away."""

from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.postgres import single
from gateway.postgres.session import Session
from tests.live.databases import Desk, connect, soon
from tests.live.sessions import INSERT, logged, small_database


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_prepared") as dsn:
        yield dsn


# Prepared statements.


def test_what_was_deallocated_behind_our_back_is_prepared_again(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    texts = [f"SELECT {number} AS n WHERE :x::int = 1" for number in range(3)]
    for text in texts:
        assert desk.rows(text, '{"x": 1}')
    desk.connection.ask("DEALLOCATE ALL", soon())
    for text in texts:
        assert desk.rows(text, '{"x": 1}')
    desk.affected(INSERT, '{"id": 1}')
    desk.connection.ask("DEALLOCATE ALL", soon())
    assert desk.affected(INSERT, '{"id": 2}') == 1
    assert logged(oracle) == [1, 2]


def test_a_query_that_deallocates_everything_harms_itself_alone(desk: Desk) -> None:
    for _ in range(3):
        assert desk.value("-- name: q$\nSELECT 5 AS a") == "5"
        with pytest.raises(errors.QueryBroken):
            desk.value("-- name: q$\nSELECT forget()")
        assert desk.value("-- name: q$\nSELECT 5 AS a") == "5"


def test_a_26000_that_a_function_raises_is_not_taken_for_ours(desk: Desk) -> None:
    text = "-- name: q$\nSELECT fail(:code)"
    for _ in range(2):
        with pytest.raises(errors.QueryBroken) as caught:
            desk.run(text, '{"code": "26000"}')
        assert caught.value.sqlstate == "26000"
    assert desk.connection.ask("SELECT count(*)::text FROM pg_prepared_statements", soon()) == [("1",)]


def prepared(connection: Session) -> list[str]:
    rows = connection.ask("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time", soon())
    return [str(row[0]) for row in rows]


def test_only_so_many_statements_stay_prepared_the_least_recently_used_goes(dsn: str, tmp_path: Path) -> None:
    connection = connect(dsn, prepared=3)
    desk = Desk(connection, tmp_path / "queries")
    texts = [f"-- name: q{number}$\nSELECT {number}" for number in range(5)]
    for text in (*texts[:3], texts[0], texts[3], texts[4]):
        desk.run(text)
        assert len(prepared(connection)) <= 3
    assert sorted(text.partition("action='")[2].partition("'")[0] for text in prepared(connection)) == [
        "q0",
        "q3",
        "q4",
    ]
    connection.ask("DEALLOCATE ALL", soon())
    for text in texts:
        desk.run(text)
    assert len(prepared(connection)) == 3
    connection.close()


def test_a_statement_that_fails_to_prepare_is_tried_anew(desk: Desk, oracle: psycopg2.extensions.cursor) -> None:
    oracle.execute("CREATE TABLE passing (id int)")
    text = "SELECT count(*) AS n FROM passing"
    plan = desk.plan(text)
    oracle.execute("DROP TABLE passing")
    with pytest.raises(errors.CatalogueStale):
        single.run(desk.connection, plan, [], deadline=soon())
    oracle.execute("CREATE TABLE passing (id int)")
    assert single.run(desk.connection, plan, [], deadline=soon()).text == b'{"n":0}'
    oracle.execute("ALTER TABLE passing ADD COLUMN more int")
    assert single.run(desk.connection, plan, [], deadline=soon()).text == b'{"n":0}'
    oracle.execute("DROP TABLE passing")


def test_a_table_that_changes_its_columns_does_not_break_a_wrapped_query(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    oracle.execute("CREATE TABLE changing AS SELECT 1 AS a")
    text = "SELECT * FROM changing"
    assert desk.rows(text) == ['{"a":1}']
    oracle.execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'x'")
    assert desk.rows(text) == ['{"a":1,"b":"x"}']
    oracle.execute("DROP TABLE changing")


def test_the_querys_name_stands_in_front_for_those_who_watch_the_server(desk: Desk) -> None:
    text = "-- name: watch_me$\nSELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    assert "/*action='watch_me'*/ EXECUTE gw_" in desk.rows(text)[0]
