"""The other kinds of workers read bodies of records as they arrive too."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres import idempotency
from tests.live.gateways import Gateway, problem, serving_queries
from tests.live.loading import QUERIES, SETTINGS, TABLES, head, items, lines, send


@pytest.fixture(scope="module")
def loaded(cluster: Cluster) -> Iterator[Cluster]:
    cluster.primary.sql(TABLES, shop.DATABASE)
    cluster.primary.sql(idempotency.DDL, shop.DATABASE)
    cluster.primary.sql(f"GRANT ALL ON {idempotency.TABLE} TO gateway", shop.DATABASE)
    yield cluster
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA bulk CASCADE", shop.DATABASE)


@pytest.fixture(params=["gthread", "sync"])
def plain_node(request: pytest.FixtureRequest, loaded: Cluster, tmp_path: Any) -> Iterator[Gateway]:
    loaded.primary.sql("TRUNCATE bulk.items, bulk.ruled", shop.DATABASE)
    settings = SETTINGS | {"server": SETTINGS["server"] | {"worker": request.param}}
    with serving_queries(QUERIES, loaded, tmp_path, settings) as node:
        yield node


class TestOtherWorkers:
    def test_they_read_it_as_it_arrives_too(self, plain_node: Gateway, loaded: Cluster) -> None:
        assert send(plain_node, "add", lines(range(100, 3000))).json()["affected"] == 2900
        assert problem(send(plain_node, "add", lines([1, 1])), 409, "conflict")["step"] == 1
        body = lines(range(5000, 9000)).encode()
        with plain_node.connect() as client:
            client.sendall(head(len(body)) + body[:-1000])
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
        assert len(items(loaded)) == 2900
        assert json.loads(send(plain_node, "add", iter([b'{"id": 1}\n'])).text)["affected"] == 1
