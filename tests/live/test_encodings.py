"""Databases whose encoding is not UTF-8."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.cluster import Cluster
from gateway.errors import InvalidArguments, QueryBroken
from tests.live.databases import Desk, connect, plain

TEXT = "-- name: q$\nSELECT t FROM words WHERE i = :i"


@pytest.fixture
def desks(cluster: Cluster, tmp_path: Path) -> Iterator[dict[str, Desk]]:
    """On a database in each of two encodings."""
    made = {}
    for encoding in ("LATIN1", "SQL_ASCII"):
        name = f"live_{encoding.lower()}"
        cluster.primary.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        cluster.primary.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
        made[encoding] = Desk(connect(cluster.primary.dsn(name)), tmp_path / encoding)
        with plain(cluster.primary.dsn(name)) as cursor:
            cursor.execute("CREATE TABLE words (i int, t text)")
            cursor.execute("INSERT INTO words VALUES (1, E'gr\\xf6\\xdfer'), (2, 'plain')")
    yield made
    for encoding, desk in made.items():
        desk.connection.close()
        cluster.primary.sql(f"DROP DATABASE live_{encoding.lower()} WITH (FORCE)")


def test_what_can_be_converted_comes_as_utf_8(desks: dict[str, Desk]) -> None:
    assert desks["LATIN1"].value(TEXT, '{"i": 1}') == '"größer"'
    assert desks["LATIN1"].value("-- name: q$\nSELECT :t::text", '{"t": "größer"}') == '"größer"'


def test_a_row_that_is_no_utf_8_is_no_fault_of_the_arguments(desks: dict[str, Desk]) -> None:
    desk = desks["SQL_ASCII"]
    assert desk.value(TEXT, '{"i": 2}') == '"plain"'
    with pytest.raises(QueryBroken) as caught:
        desk.value(TEXT, '{"i": 1}')
    assert "SQL_ASCII" in caught.value.detail
    with pytest.raises(InvalidArguments):
        desk.value(TEXT, '{"i": 99999999999}')
