"""What ``gateway check`` says of pages: keys that tell rows apart, and keys that cannot be looked up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.query import Query
from gateway.demo.cluster import Cluster
from gateway.errors import GatewayError
from gateway.postgres.inferring import CannotLearn
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from gateway.postgres.pageable import barriers, is_unique
from gateway.postgres.session import Session
from tests.live.databases import connect, database, soon

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, at timestamptz NOT NULL, word text, doc json, other int REFERENCES a);
CREATE INDEX ON a (at, id);
CREATE TABLE b (a_id int REFERENCES a, n int, UNIQUE (a_id, n));
"""
GROUPS = {"read": "read", "write": "write"}


@pytest.fixture(scope="module")
def session(cluster: Cluster) -> Iterator[Session]:
    with database(cluster.primary, "paged") as dsn:
        cluster.primary.sql(TABLES, "paged")
        session = connect(dsn)
        yield session
        session.close()


def compiled(folder: Path, body: str, key: str) -> Query:
    file = folder / "q.sql"
    file.write_text(f"-- name: q\n-- @page key({key}) size=10\n{body}")
    (query,) = compile_catalogue([file], groups=GROUPS, timeout=5.0).queries.values()
    return query


@pytest.mark.parametrize(
    ("body", "key", "unique"),
    [
        ("SELECT id, at FROM a", "at, id", True),
        ("SELECT id, at FROM a WHERE at > :since AND (:word::text IS NULL OR word = :word)", "at DESC, id", True),
        ("SELECT id, at FROM a", "at", False),
        ("SELECT a.id, b.n FROM a LEFT JOIN b ON b.a_id = a.id", "id", False),
        ("SELECT a.id, other.word FROM a LEFT JOIN a AS other ON other.id = a.other", "id", True),
        ("SELECT b.a_id, b.n, a.word FROM b LEFT JOIN a ON a.id = b.a_id", "a_id, n", True),
        ("SELECT word, count(*) FROM a GROUP BY word", "word", True),
        ("SELECT DISTINCT at FROM a", "at", True),
        ("SELECT id FROM a UNION SELECT n FROM b", "id", True),
        ("SELECT id FROM a UNION ALL SELECT n FROM b", "id", False),
    ],
)
def test_a_key_is_unique_where_the_planner_knows_it(
    session: Session, tmp_path: Path, body: str, key: str, unique: bool
) -> None:
    query = compiled(tmp_path, body, key)
    assert is_unique(session, query, learn(session, query, Book(), soon())) is unique


@pytest.mark.parametrize(
    ("body", "key", "told"),
    [
        ("SELECT id, at FROM a WHERE word = :word", "at, id", []),
        ("SELECT a.id, b.n FROM a JOIN b ON b.a_id = a.id", "id, n", []),
        ("SELECT word, count(*) AS n FROM a GROUP BY word", "word", []),
        ("SELECT id FROM a UNION ALL SELECT n FROM b", "id", []),
        ("SELECT id FROM a LIMIT 100", "id", ["a LIMIT or OFFSET"]),
        ("SELECT id, row_number() OVER (ORDER BY at) AS n FROM a", "n, id", ["a window function"]),
        ("SELECT word, count(*) AS n FROM a GROUP BY word", "n, word", ["an aggregate"]),
        ("WITH w AS MATERIALIZED (SELECT id FROM a) SELECT id FROM w", "id", ["a WITH that is computed as a whole"]),
        ("SELECT generate_series(1, id) AS n, id FROM a", "n, id", ["a function that returns several rows"]),
    ],
)
def test_what_keeps_pages_from_being_looked_up_is_named(
    session: Session, tmp_path: Path, body: str, key: str, told: list[str]
) -> None:
    query = compiled(tmp_path, body, key)
    assert barriers(session, query, learn(session, query, Book(), soon())) == told


@pytest.mark.parametrize(
    ("body", "key", "fault"),
    [
        ("SELECT id FROM a", "at", "the columns must be of the result, and alone of their names: id"),
        ("SELECT id, at AS id FROM a", "id", "the columns must be of the result, and alone of their names"),
        ("SELECT id, doc FROM a", "doc", "could not identify an ordering operator for type json"),
    ],
)
def test_a_key_that_rows_cannot_be_sorted_by_is_a_fault(
    session: Session, tmp_path: Path, body: str, key: str, fault: str
) -> None:
    query = compiled(tmp_path, body, key)
    with pytest.raises((CannotLearn, GatewayError), match=fault):
        learn(session, query, Book(), soon())


def test_an_order_of_its_own_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "q.sql"
    file.write_text("-- name: q\n-- @page key(id) size=10\nSELECT id FROM a ORDER BY id")
    (warning,) = compile_catalogue([file], groups=GROUPS, timeout=5.0).warnings
    assert "its rows are sorted twice: leave its ORDER BY out, as @page sorts them" in warning
