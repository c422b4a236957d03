"""Spans are given up where nobody takes them, which is told once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from gateway.events import Event, TracesNotExported
from gateway.web.spans import Exporter


@contextmanager
def collector() -> Iterator[tuple[str, list[int]]]:
    """A collector, and the statuses of its next answers."""
    statuses: list[int] = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(statuses.pop(0))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/traces", statuses
        finally:
            server.shutdown()
            thread.join()


def test_a_collector_that_takes_no_spans_is_told_of_once_until_it_takes_some_again() -> None:
    told: list[Event] = []
    span = TracerProvider(shutdown_on_exit=False).get_tracer("a test").start_span("one")
    assert isinstance(span, ReadableSpan)
    with collector() as (url, statuses):
        exporter = Exporter(url, told.append)
        statuses += [503, 503, 200, 503, 503]
        results = [exporter.export([span]) for _ in range(5)]
    failed, taken = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    assert results == [failed, failed, taken, failed, failed]
    assert [type(event) for event in told] == [TracesNotExported] * 2
