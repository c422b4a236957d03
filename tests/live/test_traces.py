"""Spans of calls, as a collector of OpenTelemetry's gets them: under every kind of worker, and whatever it does."""

import importlib
import pkgutil
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv import attributes

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.agents import Agent
from tests.live.gateways import Gateway, serving, serving_queries, wait_until

QUERIES = """
-- name: statement(word)$
-- @param word text = ""
SELECT current_query() || left(:word, 0);

-- name: divided(by)$
-- @param by int4
SELECT 1 / :by;

-- name: told$
-- @tool
SELECT 1;


-- name: note(word)!
-- @param word text
INSERT INTO traced_notes VALUES (:word);
"""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = 2, 3
"""Kinds of spans, in OTLP."""
ERROR = 2
"""A status, there."""
WORKERS = ["gateway", "gthread", "sync"]


class Span(NamedTuple):
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    state: str
    status: int
    seconds: float
    attributes: dict[str, Any]
    resource: dict[str, Any]


class Collector:
    """Takes OTLP over HTTP, or answers as badly as it is told to."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.status = 200
        self.delay = 0.0
        self.asked = 0

    def of(self, trace: str) -> list[Span]:
        """The spans of a trace: that of the request, then that of its work."""
        return sorted((span for span in self.spans if span.trace == trace), key=lambda span: span.kind)

    def await_spans(self, trace: str, count: int = 2) -> list[Span]:
        wait_until(lambda: len(self.of(trace)) >= count, f"{count} spans of {trace} have come")
        return self.of(trace)

    @contextmanager
    def serving(self) -> Iterator[str]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.asked += 1
                assert self.headers["Content-Type"] == "application/x-protobuf"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(collector.delay)
                if collector.status == 200:
                    collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A gateway that did not wait."""

        server = Server(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace=span.trace_id.hex(),
                    id=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    state=span.trace_state,
                    status=span.status.code,
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    attributes=_named(span.attributes),
                    resource=_named(resource.resource.attributes),
                )


def _named(pairs: Sequence[Any]) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Site(NamedTuple):
    node: Gateway
    collector: Collector

    def run(self, query: str, *, trace: str = TRACE, flags: str = "01", **arguments: Any) -> httpx.Response:
        headers = {"traceparent": f"00-{trace}-{PARENT}-{flags}", "tracestate": "vendor=1"}
        return self.node.run(query, headers, **arguments)


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    cluster.primary.sql("CREATE TABLE traced_notes (word text); GRANT ALL ON traced_notes TO PUBLIC", shop.DATABASE)
    collector = Collector()
    with collector.serving() as url:
        settings: dict[str, dict[str, Any]] = {
            "traces": {"endpoint": url},
            "log": {"access": "all"},
            "mcp": {"enabled": True},
        }
        folder = tmp_path_factory.mktemp("traces")
        variables = {"GATEWAY_LOG__FORMAT": "json"}
        (folder / "queries").mkdir()
        (folder / "queries" / "q.sql").write_text(QUERIES)
        with serving(cluster, folder, settings, paths=[folder / "queries"], variables=variables) as node:
            yield Site(node, collector)
    cluster.primary.sql("DROP TABLE traced_notes", shop.DATABASE)


@pytest.mark.parametrize("worker", WORKERS)
def test_a_call_is_a_span_of_its_callers_trace_and_so_is_its_work(
    worker: str, cluster: Cluster, tmp_path: Path
) -> None:
    collector = Collector()
    with collector.serving() as url:
        settings = {"traces": {"endpoint": url}, "server": {"worker": worker}}
        with serving_queries(
            "-- name: statement$\nSELECT current_query();", cluster, tmp_path, settings, servers=(cluster.primary,)
        ) as node:
            answer = Site(node, collector).run("statement")
            request, work = collector.await_spans(TRACE)
    assert (request.name, request.kind, request.parent, request.state) == (
        "POST /query/{name}",
        SERVER,
        PARENT,
        "vendor=1",
    )
    assert (work.name, work.kind, work.parent, work.state) == ("statement", CLIENT, request.id, "vendor=1")
    assert 0 < work.seconds < request.seconds < 5
    assert f"traceparent='00-{TRACE}-{request.id}-01'" in answer.json()["value"]


def test_attributes_are_those_of_the_stable_conventions(site: Site) -> None:
    trace = "1" * 32
    assert site.run("note", trace=trace, word="x").status_code == 200
    request, work = site.collector.await_spans(trace)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/query/{name}",
        "url.path": "/query/note",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": f"python-httpx/{httpx.__version__}",
    }
    assert work.attributes == {
        "db.system.name": "postgresql",
        "db.namespace": "shop",
        "db.query.summary": "note",
        "server.address": work.attributes["server.address"],
        "server.port": work.attributes["server.port"],
    }
    assert (request.resource["service.name"], request.resource["service.version"]) == ("pg-query-gateway", "0.1.0")
    stable = {
        value
        for module in pkgutil.iter_modules(attributes.__path__, "opentelemetry.semconv.attributes.")
        for value in vars(importlib.import_module(module.name)).values()
        if isinstance(value, str)
    }
    for span in site.collector.spans:
        assert span.attributes.keys() <= stable


def test_steps_of_a_transaction_are_counted_in_its_span(site: Site) -> None:
    step = {"query": "note", "arguments": {"word": "x"}}
    headers = {"traceparent": f"00-{'2' * 32}-{PARENT}-01"}
    assert site.node.client.post("/transaction", json={"steps": [step] * 3}, headers=headers).status_code == 200
    request, work = site.collector.await_spans("2" * 32)
    assert (request.name, work.name) == ("POST /transaction", "transaction")
    assert work.attributes["db.operation.batch.size"] == 3


def test_what_an_agent_calls_is_a_span_with_the_work_of_the_query(site: Site) -> None:
    trace = uuid4().hex
    agent = Agent(site.node.client)
    agent.call("told", {"traceparent": f"00-{trace}-{PARENT}-01"})
    request, work = site.collector.await_spans(trace)
    assert (request.name, work.name, work.parent) == ("POST /mcp", "told", request.id)


def test_what_fails_says_why_and_whose_fault_it_is(site: Site) -> None:
    assert site.run("divided", trace="3" * 32, by=0).status_code == 422
    request, work = site.collector.await_spans("3" * 32)
    assert (request.status, work.status) == (0, ERROR)
    assert (work.attributes["db.response.status_code"], work.attributes["error.type"]) == ("22012", "22012")
    assert site.run("no_such_query", trace="4" * 32).status_code == 404
    (request,) = site.collector.await_spans("4" * 32, 1)
    assert (request.status, request.attributes["http.response.status_code"]) == (0, 404)
    site.node.run("statement", {"traceparent": f"00-{'5' * 32}-{PARENT}-01", "Prefer": "wait=0.000001"})
    (request, *_) = site.collector.await_spans("5" * 32, 1)
    assert (request.status, request.attributes["error.type"]) == (ERROR, "pool_timeout")


def test_no_value_is_in_a_span(site: Site) -> None:
    headers = {"traceparent": f"00-{'6' * 32}-{PARENT}-01"}
    answer = site.node.client.get("/query/statement?word=canary", headers=headers)
    assert answer.status_code == 200
    request, work = site.collector.await_spans("6" * 32)
    assert "canary" not in f"{request}{work}"
    assert request.name == "GET /query/{name}"


def test_the_caller_decides_whether_its_trace_is_recorded(site: Site) -> None:
    answer = site.run("statement", trace="7" * 32, flags="00")
    assert "traceparent" not in answer.json()["value"]
    site.run("statement", trace="8" * 32)
    site.collector.await_spans("8" * 32)
    assert site.collector.of("7" * 32) == []


def test_a_call_without_a_trace_begins_one_that_the_log_and_the_server_know(site: Site) -> None:
    text = site.node.run("statement", {"X-Request-Id": "begins-one"}).json()["value"]
    found = re.search("traceparent='00-([0-9a-f]{32})-([0-9a-f]{16})-01'", text)
    assert found is not None
    request, _ = site.collector.await_spans(found[1])
    assert (request.id, request.parent) == (found[2], "")
    line = f'"request_id":"begins-one","query":"statement","trace_id":"{found[1]}"'
    wait_until(lambda: line in site.node.log, "the log has the trace")


def test_health_and_metrics_are_in_no_trace(site: Site) -> None:
    headers = {"traceparent": f"00-{'9' * 32}-{PARENT}-01"}
    for path in ("/health", "/health/ready", "/metrics", "/queries"):
        assert site.node.client.get(path, headers=headers).status_code == 200
    site.run("statement", trace="a" * 32)
    site.collector.await_spans("a" * 32)
    assert site.collector.of("9" * 32) == []


@pytest.mark.parametrize(("status", "delay"), [(503, 0.0), (200, 30.0)], ids=["refuses", "hangs"])
def test_a_collector_that_fails_delays_no_call_and_no_end(
    status: int, delay: float, cluster: Cluster, tmp_path: Path
) -> None:
    collector = Collector()
    collector.status, collector.delay = status, delay
    with collector.serving() as url:
        settings = {"traces": {"endpoint": url}}
        with serving_queries("-- name: one$\nSELECT 1;", cluster, tmp_path, settings) as node:
            for _ in range(300):
                began = time.monotonic()
                assert node.value("one") == 1
                assert time.monotonic() - began < 1.5
            wait_until(lambda: collector.asked, "the collector was asked")
            wait_until(lambda: "does not take spans" in node.log, "it is logged")
            began = time.monotonic()
            assert node.end() == 0
            assert time.monotonic() - began < 10


def test_what_is_left_is_written_by_a_worker_that_ends(cluster: Cluster, tmp_path: Path) -> None:
    collector = Collector()
    with collector.serving() as url:
        settings = {"traces": {"endpoint": url}}
        with serving_queries("-- name: one$\nSELECT 1;", cluster, tmp_path, settings) as node:
            Site(node, collector).run("one")
            assert node.end() == 0
        assert len(collector.of(TRACE)) == 2


def test_only_workers_that_trace_load_what_that_takes(site: Site, cluster: Cluster, tmp_path: Path) -> None:
    def loads(pid: int) -> bool:
        return "google/_upb" in Path(f"/proc/{pid}/maps").read_text()

    assert not loads(site.node.program.pid)
    assert all(map(loads, site.node.workers()))
    with serving_queries("-- name: one$\nSELECT 1;", cluster, tmp_path) as plain:
        assert not any(map(loads, plain.workers()))
