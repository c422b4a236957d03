"""The sample catalogue shows everything a query file can say."""

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.query import Access, Catalogue, Kind, Verb
from gateway.catalogue.types import Family
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from tests.live.databases import GROUPS, connect, soon


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return compile_catalogue([shop.QUERIES], groups=GROUPS, timeout=5.0)


def test_there_are_at_least_fifteen_described_queries_without_a_warning(catalogue: Catalogue) -> None:
    assert len(catalogue.queries) >= 15
    assert catalogue.warnings == ()
    assert [query.name for query in catalogue.queries.values() if not query.description] == []


def test_every_kind_is_shown(catalogue: Catalogue) -> None:
    queries = catalogue.queries.values()
    assert {query.kind for query in queries} == set(Kind)
    assert {Verb.SELECT, Verb.INSERT, Verb.UPDATE, Verb.DELETE, Verb.CALL} <= {q.statement.verb for q in queries}
    assert any(name.startswith("reports.") for name in catalogue.queries)
    assert any(query.access is Access.WRITE and query.statement.verb is Verb.SELECT for query in queries)


def test_every_annotation_is_shown() -> None:
    text = "".join(path.read_text() for path in shop.QUERIES.rglob("*.sql"))
    annotations = (
        "group", "access", "timeout", "param", "role", "cache", "max_rows", "outcome", "retry", "batch", "coalesce",
        "page", "deprecated",
    )  # fmt: skip
    assert [word for word in annotations if f"\n-- @{word}" not in text] == []
    constraints = ("minimum", "maximum", "minLength", "maxLength", "pattern", "enum")
    assert [word for word in constraints if f" {word}=" not in text] == []


def test_the_server_knows_the_types_of_all_and_every_family_is_among_them(
    cluster: Cluster, catalogue: Catalogue
) -> None:
    connection = connect(shop.dsn(cluster.primary))
    try:
        book = Book()
        signatures = {name: learn(connection, query, book, soon()) for name, query in catalogue.queries.items()}
    finally:
        connection.close()
    types = {parameter.name for each in signatures.values() for parameter in each.parameters}
    families = {parameter.family for each in signatures.values() for parameter in each.parameters}
    assert families >= set(Family) - {Family.FLOAT}
    assert types >= {
        "integer", "bigint", "smallint", "numeric", "text", "boolean", "uuid", "date", "timestamp with time zone",
        "interval", "customer_status", "bytea", "json", "jsonb", "text[]", "integer[]", "uuid[]", "numrange",
        "tstzrange", "dimensions",
    }  # fmt: skip
    assert any(column.type.family is Family.COMPOSITE for column in signatures["product"].columns)
