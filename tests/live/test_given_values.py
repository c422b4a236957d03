"""A query that nothing is wrong with but the value it was given: the caller is told, and not the author."""

from collections.abc import Iterator

import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError, InvalidArguments, QueryBroken
from tests.live.databases import Desk, connect, database, plain, soon

SCHEMA = """
CREATE TABLE boat (id bigint PRIMARY KEY, name text NOT NULL);
CREATE FUNCTION broken(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT FROM''; END';
CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO boat VALUES (9, ''x'') RETURNING 1';
"""


@pytest.fixture(scope="module")
def desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with database(cluster.primary, "given_values") as dsn:
        with plain(dsn) as cursor:
            cursor.execute(SCHEMA)
        connection = connect(dsn)
        yield Desk(connection, tmp_path_factory.mktemp("queries"))
        connection.close()


def failure(desk: Desk, text: str, arguments: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        desk.run(text, arguments)
    assert desk.connection.settle(soon())
    return caught.value


@pytest.mark.parametrize(
    ("text", "value", "sqlstate"),
    [
        ("SELECT name FROM boat WHERE to_tsvector(name) @@ to_tsquery(:q)", "two words", "42601"),
        ("SELECT to_tsquery('simple', :q)", "two words", "42601"),
        ("SELECT current_setting(:q)", "no.such", "42704"),
        ("SELECT has_table_privilege(:q, 'SELECT')", "no_such", "42P01"),
        ("SELECT count(*) FROM boat WHERE name = :q::text::regclass::text", "no_such", "42P01"),
    ],
)
def test_a_value_that_a_function_cannot_read_is_the_callers(desk: Desk, text: str, value: str, sqlstate: str) -> None:
    error = failure(desk, text, f'{{"q": "{value}"}}')
    assert isinstance(error, InvalidArguments)
    assert error.sqlstate == sqlstate
    assert [fault.parameter for fault in error.faults] == ["q"]
    assert value not in error.detail


def test_which_of_several_values_it_was_is_not_guessed(desk: Desk) -> None:
    text = "-- name: q$\nSELECT current_setting(:a::text) || :b::text"
    error = failure(desk, text, '{"a": "no.such", "b": "x"}')
    assert isinstance(error, InvalidArguments)
    assert [fault.parameter for fault in error.faults] == [None]


def test_a_write_tells_it_with_its_outcome(desk: Desk) -> None:
    error = failure(
        desk, "-- name: q!\nINSERT INTO boat (id, name) VALUES (1, current_setting(:q))", '{"q": "no.such"}'
    )
    assert isinstance(error, InvalidArguments)
    assert error.outcome == "rolled_back"
    assert desk.value("SELECT count(*) FROM boat WHERE id = 1") == '{"count":0}'


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (
            "SELECT name FROM boat WHERE to_tsvector(name) @@ to_tsquery('simple', 'two words') AND id = :id",
            '{"id": 1}',
        ),
        ("SELECT broken(:q)", '{"q": "x"}'),
        ("SELECT broken('x')", "{}"),
        ("SELECT current_setting('no.such')", "{}"),
    ],
)
def test_what_the_author_or_a_function_did_wrong_stays_a_broken_query(desk: Desk, text: str, arguments: str) -> None:
    assert isinstance(failure(desk, text, arguments), QueryBroken)


def test_a_read_that_writes_is_told_as_the_authors_mistake(desk: Desk) -> None:
    error = failure(desk, "SELECT writes()", "{}")
    assert isinstance(error, QueryBroken)
    assert error.sqlstate == "25006"
    assert error.detail == "the query writes, and its author has not declared that: it needs `-- @access write`"
