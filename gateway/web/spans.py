"""Spans of calls, for whoever collects traces: one of the request, and in it one of the work on a server.

OpenTelemetry's SDK samples them, keeps those that have ended in a bounded queue, and writes them in batches. It is
imported by workers that are given a collector, and by no others. All attributes are of the stable semantic conventions.

SECURITY: a query string holds arguments' values, and is in no span; nor is SQL.
"""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from time import monotonic, time_ns
from typing import Any, Final

import falcon
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.semconv.attributes import (
    client_attributes,
    db_attributes,
    error_attributes,
    http_attributes,
    network_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
    user_agent_attributes,
)
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.errors import GatewayError
from gateway.events import Observer, TracesNotExported
from gateway.execution.call import Answer, Call, TransactionCall
from gateway.node.fetching import FetchFailed, post
from gateway.postgres.dsn import APPLICATION
from gateway.served import Served
from gateway.settings import TracesSettings
from gateway.web import tracing
from gateway.web.reporting import TRANSACTION, call_of

PATIENCE: Final = 3.0
"""Seconds that the collector may take for a batch."""
LAST: Final = 2.0
"""Seconds that a worker which ends gives the collector for what is left."""
BATCH: Final = 64
"""Spans that are written at once. PERF: to write one takes 30 µs, in which a loop does not turn."""
WAITING: Final = 4096
"""Spans that may wait; older ones are given up for newer ones."""
EVERY: Final = 1000.0
"""Milliseconds after which fewer than a batch are written, too."""
LONGEST: Final = 256
"""Characters of an attribute."""

_ROUTES: Final = ("/query/", "/transaction")
_NOTHING: Final = Context()
"""In which nothing is traced: a span's parent is what the request says, and never what else the thread has done."""

Address = tuple[str, int, str]
"""Host, port and database; empty where they are not known."""


class Spans:
    """Makes spans of calls; a middleware of Falcon's."""

    def __init__(
        self, settings: TracesSettings, servers: Mapping[str, Address], *, agents: str | None = None, observe: Observer
    ) -> None:
        """Begin to write. ``servers``: where the endpoints are, by name; ``agents``: the path of those, if any."""
        # The library complains of what clients send, past our log and without a limit; what matters is an event.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._routes = _ROUTES if agents is None else (*_ROUTES, agents)
        self._exporter = Exporter(settings.endpoint, observe)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.sample)),
            resource=_resource(),
            span_limits=SpanLimits(max_span_attribute_length=LONGEST),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=WAITING,
                schedule_delay_millis=EVERY,
                max_export_batch_size=BATCH,
            )
        )
        self._tracer = self._provider.get_tracer("gateway", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._servers = servers

    def close(self) -> None:
        """Write what is left, if that can be done soon."""
        self._exporter.end_by(monotonic() + LAST)
        self._provider.shutdown()

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Begin the span of a call, and have the request belong to it."""
        env = request.env
        if not env["PATH_INFO"].startswith(self._routes):
            return
        parent = _NOTHING
        if "HTTP_TRACEPARENT" in env:
            sent = {"traceparent": env["HTTP_TRACEPARENT"], "tracestate": env.get("HTTP_TRACESTATE", "")}
            parent = self._extract(sent, context=_NOTHING)
        span = self._tracer.start_span(request.method, context=parent, kind=SpanKind.SERVER)
        request.context.span = span
        known = span.get_span_context()
        tracing.adopt(env, known.trace_id, known.span_id, is_sampled=known.trace_flags.sampled)

    def answered(self, _name: str, request: falcon.Request, _call: Call, answer: Answer) -> None:
        """Take note of how a call was served."""
        request.context.served = answer.served

    def failed(self, request: falcon.Request, error: GatewayError, _status: int) -> None:
        """Take note of what a request ended with."""
        request.context.served = error.served
        request.context.error = error

    def process_response(
        self, request: falcon.Request, response: falcon.Response, _resource: Any, _succeeded: bool
    ) -> None:
        """End the span; of a stream when it begins."""
        span: Span | None = getattr(request.context, "span", None)
        if span is None or not span.is_recording():
            return
        error: GatewayError | None = getattr(request.context, "error", None)
        served: Served | None = getattr(request.context, "served", None)
        ended = time_ns()
        if served is not None:
            self._add_work(span, request, served, error, ended)
        if request.uri_template is not None:
            span.update_name(f"{request.method} {request.uri_template}")
        span.set_attributes(_attributes_of(request, response.status_code))
        if error is not None and response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _fail(span, error.code)
        span.end(ended)

    def _add_work(
        self, span: Span, request: falcon.Request, served: Served, error: GatewayError | None, ended: int
    ) -> None:
        """Add the span of the work on a server: the last attempt, if there were several."""
        call = call_of(request)
        name = TRANSACTION
        if request.uri_template != "/transaction":
            name = getattr(request.context, "query", None) or request.path.rpartition("/")[2]
        host, port, database = self._servers[served.endpoint]
        attributes: dict[str, str | int] = {
            db_attributes.DB_SYSTEM_NAME: db_attributes.DbSystemNameValues.POSTGRESQL.value,
            db_attributes.DB_QUERY_SUMMARY: name,
        }
        if host:
            attributes |= {server_attributes.SERVER_ADDRESS: host, server_attributes.SERVER_PORT: port}
        if database:
            attributes[db_attributes.DB_NAMESPACE] = database
        if isinstance(call, TransactionCall) and len(call.queries) > 1:
            attributes[db_attributes.DB_OPERATION_BATCH_SIZE] = len(call.queries)
        work = self._tracer.start_span(
            name,
            context=set_span_in_context(span, _NOTHING),
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended - int(served.took * 1e9),
        )
        if error is not None:
            if error.sqlstate:
                work.set_attribute(db_attributes.DB_RESPONSE_STATUS_CODE, error.sqlstate)
            _fail(work, error.sqlstate or error.code)
        work.end(ended)


class Exporter(SpanExporter):
    """Writes spans as OTLP over HTTP, in a thread beside requests; what is not taken is given up.

    That is reported once, and again only after some were taken in between.
    """

    def __init__(self, url: str, observe: Observer) -> None:
        self._url = url
        self._observe = observe
        self._ends = float("inf")
        self._is_failing = False

    def end_by(self, ends: float) -> None:
        """Write nothing more after this point of ``time.monotonic``."""
        self._ends = ends

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write them."""
        left = min(PATIENCE, self._ends - monotonic())
        failure = "the worker ends"
        if left > 0:
            body = encode_spans(spans).SerializeToString()
            try:
                post(self._url, body, media="application/x-protobuf", seconds=left)
            except FetchFailed as failed:
                failure = str(failed)
            else:
                self._is_failing = False
                return SpanExportResult.SUCCESS
        if not self._is_failing:
            self._is_failing = True
            self._observe(TracesNotExported(spans=len(spans), detail=failure))
        return SpanExportResult.FAILURE


def _resource() -> Resource:
    """What all spans are of; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say more, or otherwise."""
    resource = Resource.create({service_attributes.SERVICE_VERSION: __version__})
    if str(resource.attributes[service_attributes.SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({service_attributes.SERVICE_NAME: APPLICATION}))
    return resource


def _attributes_of(request: falcon.Request, status: int) -> dict[str, str | int]:
    env = request.env
    attributes: dict[str, str | int] = {
        http_attributes.HTTP_REQUEST_METHOD: request.method,
        http_attributes.HTTP_RESPONSE_STATUS_CODE: status,
        url_attributes.URL_PATH: request.path,
        url_attributes.URL_SCHEME: env["wsgi.url_scheme"],
        network_attributes.NETWORK_PROTOCOL_VERSION: env.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
    }
    if request.uri_template is not None:
        attributes[http_attributes.HTTP_ROUTE] = request.uri_template
    if address := env.get("REMOTE_ADDR"):
        attributes[client_attributes.CLIENT_ADDRESS] = address
    if agent := env.get("HTTP_USER_AGENT"):
        attributes[user_agent_attributes.USER_AGENT_ORIGINAL] = agent
    return attributes


def _fail(span: Span, reason: str) -> None:
    span.set_attribute(error_attributes.ERROR_TYPE, reason)
    span.set_status(Status(StatusCode.ERROR))
