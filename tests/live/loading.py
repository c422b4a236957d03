"""Bodies of records for tables that take them."""

from collections.abc import Iterable
from typing import Any

import httpx

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway

TABLES = """
DROP SCHEMA IF EXISTS bulk CASCADE;
CREATE SCHEMA bulk;
CREATE TABLE bulk.items (id int PRIMARY KEY CHECK (id <> 13), word text, at timestamptz, tags text[], doc jsonb);
CREATE TABLE bulk.ruled (id int);
CREATE RULE also AS ON INSERT TO bulk.ruled DO ALSO INSERT INTO bulk.items (id) VALUES (NEW.id);
GRANT USAGE ON SCHEMA bulk TO gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON bulk.items, bulk.ruled TO gateway;
"""
QUERIES = """
-- name: add(id, word)!
-- @param word = null
INSERT INTO bulk.items (id, word) VALUES (:id, :word);

-- name: add_one(id)^
INSERT INTO bulk.items (id) VALUES (:id) RETURNING id;

-- name: add_all(id, word, at, tags, doc)!
INSERT INTO bulk.items VALUES (:id, :word, :at, :tags, :doc);

-- name: add_ruled(id)!
INSERT INTO bulk.ruled VALUES (:id);

-- name: change(id, word)!
UPDATE bulk.items SET word = :word WHERE id <= :id;

-- name: add_in_time(id)!
-- @timeout 1s
INSERT INTO bulk.items (id) VALUES (:id);

-- name: items()
SELECT * FROM bulk.items ORDER BY id;

-- name: note(word)!
UPDATE bulk.items SET word = :word;
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"body_timeout": "2s", "max_body": "64kB", "max_bulk": "200MB", "max_bulk_rows": 2_000_000},
    "groups.read": {"access": "read", "size": 4},
    "groups.write": {"access": "write", "size": 4},
}
NDJSON = "application/x-ndjson"


def send(
    node: Gateway, query: str, body: str | bytes | Iterable[bytes], media: str = NDJSON, **headers: str
) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body.encode() if isinstance(body, str) else body
    return node.client.post(f"/query/{query}", content=content, headers={"Content-Type": media, **named})


def head(length: int, query: str = "add", *, expect: bool = False) -> bytes:
    """The head of a request with a body of NDJSON."""
    more = "Expect: 100-continue\r\n" if expect else ""
    return (
        f"POST /query/{query} HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\nContent-Length: {length}\r\n{more}\r\n"
    ).encode()


def lines(ids: Iterable[int]) -> str:
    return "".join(f'{{"id": {i}, "word": "w{i}"}}\n' for i in ids)


def items(cluster: Cluster) -> list[int]:
    return [int(line) for line in cluster.primary.sql("SELECT id FROM bulk.items ORDER BY id", shop.DATABASE).split()]
