"""Starts a node of event-loop workers over one PostgreSQL server, and speaks to it byte by byte."""

import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import gateway
from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port

PATIENCE = 60.0
"""Seconds for what takes no time worth mentioning where nothing else runs."""
_LOOK_EVERY = 0.01
_PACKAGE = Path(gateway.__file__).parents[1]
_TABLE = "CREATE TABLE IF NOT EXISTS worker_notes (note text PRIMARY KEY)"
_QUERIES = """
-- name: one^
SELECT 1 AS one;

-- name: echo(value)$
-- @param value text
SELECT :value;

-- name: wait(seconds, mark)$
-- @timeout 30s
-- @param seconds float8
-- @param mark text = ""
SELECT :mark FROM pg_sleep(:seconds);

-- name: wait_for_lock(key)$
-- @timeout 60s
-- @param key int8
SELECT 1 FROM pg_advisory_xact_lock_shared(:key);

-- name: moment$
SELECT extract(epoch FROM clock_timestamp());

-- name: hurry(seconds)$
-- @timeout 500ms
-- @param seconds float8
SELECT 1 FROM pg_sleep(:seconds);

-- name: big(bytes)$
-- @param bytes int4
SELECT repeat('x', :bytes);

-- name: note(note)!
-- @param note text
INSERT INTO worker_notes VALUES (:note);

-- name: note_slowly(note, seconds)!
-- @timeout 10s
-- @param note text
-- @param seconds float8
INSERT INTO worker_notes SELECT :note FROM pg_sleep(:seconds);
"""


class Answer(NamedTuple):
    """What came back, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class Wire:
    """A client's connection that sends what it is told and reads answers one by one."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.sock.close()

    def send(self, data: bytes) -> Self:
        """Send all of it."""
        self.sock.sendall(data)
        return self

    def answer(self, *, to_head: bool = False) -> Answer:
        """The next answer; ``to_head``: it has no body. Raises EOFError when the connection ends before it does."""
        head = self._until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        if to_head or status in (100, 204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(self._chunks()))
        return Answer(status, headers, self._exactly(int(headers["content-length"])))

    def get(self, target: str, *headers: str) -> Answer:
        """Send a GET and read its answer."""
        return self.send(get(target, *headers)).answer()

    def run(self, query: str, *headers: str, **arguments: Any) -> Answer:
        """Send a POST to a query and read its answer."""
        return self.send(post(query, *headers, **arguments)).answer()

    def end(self) -> Self:
        """Say that nothing more comes; answers can still be read."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Close so that the other side sees RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def rest(self) -> bytes:
        """Everything until the other side closes."""
        pieces = [self.buffer]
        while piece := self.sock.recv(65536):
            pieces.append(piece)
        self.buffer = b""
        return b"".join(pieces)

    def is_closed(self, within: float) -> bool:
        """Whether the other side closes within so many seconds, saying nothing more."""
        self.sock.settimeout(within)
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.sock.settimeout(PATIENCE)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._until(b"\r\n"), 16):
            yield self._exactly(size + 2)[:-2]
        self._until(b"\r\n")

    def _until(self, end: bytes) -> bytes:
        while end not in self.buffer:
            self._more()
        found, _, self.buffer = self.buffer.partition(end)
        return found + end

    def _exactly(self, size: int) -> bytes:
        pieces = [self.buffer]
        missing = size - len(self.buffer)
        while missing > 0:
            self.buffer = b""
            self._more()
            pieces.append(self.buffer)
            missing -= len(self.buffer)
        whole = b"".join(pieces)
        self.buffer = whole[size:]
        return whole[:size]

    def _more(self) -> None:
        piece = self.sock.recv(262144)
        if not piece:
            raise EOFError(f"the connection ended after {self.buffer[:200]!r}")
        self.buffer += piece


class Node:
    """A running gateway."""

    def __init__(self, program: "subprocess.Popen[bytes]", *, address: str, log: Path, context: ssl.SSLContext | None):
        self.program = program
        self.address = address
        self._log = log
        self._context = context

    @property
    def log(self) -> str:
        """Everything it has said until now."""
        return self._log.read_text(errors="replace")

    def connect(self, timeout: float = PATIENCE) -> socket.socket:
        """A bare connection, without TLS even where it is spoken."""
        if self.address.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(self.address.removeprefix("unix:"))
            except OSError:
                sock.close()
                raise
            return sock
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host, int(port)), timeout=timeout)

    def wire(self, context: ssl.SSLContext | None = None) -> Wire:
        """A connection as a client makes it."""
        context = context or self._context
        sock = self.connect()
        try:
            return Wire(sock if context is None else context.wrap_socket(sock, server_hostname="localhost"))
        except OSError:
            sock.close()
            raise

    def get(self, target: str) -> Answer:
        """GET over a connection of its own."""
        with self.wire() as wire:
            return wire.get(target)

    def run(self, query: str, *headers: str, **arguments: Any) -> Answer:
        """POST to a query over a connection of its own."""
        with self.wire() as wire:
            return wire.run(query, *headers, **arguments)

    def group(self, name: str = "read") -> dict[str, Any]:
        """What /health says of a group."""
        found: dict[str, Any] = self.get("/health").json()["groups"][name]
        return found

    def workers(self) -> list[int]:
        """The worker processes."""
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def is_ready(self) -> bool:
        """Whether it says that it can serve."""
        try:
            return self.get("/health/ready").status == 200
        except (OSError, EOFError):
            return False

    def wait_until_ready(self, workers: int) -> None:
        """Wait until this many workers can serve."""

        def ready() -> bool:
            assert self.program.poll() is None, f"ended with {self.program.returncode}:\n{tail(self._log)}"
            return self.is_ready()

        wait_until(ready, "ready")
        seen: set[str] = set()

        def heard() -> bool:
            with suppress(OSError, EOFError), self.wire() as wire:
                if (answer := wire.get("/health/ready")).status == 200:
                    seen.add(answer.headers["x-request-id"].partition("-")[0])  # each has a name of its own in there
            return len(seen) >= workers

        wait_until(heard, "every worker ready")

    def signal(self, what: signal.Signals) -> None:
        """Send a signal to the master."""
        self.program.send_signal(what)

    def end(self) -> int:
        """SIGTERM, and its exit status."""
        self.program.terminate()
        return self.program.wait(PATIENCE)

    def close(self) -> None:
        """End it and all that is its own, gently if it can be."""
        with suppress(subprocess.TimeoutExpired):
            self.program.send_signal(signal.SIGQUIT)
            self.program.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self.program.pid, signal.SIGKILL)


def get(target: str, *headers: str) -> bytes:
    """The bytes of a GET."""
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def post(query: str, *headers: str, **arguments: Any) -> bytes:
    """The bytes of a POST to a query."""
    body = json.dumps(arguments)
    lines = [f"POST /query/{query} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", *headers, "", body]).encode()


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> float:
    """Look again and again until the condition holds; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"not within {timeout:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return time.monotonic() - began


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would set up the gateway or libpq otherwise."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PG"))}
    ours.pop("DATABASE_URL", None)
    return {**ours, "PYTHONPATH": str(_PACKAGE), **more}


def configure(
    cluster: Cluster,
    folder: Path,
    address: str,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    dsn: str | None = None,
) -> list[str]:
    """Write settings and queries into the folder; the command that serves them."""
    cluster.primary.sql(_TABLE)
    folder.mkdir(exist_ok=True)
    queries = folder / "queries"
    queries.mkdir(exist_ok=True)
    (queries / "queries.sql").write_text(_QUERIES)
    more = dict(settings or {})
    server = {"bind": address, "workers": 1, "runtime_dir": str(folder / "runtime"), "allowed_hosts": ["h"]}
    sections: dict[str, Mapping[str, Any]] = {
        "server": {**server, **more.pop("server", {})},
        "catalogue": {"paths": [str(queries)]},
        "endpoints.primary": {"dsn": dsn or cluster.primary.dsn()},
        **more,
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    file = folder / "gateway.toml"
    file.write_text("\n".join(lines) + "\n")
    return [sys.executable, "-m", "gateway", "serve", "-c", str(file)]


@contextmanager
def serving(
    cluster: Cluster,
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    address: str | None = None,
    context: ssl.SSLContext | None = None,
    options: Sequence[str] = (),
    dsn: str | None = None,
) -> Iterator[Node]:
    """A node over the cluster's primary; its log is printed when the test fails."""
    address = address or f"127.0.0.1:{find_port()}"
    command = [*configure(cluster, folder, address, settings, dsn=dsn), *options]
    log = folder / "gateway.log"
    program = cluster.launch(command, log=log, environment=environment(), cwd=folder)
    node = Node(program, address=address, log=log, context=context)
    workers = int((settings or {}).get("server", {}).get("workers", 1))
    try:
        node.wait_until_ready(workers)
        yield node
    except BaseException:
        print(f"--- {log}\n{tail(log)}")  # pytest shows it with the failure
        raise
    finally:
        node.close()


def busy_backends(cluster: Cluster, words: str) -> int:
    """How many backends run a statement with these words in it."""
    found = cluster.primary.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        f" AND position('{words}' in query) > 0"
    )
    return int(found)
