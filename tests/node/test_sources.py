"""What the DNS and Patroni say of who the servers are, and what of it is refused."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.node.sources import MOST, NotFound, members_of
from gateway.settings import EndpointSettings, Member


class Patroni:
    """What listens where Patroni would."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 -- the standard library's name; self is Patroni
                self.paths.append(handler.path)
                handler.send_response(self.status)
                handler.send_header("Content-Length", str(len(self.body)))
                handler.end_headers()
                handler.wfile.write(self.body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def says(self, *members: Any) -> tuple[Member, ...]:
        """What is found when it answers with these members."""
        self.body = json.dumps({"members": members, "scope": "shop"}).encode()
        return members_of(self.source())

    def source(self, *more: str) -> EndpointSettings:
        return EndpointSettings(dsn="dbname=shop", discover=(*more, self.url))


@pytest.fixture(scope="module")
def patroni() -> Iterator[Patroni]:
    made = Patroni()
    Thread(target=made.server.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def free_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def leader(name: Any = "node1", host: Any = "10.0.0.1", port: Any = 5432) -> dict[str, Any]:
    return {"name": name, "role": "leader", "state": "running", "host": host, "port": port, "timeline": 1}


def test_members_are_found_by_name_whatever_they_are_doing(patroni: Patroni) -> None:
    other = {"name": "node 2", "role": "replica", "state": "stopped", "host": "db2.internal", "port": "6432"}
    assert patroni.says(other, leader()) == (
        Member("node-2", host="db2.internal", port=6432),
        Member("node1", host="10.0.0.1", port=5432),
    )
    assert patroni.paths[-1] == "/cluster"


def test_a_member_that_does_not_say_where_it_listens_is_left_out(patroni: Patroni) -> None:
    assert len(patroni.says(leader(), {"name": "node2", "role": "replica", "state": "creating replica"})) == 1


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("10.0.0.1 sslmode=disable", 5432),
        ("10.0.0.1&sslmode=disable", 5432),
        ("", 5432),
        ("h", 0),
        ("h", 65536),
        ("h", "1 x"),
    ],
)
def test_what_is_no_host_or_port_is_never_taken_into_a_dsn(patroni: Patroni, host: str, port: Any) -> None:
    with pytest.raises(NotFound, match="the answer names no server"):
        patroni.says(leader(host=host, port=port))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "the answer names no server"),
        ([leader(), leader(host="10.0.0.2")], "the answer names two servers alike"),
        ([leader(f"n{number}") for number in range(MOST + 1)], f"more than {MOST}"),
        ([leader(name=None)], "is not that of Patroni"),
        (["node1"], "is not that of Patroni"),
    ],
)
def test_an_answer_that_cannot_be_used_is_none(patroni: Patroni, members: list[Any], message: str) -> None:
    with pytest.raises(NotFound, match=message):
        patroni.says(*members)


@given(body=st.binary(max_size=300))
def test_whatever_is_answered_is_members_or_a_sentence(patroni: Patroni, body: bytes) -> None:
    patroni.body = body
    with pytest.raises(NotFound, match="is not that of Patroni"):
        members_of(patroni.source())


def test_the_next_url_is_asked_where_one_does_not_answer(patroni: Patroni, free_url: str) -> None:
    patroni.says(leader())
    assert members_of(patroni.source(free_url)) == (Member("node1", host="10.0.0.1", port=5432),)


def test_when_no_url_answers_each_says_why(patroni: Patroni, free_url: str) -> None:
    patroni.status = 503
    try:
        with pytest.raises(NotFound) as failed:
            members_of(patroni.source(free_url))
    finally:
        patroni.status = 200
    assert str(failed.value).startswith(f"{free_url}: ConnectionRefusedError: ")
    assert str(failed.value).endswith(f"; {patroni.url}: the answer is 503")


def test_every_address_of_a_name_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["10.0.0.2", "10.0.0.1", "2001:db8::1", "10.0.0.2"]
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
    assert members_of(EndpointSettings(dsn="host=db.example", discover=("dns",))) == (
        Member("10-0-0-1", address="10.0.0.1"),
        Member("10-0-0-2", address="10.0.0.2"),
        Member("2001-db8--1", address="2001:db8::1"),
    )


def test_a_name_without_an_address_says_so() -> None:
    with pytest.raises(NotFound, match=r"^db\.invalid cannot be looked up: "):
        members_of(EndpointSettings(dsn="host=db.invalid", discover=("dns",)))
