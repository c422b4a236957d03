"""However a command is cut short it ends with a sentence: its reader goes, a disk is full, Ctrl-C, a server leaves."""

import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from gateway.cli import main

URL = "URL"
"""Stands for the address of a gateway."""
ANSWERS = {
    "/admin/endpoints/a/drain": {"state": "drained"},
    "/admin/endpoints/a/resume": {"state": "in_rotation"},
    "/admin/learn": {"queries": 1, "faulty": []},
    "/admin/reload": {"queries": 1, "hash": "0"},
    "/admin/requests": {"requests": []},
    "/admin/explain/q": {"plan": []},
    "/admin/log": {"level": "debug"},
    "/health": {"status": "ok"},
    "/queries": {"queries": []},
    "/queries/q": {"access": "write", "parameters": []},
    "/query/q": {"affected": 1, "outcome": "committed"},
}
OF_A_NODE = {
    "drain": ["a", "--url", URL],
    "resume": ["a", "--url", URL],
    "learn": ["--url", URL],
    "reload": ["--url", URL],
    "requests": ["--url", URL],
    "explain": ["q", "--url", URL],
    "log": ["debug", "--url", URL],
    "status": ["--url", URL],
    "queries": ["--url", URL],
    "call": ["q", "--url", URL],
}
OF_FILES = {
    "serve": ["--help"],
    "demo": ["--help"],
    "check": ["--offline"],
    "init": ["new"],
    "init-db": ["--print"],
    "key": ["list"],
    "openapi": ["--help"],
    "plan": ["--offline"],
    "recompile": ["."],
    "test": ["--help"],
}
OF_SERVERS: dict[str, list[str]] = {"check": [], "init-db": [], "openapi": [], "plan": [], "test": []}


class Node(ThreadingHTTPServer):
    """Answers what a gateway does, or breaks off in the middle of it."""

    breaks_off = False


class Answering(BaseHTTPRequestHandler):
    server: Node

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = orjson.dumps(ANSWERS[self.path.partition("?")[0]])
        breaks_off = self.server.breaks_off and not self.path.startswith("/queries/")
        self.send_response(503 if breaks_off else 200)
        self.send_header("Content-Length", str(len(body) + 1000 * breaks_off))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815 -- the name is http.server's

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose one server is nowhere, as the folder that commands are run in."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    write(tmp_path, port=1)
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "one.sql").write_text("-- name: one$\nSELECT 1;\n")
    (tmp_path / "queries" / "one.test.toml").write_text('[[test]]\nquery = "one"\nexpect = { value = 1 }\n')
    (tmp_path / "keys.toml").touch(0o600)
    return tmp_path


def write(folder: Path, *, port: int) -> None:
    dsn = f"host=127.0.0.1 port={port} dbname=shop user=gateway"
    auth = '[auth]\nmode = "keys"\nkeys_file = "keys.toml"\n'
    (folder / "gateway.toml").write_text(f'{auth}[endpoints.primary]\ndsn = "{dsn}"\n')


class Started:
    """A command in a process of its own, forked from this one, which has loaded all that it needs."""

    def __init__(self, *arguments: str, output: int) -> None:
        self._told = os.memfd_create("stderr")
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, output)

    def _become(self, arguments: tuple[str, ...], output: int) -> None:
        status: object = 70
        try:
            os.dup2(output, 1)
            os.dup2(self._told, 2)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 -- for good
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                main.main(list(arguments), prog_name="gateway")
            except SystemExit as end:
                status = end.code or 0
            sys.stdout.flush()  # as Python does when it ends
        except BaseException:  # noqa: BLE001 -- whatever Python would print
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status if isinstance(status, int) else 1)

    def end(self) -> tuple[int, str]:
        """Wait for its end: its status, and what it wrote to standard error."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with open(self._told, "rb") as told:  # noqa: PTH123 -- a descriptor
            told.seek(0)
            return status, told.read().decode()


def at(node: Node, arguments: list[str]) -> list[str]:
    url = f"http://127.0.0.1:{node.server_address[1]}"
    return [url if each == URL else each for each in arguments]


def test_every_command_is_tried_here() -> None:
    assert {*OF_A_NODE, *OF_FILES} == set(main.commands)


@pytest.mark.parametrize(("command", "arguments"), [*OF_A_NODE.items(), *OF_FILES.items()])
def test_a_disk_that_is_full_is_a_sentence(command: str, arguments: list[str], node: Node) -> None:
    node.breaks_off = False
    with open("/dev/full", "wb") as full:  # noqa: PTH123 -- a device
        status, told = Started(command, *at(node, arguments), output=full.fileno()).end()
    assert status == 1
    assert told.endswith("the command cannot go on: No space left on device\n")
    assert "Traceback" not in told


@pytest.mark.parametrize(("command", "arguments"), [*OF_A_NODE.items(), *OF_FILES.items()])
def test_a_reader_that_is_gone_ends_a_command_without_a_word(command: str, arguments: list[str], node: Node) -> None:
    node.breaks_off = False
    reader, writer = os.pipe()
    os.close(reader)
    started = Started(command, *at(node, arguments), output=writer)
    os.close(writer)
    assert started.end() == (1, "")


@pytest.mark.parametrize(("command", "arguments"), OF_A_NODE.items())
def test_a_node_that_leaves_in_the_middle_of_its_answer_is_a_sentence(
    command: str, arguments: list[str], node: Node
) -> None:
    node.breaks_off = True
    status, told = Started(command, *at(node, arguments), output=os.memfd_create("stdout")).end()
    assert status == (3 if command == "call" else 1)  # what became of the write is not known
    assert told
    assert "Traceback" not in told


@pytest.mark.parametrize(("command", "arguments"), OF_SERVERS.items())
def test_ctrl_c_ends_a_command_that_waits_for_a_server(command: str, arguments: list[str], project: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write(project, port=silent.getsockname()[1])
        silent.settimeout(20)
        started = Started(command, *arguments, output=os.memfd_create("stdout"))
        with silent.accept()[0]:
            os.kill(started.pid, signal.SIGINT)
            status, told = started.end()
    assert (status, told.splitlines()[-1]) == (1, "Aborted!")
    assert "Traceback" not in told


@pytest.mark.parametrize(("command", "arguments"), OF_SERVERS.items())
def test_a_server_that_leaves_while_it_is_asked_is_a_sentence(
    command: str, arguments: list[str], project: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as leaving:
        leaving.settimeout(20)
        write(project, port=leaving.getsockname()[1])
        started = Started(command, *arguments, output=os.memfd_create("stdout"))
        leaving.accept()[0].close()
    status, told = started.end()
    assert "primary" in told
    assert "Traceback" not in told
    assert status == (0 if command == "plan" else 1)  # which goes on without what the server says


@pytest.mark.parametrize(
    "command",
    [("key", "new", "ann"), ("init", "gateway.toml/below")],
)
def test_what_cannot_be_written_is_named(command: tuple[str, ...], project: Path) -> None:
    (project / "keys.toml").unlink()
    (project / "keys.toml").mkdir()
    status, told = Started(*command, output=os.memfd_create("stdout")).end()
    assert "Traceback" not in told
    assert (status, ".toml" in told) == (1, True)
