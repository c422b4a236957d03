"""A running contender: a program that answers ``POST /query/NAME``, and what it costs to have it do so."""

import http.client
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gateway.demo.cluster import Cluster
from tests.bench import processes
from tests.bench.failures import BenchError
from tests.bench.load import Load, run_wrk
from tests.bench.workloads import PATH, SAMPLES, Request, Workload

_START_PATIENCE = 20.0  # seconds
_ANSWER_PATIENCE = 5.0
_LOOK_EVERY = 0.05


class Round(NamedTuple):
    """One measurement of one contender."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    processor_us: float
    """Of the contender's processes, PostgreSQL's not among them, for each request."""
    server_us: float = 0.0
    """Of PostgreSQL's processes, for each request."""


@dataclass(frozen=True)
class Program:
    """How a contender is started."""

    name: str
    title: str
    """What it is, with versions."""
    command: tuple[str, ...]
    environment: dict[str, str]
    directory: Path
    """Where it is started."""
    port: int
    authorization: str = ""
    """With each request."""
    path: str = PATH
    """Where it takes the requests of a query."""
    unwrap: Callable[[bytes], bytes] = bytes
    """From its answer to what others answer."""


class Contender:
    """A program that has been started and answers. It ends with the cluster."""

    def __init__(self, program: Program, *, cluster: Cluster) -> None:
        self.name = program.name
        self.title = program.title
        self.port = program.port
        self.path = program.path
        self._unwrap = program.unwrap
        self._authorization = program.authorization
        self._cluster = cluster
        self._log = cluster.make_directory() / "log"
        self._process = cluster.launch(
            program.command, log=self._log, environment=program.environment, cwd=program.directory
        )

    def wait_until_it_answers(self, request: Request = SAMPLES[0]) -> None:
        """Wait for the first good answer to a request; BenchError shows the contender's log."""
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            try:
                self.ask(request)
            except BenchError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise self._failure(str(error)) from None
                time.sleep(_LOOK_EVERY)
            else:
                return

    def ask(self, request: Request) -> bytes:
        """The body of the answer to one request; BenchError if it is not 200."""
        path = self.path.format(request.query)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_PATIENCE)
        try:
            headers = {"Content-Type": "application/json"}
            if self._authorization:
                headers["Authorization"] = self._authorization
            connection.request("POST", path, request.body, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{self.name} does not answer {json.dumps(path)}: {error!r}") from None
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise BenchError(f"{self.name} answers {json.dumps(path)} with {response.status}: {body[:300]!r}")
        return self._unwrap(body)

    def measure(self, workload: Workload, requests: Path, *, seconds: int) -> Round:
        """One round; BenchError if any request failed, for then the figures mean nothing."""
        server = self._cluster.primary.pid or 0
        before = processes.processor_seconds(server)
        load, used = self.load(requests, connections=workload.connections, seconds=seconds)
        served = processes.processor_seconds(server) - before
        if load.failures or load.refused or not load.requests:
            raise self._failure(f"{load.requests} answers, {load.refused} refusals, {load.failures} failures")
        used_us, served_us = used / load.requests * 1e6, served / load.requests * 1e6
        return Round(load.requests / load.seconds, load.p50_ms, load.p99_ms, used_us, served_us)

    def load(self, requests: Path, *, connections: int, seconds: int, rest_ms: int = 0) -> tuple[Load, float]:
        """One run of wrk, and the processor seconds that the contender's processes spent meanwhile."""
        before = processes.processor_seconds(self._process.pid)
        load = run_wrk(
            self.port,
            requests,
            connections=connections,
            seconds=seconds,
            rest_ms=rest_ms,
            authorization=self._authorization,
        )
        return load, processes.processor_seconds(self._process.pid) - before

    def memory(self) -> processes.Memory:
        """What its processes hold now."""
        return processes.memory(self._process.pid)

    def end(self) -> None:
        """Stop it, before the cluster does."""
        self._process.terminate()
        self._process.wait()

    def _failure(self, what: str) -> BenchError:
        log = self._log.read_text(errors="replace")[-2000:]
        return BenchError(f"{self.name}: {what}\n{log}".rstrip())
