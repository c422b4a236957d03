"""Commands for a running node: how it is found, and what it is told."""

import socket
from pathlib import Path

import pytest

from gateway.server.registry import NodeNotFound, find
from tests.cli.starting import Serve, gateway, write_project


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_running_node_is_found_by_its_settings_file(serve: Serve, folder: Path, worker: str) -> None:
    write_project(f'[server]\nworker = "{worker}"\n')
    logins = folder / "logins"
    logins.mkdir()
    served = serve("--workers", "1", XDG_RUNTIME_DIR=str(logins))
    node = find(Path("gateway.toml"), folders=[logins])
    assert (node.pid, node.config) == (served.process.pid, str(folder / "gateway.toml"))
    with socket.socket(socket.AF_UNIX) as operator:
        operator.settimeout(10)
        operator.connect(node.admin.removeprefix("unix:"))
        operator.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert operator.recv(100).startswith(b"HTTP/1.1 200 ")
    served.stop()
    with pytest.raises(NodeNotFound):
        find(Path("gateway.toml"), folders=[logins])
    assert list(logins.iterdir()) == []


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_running_node_is_found_and_does_what_it_is_told(worker: str, serve: Serve) -> None:
    write_project(f'[server]\nworker = "{worker}"\n[groups.read]\n')
    served = serve("--workers", "1", GATEWAY_SERVER__RUNTIME_DIR="run")
    pid = ("--pid", str(served.process.pid))
    for which in (pid, ("-c", "gateway.toml"), ("-c", "gateway.toml", *pid)):
        drained = gateway("drain", "primary", *which)
        assert (drained.exit_code, drained.output) == (
            0,
            "primary is drained: no request is at work on it, and none will be\n",
        )
        resumed = gateway("resume", "primary", *which)
        assert (resumed.exit_code, resumed.output) == (0, "primary may have work as soon as it is found fit\n")
    late = gateway("resume", "primary", "--wait", "50ms", *pid)
    assert (late.exit_code, late.output) == (
        3,
        "primary may have work, but after 0.05 s it is out of the rotation: refused\n",
    )
    unknown = gateway("drain", "replica9", *pid)
    assert (unknown.exit_code, unknown.output) == (1, "there is no endpoint replica9\n")
    too_long = gateway("drain", "primary", "--wait", "2h", *pid)
    assert too_long.exit_code == 1
    assert "wait must be at most" in too_long.output
    unlearnt = gateway("learn", "--wait", "50ms", *pid)
    assert unlearnt.exit_code == 3
    assert "may still act on what was learnt before" in unlearnt.output
    listed = gateway("requests", *pid)
    assert (listed.exit_code, listed.output.split()) == (
        0,
        ["AGE", "STATE", "QUERY", "ENDPOINT", "CALLER", "WORKER", "ID"],
    )
    absent = gateway("requests", "--end", "a/b", *pid)
    assert (absent.exit_code, absent.output) == (1, "Not found\n")
    absent = gateway("requests", "--end", "ab", *pid)
    assert (absent.exit_code, absent.output) == (1, "no request with this id is in flight\n")
    told = gateway("log", "debug", *pid)
    assert (told.exit_code, told.output) == (0, "what is less urgent than debug is not logged\n")
    unknown = gateway("explain", "nothing", *pid)
    assert unknown.exit_code == 1
    assert "the catalogue has no query of this name" in unknown.output
    assert gateway("explain", "hello", "name", *pid).exit_code == 2
    strange = gateway("drain", "a/b?wait=1h#c", *pid)
    assert (strange.exit_code, strange.output) == (1, "Not found\n")
