"""Clients that hang up or fall silent: their reads end on the server, their writes do not, and nobody else notices."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import QUERIES, Gateway, running_marked, serving, wait_until, with_tables

WORKERS = ["gateway", "gthread", "sync"]


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Iterator[Cluster]:
    with with_tables(cluster):
        yield cluster


@pytest.fixture(scope="module", params=WORKERS)
def running(
    whole: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with serving(
        whole, tmp_path_factory.mktemp(request.param), {"server": {"worker": request.param}}, paths=[QUERIES]
    ) as running:
        yield running


@pytest.mark.parametrize("manner", ["close", "reset"])
def test_when_the_client_hangs_up_its_read_ends_on_the_server(manner: str, running: Gateway, whole: Cluster) -> None:
    mark = uuid4().hex
    connection = running.connect()
    connection.sendall(f"GET /query/marked_nap?mark={mark}&seconds=30 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    wait_until(lambda: any(running_marked(each, mark) for each in whole.replicas), "it runs")
    if manner == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    took = wait_until(lambda: not any(running_marked(each, mark) for each in whole.replicas), "it has ended")
    assert took < 5
    assert running.value("echo_int4", x=1) == 1
    wait_until(lambda: running.health()["groups"]["read"]["leased"] == 0, "no lease is out")


def test_when_the_client_hangs_up_its_write_runs_to_its_end(running: Gateway, whole: Cluster) -> None:
    name = uuid4().hex
    running.run("add_thing", name=name, size=1)
    body = json.dumps({"name": name, "seconds": 0.6}).encode()
    with running.connect() as connection:
        connection.sendall(
            b"POST /query/slow_rename HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        wait_until(lambda: running_marked(whole.primary, name), "it runs")
    wait_until(lambda: not running_marked(whole.primary, name), "it has ended")
    size = whole.primary.sql(f"SELECT size FROM suite.things WHERE name = '{name}'", shop.DATABASE)
    assert size.strip() == "2"


def test_a_client_that_stops_sending_is_told_so_and_holds_no_thread_for_ever(whole: Cluster, tmp_path: Path) -> None:
    head = b"POST /query/series HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    with serving(whole, tmp_path, {"server": {"threads": 4, "body_timeout": "1s"}}, paths=[QUERIES]) as running:
        silent = [running.connect() for _ in range(4)]
        try:
            for connection in silent:
                connection.sendall(head)
            began = time.monotonic()
            assert running.run("series").status_code == 200  # as soon as a thread is free again
            assert time.monotonic() - began < 4
            answer = silent[0].recv(65536)
        finally:
            for connection in silent:
                connection.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
