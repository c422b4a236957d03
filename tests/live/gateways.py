"""Starts `gateway serve` over an embedded cluster, and speaks to it as clients do."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

import gateway
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from gateway.demo.server import Server
from gateway.server.master import ADMIN
from gateway.server.runtime import FOLDER
from tests.live.poolers import between
from tests.web.description import Description

QUERIES = Path(__file__).parent / "http_queries"
TABLES = Path(__file__).parent / "http_suite.sql"
PACKAGE = Path(gateway.__file__).parents[1]
"""Where `gateway` is imported from, whether it is installed or not."""
HOSTS = ["h", "x"]
"""Names that requests written by hand give in their Host header."""
PATIENCE = 60.0
"""Seconds for what takes no time worth mentioning where nothing else runs."""
_LOOK_EVERY = 0.01
# PERF: nobody speaks TLS here; without a context httpx reads all root certificates for each client, which takes 22 ms.
_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@contextmanager
def with_tables(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, and for a while in it what the queries of `http_queries/` work on."""
    cluster.primary.run_file(TABLES, shop.DATABASE)
    cluster.wait_until_caught_up()
    yield cluster
    cluster.primary.sql("SET client_min_messages = warning; DROP SCHEMA suite CASCADE", shop.DATABASE)


def wait_until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> float:
    """Look again and again until the condition holds; the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"not within {timeout:g} s: {what}"
        time.sleep(_LOOK_EVERY)
    return time.monotonic() - began


def environment() -> dict[str, str]:
    """Ours, without what would set up the gateway or libpq otherwise."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PG"))}
    ours.pop("DATABASE_URL", None)
    return {**ours, "PYTHONPATH": str(PACKAGE), "GATEWAY_LOG__FORMAT": "text"}


class Gateway:
    """One running node. Every answer its clients get is held against openapi.yaml."""

    def __init__(self, program: "subprocess.Popen[bytes]", *, port: int, workers: int, log: Path, folder: Path) -> None:
        self.program = program
        self.size = workers
        self.port = port
        self.folder = folder
        self.runtime = folder / "runtime" / FOLDER
        self._log = log
        self.url = f"http://127.0.0.1:{port}"
        self.client = self.new_client()
        self.operator = self.new_operator()

    @property
    def log(self) -> str:
        """Everything it has said until now."""
        return self._log.read_text(errors="replace")

    def new_client(self, timeout: float = PATIENCE) -> httpx.Client:
        """Another client with connections of its own."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        hooks = {"response": [_judge]}
        return httpx.Client(
            base_url=self.url, timeout=timeout, trust_env=False, verify=_CONTEXT, event_hooks=hooks, limits=limits
        )

    def new_operator(self, timeout: float = PATIENCE) -> httpx.Client:
        """Another client over the listener for operators."""
        return httpx.Client(
            base_url="http://localhost",
            timeout=timeout,
            transport=httpx.HTTPTransport(uds=str(self.runtime / ADMIN)),
            event_hooks={"response": [_judge]},
        )

    def run(self, query: str, headers: Mapping[str, str] | None = None, /, **arguments: Any) -> httpx.Response:
        """POST /query/{query} with these arguments."""
        return self.client.post(f"/query/{query}", json=arguments, headers=headers)

    def value(self, query: str, /, **arguments: Any) -> Any:
        """The value of a scalar query that succeeds."""
        answer = self.run(query, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]

    def health(self) -> dict[str, Any]:
        """The body of GET /health."""
        body: dict[str, Any] = self.client.get("/health").json()
        return body

    def is_ready(self) -> bool:
        """Whether a worker says that it can serve."""
        return self._ready_worker(self.client) is not None

    def _ready_worker(self, client: httpx.Client) -> str | None:
        """Which worker says that it can serve; None if the one that was asked says no, or none answers."""
        try:
            answer = client.get("/health/ready")
        except httpx.TransportError:
            return None
        return worker_of(answer) if answer.status_code == 200 else None

    def wait_until_ready(self) -> float:
        """Wait until every worker says that it can serve; the seconds it took."""

        def ready() -> bool:
            assert self.program.poll() is None, f"ended with {self.program.returncode}:\n{tail(self._log)}"
            return self.is_ready()

        began = time.monotonic()
        wait_until(ready, "ready")
        seen: set[str] = set()
        # A new connection each time: the kernel gives them to the workers by turns, or nearly so. Which worker it was
        # is read off the answer that says so: a synchronous worker ends the connection with each answer.
        while len(seen) < self.size:
            with self.new_client() as client:
                if (worker := self._ready_worker(client)) is not None:
                    seen.add(worker)
            assert time.monotonic() - began < PATIENCE, f"only {seen} of {self.size} workers are ready"
        return time.monotonic() - began

    def workers(self) -> list[int]:
        """The worker processes."""
        children = Path(f"/proc/{self.program.pid}/task/{self.program.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def talk(self, *pieces: bytes) -> bytes:
        """Send these bytes and read to the end of the connection."""
        with self.connect() as connection:
            for piece in pieces:
                connection.sendall(piece)
            return read_to_end(connection)

    def end(self) -> int:
        """SIGTERM, and its exit status."""
        self.program.terminate()
        return self.program.wait(PATIENCE)

    def close(self) -> None:
        """End it and all that is its own, gently if it can be."""
        self.client.close()
        self.operator.close()
        with suppress(subprocess.TimeoutExpired):
            self.program.terminate()
            self.program.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self.program.pid, signal.SIGKILL)


@contextmanager
def serving(
    cluster: Cluster,
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    endpoints: Mapping[str, str] | None = None,
    paths: Iterable[Path] = (QUERIES, shop.QUERIES),
    ready: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """A gateway over the cluster's shop; ``settings`` by section, ``endpoints`` by name with their dsn.

    ``variables`` are set in its environment, on top of ours.
    It ends with the ``with``, and with this process however that ends. When the test fails its log is printed. Where
    the environment asks for it there is a pooler between it and the servers (``poolers.between``).
    """
    port = find_port()
    folder.mkdir(exist_ok=True)
    log = folder / "gateway.log"
    file = folder / "gateway.toml"
    endpoints = endpoints or {server.name: shop.dsn(server) for server in cluster.servers}
    server = {"bind": f"127.0.0.1:{port}", "workers": 1, "runtime_dir": str(folder / "runtime"), "allowed_hosts": HOSTS}
    with between(cluster, folder / "pooler", endpoints) as reached:
        sections: dict[str, Mapping[str, Any]] = {
            "catalogue": {"paths": [str(path) for path in paths]},
            **{f"endpoints.{name}": endpoint for name, endpoint in reached.items()},
            **(settings or {}),
            "server": {**server, **(settings or {}).get("server", {})},
        }
        file.write_text(toml(sections))
        command = [sys.executable, "-m", "gateway", "serve", "-c", str(file)]
        program = cluster.launch(command, log=log, environment={**environment(), **(variables or {})}, cwd=folder)
        running = Gateway(program, port=port, workers=sections["server"]["workers"], log=log, folder=folder)
        try:
            if ready:
                running.wait_until_ready()
            yield running
        except BaseException:
            print(f"--- {log}\n{tail(log)}")
            raise
        finally:
            running.close()


def worker_of(answer: httpx.Response) -> str:
    """Which worker answered: each begins the ids it gives with a name of its own."""
    return str(answer.headers["X-Request-Id"]).partition("-")[0]


def running_marked(server: Server, mark: str) -> int:
    """How many backends of this server run a query with this mark."""
    activity = f"state = 'active' AND query LIKE '%EXECUTE%''{mark}''%' AND pid <> pg_backend_pid()"
    return int(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {activity}"))


def toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """A settings file; JSON's strings, numbers, booleans and lists are TOML's too."""
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body, if it is a problem of this status and code."""
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "canary" not in answer.text
    return body


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def _judge(response: httpx.Response) -> None:
    response.read()
    Description.load().judge(response)


@contextmanager
def serving_queries(
    text: str,
    cluster: Cluster,
    folder: Path,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    servers: tuple[Server, ...] | None = None,
    endpoints: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """A gateway over these servers (of the cluster: all) that serves the queries of this text and no others.

    ``endpoints``: their names and DSNs, where these are to be others.
    """
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(text)
    endpoints = endpoints or {server.name: shop.dsn(server) for server in servers or cluster.servers}
    with serving(cluster, folder, settings, endpoints=endpoints, paths=[folder / "queries"]) as running:
        yield running
