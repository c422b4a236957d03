"""HTTP/1.1 over sockets: keep-alive, pipelining, continue, refusals, forwarding, half-closes, TLS, unix sockets."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.live.authorities import Authority
from tests.live.workers import Node, Wire, busy_backends, get, post, serving, wait_until

CERTIFICATES = Path(__file__).parents[1] / "tls"
PROBLEM = {
    "type", "title", "status", "code", "detail", "request_id", "retryable", "outcome", "sqlstate", "step",
    "transaction", "errors",
}  # fmt: skip
SETTINGS = {
    "server": {"max_body": "100kB", "head_timeout": "500ms", "body_timeout": "500ms", "idle_timeout": "1s"},
}


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with serving(cluster, tmp_path_factory.mktemp("http"), SETTINGS) as node:
        yield node


def refused(wire: Wire) -> tuple[int, str]:
    answer = wire.answer()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    problem = answer.json()
    assert problem.keys() == PROBLEM
    assert problem["status"] == answer.status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert wire.is_closed(within=5)
    return answer.status, problem["code"]


def test_a_connection_is_used_again(node: Node) -> None:
    with node.wire() as wire:
        for number in range(3):
            assert wire.run("echo", value=str(number)).json() == {"value": str(number)}
            assert wire.get("/query/one").json() == {"row": {"one": 1}}


def test_two_thousand_requests_in_one_piece_are_answered_in_their_order(node: Node) -> None:
    requests = b"".join(b"GET /query/echo?value=%d HTTP/1.1\r\nHost:h\r\n\r\n" % number for number in range(2000))
    with node.wire() as wire:
        wire.send(requests)
        for number in range(2000):
            assert wire.answer().json() == {"value": str(number)}


def test_more_than_is_kept_behind_a_slow_request_is_answered_in_its_order(node: Node) -> None:
    value = "x" * 30_000
    with node.wire() as wire:
        wire.send(post("wait", seconds=0.3))
        for number in range(10):
            wire.send(post("echo", value=f"{number}{value}"))
        assert wire.answer().status == 200
        for number in range(10):
            assert wire.answer().json() == {"value": f"{number}{value}"}


def test_requests_pipelined_before_a_half_close_are_all_answered(node: Node) -> None:
    with node.wire() as wire:
        wire.send(get("/query/one") * 20).end()
        assert wire.rest().count(b'{"row":{"one":1}}') == 20


def test_head_is_answered_without_a_body(node: Node) -> None:
    with node.wire() as wire:
        wire.send(b"HEAD /health/live HTTP/1.1\r\nHost: h\r\n\r\n")
        wire.answer(to_head=True)
        assert wire.get("/query/one").json() == {"row": {"one": 1}}


def test_who_expects_to_be_told_is_told_to_continue(node: Node) -> None:
    head, body = post("echo", "Expect: 100-continue", value="x").split(b"\r\n\r\n")
    with node.wire() as wire:
        wire.send(head + b"\r\n\r\n")
        assert wire.answer().status == 100
        wire.send(body)
        assert wire.answer().json() == {"value": "x"}
        assert wire.run("echo", value="y").json() == {"value": "y"}


def test_a_body_that_is_too_large_is_refused_instead_of_called_for(node: Node) -> None:
    with node.wire() as wire:
        wire.send(b"POST /query/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 102401\r\nExpect: 100-continue\r\n\r\n")
        assert refused(wire) == (413, "body_too_large")


def test_a_large_body_on_its_way_is_refused_with_an_answer_that_arrives(node: Node) -> None:
    with node.wire() as wire:
        wire.send(b"POST /query/echo HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + b" " * 900_000)
        assert refused(wire) == (413, "body_too_large")


def test_a_chunked_body_is_read(node: Node) -> None:
    head = b"POST /query/echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    with node.wire() as wire:
        wire.send(head + b'8\r\n{"value"\r\n').send(b'5;x=y\r\n:"a"}\r\n0\r\nX-Sum: 1\r\n\r\n')
        assert wire.answer().json() == {"value": "a"}
        wire.send(head + b"ffff\r\n" + b" " * 0xFFFF + b"\r\nffff\r\n")
        assert refused(wire) == (413, "body_too_large")


def test_http_1_0_is_answered_and_closed_whatever_it_wishes(node: Node) -> None:
    with node.wire() as wire:
        wire.send(b"GET /query/one HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        answer = wire.answer()
        assert (answer.json(), answer.headers["connection"]) == ({"row": {"one": 1}}, "close")
        assert wire.is_closed(within=5)


def test_a_connection_that_asks_for_it_is_closed(node: Node) -> None:
    with node.wire() as wire:
        assert wire.get("/query/one", "Connection: close").headers["connection"] == "close"
        assert wire.is_closed(within=5)


def test_an_absolute_target_is_a_path(node: Node) -> None:
    with node.wire() as wire:
        assert wire.get("http://h/query/echo?value=a").json() == {"value": "a"}


def test_options_of_everything_leaves_the_connection_usable(node: Node) -> None:
    with node.wire() as wire:
        wire.send(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
        assert wire.answer().status in (200, 204, 404)
        assert wire.get("/query/one").status == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, "invalid_request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n", 417, "invalid_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "invalid_request"),
        (b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "invalid_request"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_what_is_no_request_is_refused_as_a_problem(node: Node, request_bytes: bytes, status: int, code: str) -> None:
    with node.wire() as wire:
        wire.send(request_bytes)
        assert refused(wire) == (status, code)


@pytest.mark.parametrize("beginning", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"])
def test_half_a_request_is_refused_in_time(node: Node, beginning: bytes) -> None:
    with node.wire() as wire:
        began = time.monotonic()
        wire.send(beginning)
        assert refused(wire) == (408, "request_timeout")
        assert 0.4 < time.monotonic() - began < 2


def test_a_connection_without_a_request_is_closed_in_silence(node: Node) -> None:
    with node.wire() as fresh, node.wire() as used:
        assert used.get("/query/one").status == 200
        assert fresh.is_closed(within=3)
        assert used.is_closed(within=3)


def test_a_quick_answer_reaches_who_has_stopped_sending(node: Node) -> None:
    with node.wire() as wire:
        wire.send(post("wait", seconds=0.2, mark="quick")).end()
        assert wire.answer().json() == {"value": "quick"}
        assert wire.is_closed(within=5)


def test_a_slow_read_of_who_has_stopped_sending_is_given_up(node: Node, cluster: Cluster) -> None:
    with node.wire() as wire:
        began = time.monotonic()
        wire.send(post("wait", seconds=20, mark="half-closed")).end()
        wire.rest()
        assert 0.25 < time.monotonic() - began < 5
    wait_until(lambda: not busy_backends(cluster, "half-closed"), "no backend runs for nobody", 10)


# -- TLS and unix sockets ------------------------------------------------------------------------------------------


def trusting(*, certificate: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "certificate.pem"))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(CERTIFICATES / "certificate.pem", CERTIFICATES / "key.pem")
    return context


TLS = {"certfile": str(CERTIFICATES / "certificate.pem"), "keyfile": str(CERTIFICATES / "key.pem")}


@pytest.fixture(scope="module")
def safe(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    server = {"server": {**TLS, "head_timeout": "500ms"}}
    with serving(cluster, tmp_path_factory.mktemp("tls"), server, context=trusting()) as node:
        yield node


def test_tls_carries_big_answers_and_pipelines(safe: Node) -> None:
    with safe.wire() as wire:
        wire.send(get("/query/big?bytes=8000000") + get("/query/one") * 50 + get("/query/big?bytes=3000000"))
        assert len(wire.answer().body) == 8_000_012
        assert [wire.answer().status for _ in range(50)] == [200] * 50
        assert len(wire.answer().body) == 3_000_012
        assert wire.run("echo", value="y" * 500_000).json() == {"value": "y" * 500_000}


def test_tls_ends_with_a_goodbye(safe: Node) -> None:
    with safe.wire() as wire:
        wire.sock.suppress_ragged_eofs = False  # type: ignore[attr-defined]  # it is an SSLSocket
        assert wire.get("/query/one", "Connection: close").status == 200
        assert wire.sock.recv(1) == b""  # else SSLEOFError


def test_half_a_handshake_and_no_handshake_hold_nothing(safe: Node) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = trusting().wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    greeting = outgoing.read()
    with safe.connect() as half, safe.connect() as silent, safe.connect() as plain:
        half.sendall(greeting[:50])
        plain.sendall(get("/query/one"))
        assert Wire(plain).is_closed(within=2) or plain.recv(100).startswith(b"\x15")
        assert safe.get("/query/one").status == 200
        assert Wire(half).is_closed(within=2)
        assert Wire(silent).is_closed(within=2)


def test_operators_are_answered_without_tls(cluster: Cluster, tmp_path: Path) -> None:
    admin = f"127.0.0.1:{find_port()}"
    server = {"server": {**TLS, "client_ca": str(CERTIFICATES / "certificate.pem"), "admin_bind": admin}}
    with serving(cluster, tmp_path, server, context=trusting(certificate=True)) as node:
        there = Node(node.program, address=admin, log=Path(), context=None)
        assert there.get("/health/live").status == 200
        with pytest.raises((EOFError, ConnectionError)), Wire(node.connect()) as wire:
            wire.get("/health/live")


def test_clients_show_a_certificate_where_they_must(cluster: Cluster, tmp_path: Path) -> None:
    server = {"server": {**TLS, "client_ca": str(CERTIFICATES / "certificate.pem")}}
    with serving(cluster, tmp_path, server, context=trusting(certificate=True)) as node:
        assert node.get("/query/one").status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)), node.wire(trusting()) as wire:
            wire.get("/query/one")


def test_a_unix_socket_serves(cluster: Cluster, tmp_path: Path) -> None:
    with serving(cluster, tmp_path, address=f"unix:{tmp_path}/s") as node:
        assert node.run("echo", value="u").json() == {"value": "u"}
        with node.wire() as wire:
            wire.send(post("wait", seconds=0.2)).end()
            assert wire.answer().status == 200


def test_several_addresses_are_served_at_once(cluster: Cluster, tmp_path: Path) -> None:
    other = find_port()
    address = f"127.0.0.1:{find_port()}"
    with serving(cluster, tmp_path, {"server": {"bind": [address, f"127.0.0.1:{other}"]}}, address=address) as node:
        assert node.get("/query/one").status == 200
        with Wire(socket.create_connection(("127.0.0.1", other), timeout=5)) as wire:
            assert wire.get("/query/one").status == 200


def test_a_hundred_half_done_handshakes_hold_up_nobody(cluster: Cluster, tmp_path: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing).do_handshake()
    greeting = outgoing.read()
    settings = {"server": {**TLS, "head_timeout": "1m"}}
    with serving(cluster, tmp_path, settings, context=trusting()) as node, ExitStack() as stack:
        halves = [stack.enter_context(node.connect()) for _ in range(100)]
        for number, half in enumerate(halves):
            # Some send nothing, some a part of their greeting, some leave the server's answer to it unanswered.
            half.sendall(greeting[: number % 3 * len(greeting) // 2])
        assert node.get("/query/one").status == 200
        assert not any(Wire(half).is_closed(within=0.001) for half in halves[::3])


@pytest.mark.parametrize("worker", ["gateway", "gthread"])
def test_a_renewed_certificate_is_shown_without_a_restart(cluster: Cluster, tmp_path: Path, worker: str) -> None:
    authority = Authority(tmp_path)
    certificate, key = tmp_path / "shown.pem", tmp_path / "shown.key"
    authority.issue("first.example").copy_to(certificate, key)
    server = {"server": {"certfile": str(certificate), "keyfile": str(key), "worker": worker}}
    context = ssl.create_default_context(cafile=str(authority.roots))
    context.check_hostname = False

    def shown(node: Node) -> str:
        with node.wire() as wire:
            assert wire.get("/query/one").status == 200
            (_, name), *_ = wire.sock.getpeercert()["subjectAltName"]  # type: ignore[attr-defined]  # an SSLSocket
            return str(name)

    with serving(cluster, tmp_path / "node", server, context=context) as node, node.wire() as kept:
        assert kept.get("/query/one").status == 200
        assert shown(node) == "first.example"
        authority.issue("second.example").copy_to(certificate, key)
        wait_until(lambda: shown(node) == "second.example", "the new certificate is shown")
        assert kept.get("/query/one").status == 200
