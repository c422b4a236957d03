"""Addresses that cannot be listened on are named before anything starts."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo.ports import find_port
from gateway.server.listening import faults_of


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", find_port())) as server:
        yield server.getsockname()[1]


def test_a_busy_port_is_named(busy_port: int) -> None:
    (fault,) = faults_of([f"127.0.0.1:{busy_port}"])
    assert fault.where == f"server.bind 127.0.0.1:{busy_port}"
    assert fault.message == "the address is in use; is another server, or another gateway, running there?"


def test_every_address_that_is_not_to_be_had_is_named(busy_port: int, tmp_path: Path) -> None:
    binds = [
        f"127.0.0.1:{busy_port}",
        "192.0.2.1:1",
        "no-such-host.invalid:1",
        f"unix:{tmp_path}/none/x",
        "127.0.0.1:0",
    ]
    assert [fault.where for fault in faults_of(binds)] == [f"server.bind {bind}" for bind in binds[:-1]]


def test_a_free_port_is_left_free(busy_port: int) -> None:
    with socket.create_server(("127.0.0.1", find_port())) as server:
        free = server.getsockname()[1]
    assert not list(faults_of([f"127.0.0.1:{free}"]))
    with socket.create_server(("127.0.0.1", free)):
        assert list(faults_of([f"127.0.0.1:{free}"]))
    assert free != busy_port


def test_a_port_whose_server_has_just_ended_is_free() -> None:
    with socket.create_server(("127.0.0.1", find_port())) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # leaves TIME_WAIT on the server's side
    assert not list(faults_of([f"127.0.0.1:{port}"]))


def test_the_socket_of_a_living_server_is_busy_and_a_left_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert [fault.message for fault in faults_of([f"unix:{path}"])] == ["another server is listening there"]
    assert path.exists()
    assert not list(faults_of([f"unix:{path}"]))


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert "is no socket" in next(iter(faults_of([f"unix:{tmp_path / 'x'}"]))).message


def test_an_ipv6_address_is_looked_at_as_one() -> None:
    with socket.socket(socket.AF_INET6) as server:
        try:
            server.bind(("::1", find_port()))
        except OSError:
            assert list(faults_of([f"[::1]:{find_port()}"]))  # a machine without IPv6
            return
        server.listen()
        port = server.getsockname()[1]
        assert list(faults_of([f"[::1]:{port}"]))
