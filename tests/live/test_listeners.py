"""Who may come in where: the files of unix sockets, and the listener for operators."""

import grp
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.demo.ports import find_port
from tests.live import strange
from tests.live.workers import Node, Wire

WORKERS = ["gateway", "gthread", "sync"]


def ask(node: Node, address: str) -> bytes:
    """Whether it is an operator's, as the application sees a request that comes over this address."""
    there = Node(node.program, address=address, log=Path(), context=None)
    return there.get("/operator").body


def mode_of(file: Path) -> int:
    return file.stat().st_mode & 0o7777


@pytest.mark.parametrize(("umask", "mode"), [(0o000, None), (0o177, None), (0o022, "600"), (0o077, "0666")])
def test_the_file_of_a_unix_socket_has_its_mode_whatever_the_umask(
    tmp_path: Path, umask: int, mode: str | None
) -> None:
    path = tmp_path / "s"
    more: dict[str, Any] = {} if mode is None else {"socket_mode": mode}
    bind = [f"127.0.0.1:{find_port()}", f"unix:{path}"]
    with strange.serving(tmp_path, umask=umask, bind=bind, **more) as node:
        assert mode_of(path) == int(mode or "660", 8)
        assert mode_of(tmp_path / "admin.sock") == 0o600
        assert ask(node, bind[1]) == b"None"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to any group")
@pytest.mark.parametrize("by_name", [True, False])
def test_the_file_of_a_unix_socket_can_be_given_to_a_group(tmp_path: Path, by_name: bool) -> None:
    group = next(group for group in grp.getgrall() if group.gr_gid != os.getegid())
    path = tmp_path / "s"
    bind = [f"127.0.0.1:{find_port()}", f"unix:{path}"]
    given = group.gr_name if by_name else str(group.gr_gid)
    with strange.serving(tmp_path, bind=bind, socket_group=given):
        assert (path.stat().st_gid, mode_of(path)) == (group.gr_gid, 0o660)
        assert (tmp_path / "admin.sock").stat().st_gid == os.getegid()


@pytest.mark.parametrize("worker", WORKERS)
def test_only_what_comes_over_the_operators_listener_is_an_operators(tmp_path: Path, worker: str) -> None:
    with strange.serving(tmp_path, worker=worker) as node:
        assert ask(node, node.address) == b"None"
        assert ask(node, f"unix:{tmp_path / 'admin.sock'}") == b"True"
        with node.wire() as wire:
            assert wire.get("/operator", "gateway.admin: True", "Gateway-Admin: True").body == b"None"


@pytest.mark.parametrize("worker", WORKERS)
def test_operators_may_have_an_address_of_their_own(tmp_path: Path, worker: str) -> None:
    admin = f"127.0.0.1:{find_port()}"
    with strange.serving(tmp_path, worker=worker, admin_bind=admin, workers=2) as node:
        assert ask(node, node.address) == b"None"
        assert ask(node, admin) == b"True"
        assert not (tmp_path / "admin.sock").exists()


def test_with_a_shared_port_operators_still_reach_their_own_node(tmp_path: Path) -> None:
    with (
        strange.serving(tmp_path / "one", reuse_port=True) as one,
        strange.serving(tmp_path / "two", reuse_port=True) as two,
    ):
        for node, folder in ((one, "one"), (two, "two")):
            there = Node(node.program, address=f"unix:{tmp_path / folder / 'admin.sock'}", log=Path(), context=None)
            assert int(there.get("/worker").body) in node.workers()


def test_a_node_that_ends_removes_its_sockets_and_nobody_elses(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with strange.serving(tmp_path, bind=[f"127.0.0.1:{find_port()}", f"unix:{path}"]) as node:
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen()
            node.signal(signal.SIGTERM)
            assert node.program.wait(10) == 0
            assert path.exists()
        assert not (tmp_path / "admin.sock").exists()


def test_a_socket_that_is_listened_on_is_not_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        node = strange.start(tmp_path, bind=[f"unix:{path}"])
        assert node.program.wait(10) == 1
        assert "another server is listening there" in node.log
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        node.close()


def test_operators_are_let_in_while_clients_are_refused(tmp_path: Path) -> None:
    """Descriptors are kept back: clients beyond what is left are answered with 503, and the log says so once."""
    with strange.serving(tmp_path, descriptors=120) as node:
        held = [node.wire() for _ in range(20)]
        answers = [wire.get("/small").status for wire in held]
        more = [node.wire() for _ in range(100)]
        refused = 0
        for wire in more:
            refused += _is_refused(wire)
        assert answers == [200] * 20
        assert refused > 50
        assert held[0].get("/small").status == 200
        assert ask(node, f"unix:{tmp_path / 'admin.sock'}") == b"True"
        assert node.log.count("cannot accept connections") == 1
        for wire in [*held, *more]:
            wire.sock.close()


def _is_refused(wire: Wire) -> bool:
    try:
        answer = wire.get("/small")
    except (ConnectionError, EOFError):
        return True
    assert answer.status in (200, 503)
    if answer.status == 503:
        assert answer.json()["code"] == "overloaded"
        assert answer.headers["retry-after"] == "1"
    return answer.status == 503
