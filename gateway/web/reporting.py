"""What is counted of each call, and what is told of it: slow calls, the access log, and writes for an audit."""

from bisect import bisect_left
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

import falcon
import msgspec

from gateway.catalogue.query import Access, Catalogue
from gateway.errors import Cancelled, ClientGone, DeadlineExceeded, GatewayError, Outcome
from gateway.events import Observer, RequestServed, RequestSlow, WriteAudited
from gateway.execution.call import Answer, BulkCall, Call, SingleCall, TransactionCall
from gateway.execution.plans import Plans
from gateway.metrics import (
    CANCELLED,
    ERRORS,
    OUTCOMES,
    QUEUE_SECONDS,
    REQUEST_SECONDS,
    REQUESTS,
    SECONDS,
    Counter,
    Histogram,
    Metrics,
)
from gateway.served import Served
from gateway.settings import LogSettings
from gateway.web import tracing
from gateway.web.routes import QUERY

TRANSACTION, UNKNOWN = "transaction", "unknown"
"""What stands in the place of a query's name."""
_TRANSACTION_ROUTE = "/transaction"

Answered = Callable[[str, falcon.Request, Call, Answer], None]
"""Takes a call that was answered, under the name of its query or ``TRANSACTION``."""

_GIVEN_UP: dict[type[GatewayError], str] = {ClientGone: "client", DeadlineExceeded: "deadline", Cancelled: "server"}


class _Series(NamedTuple):
    """What is counted of a query's calls that are answered."""

    ok: Counter
    seconds: Histogram
    may_write: bool
    queued: Histogram | None
    """None for transactions, which are of any group."""


class _Counts(msgspec.Struct):
    """How many rows a write touched, as far as its answer says so."""

    affected: int | None = None
    row_count: int | None = None
    results: list["_Counts"] = []

    @property
    def total(self) -> int | None:
        if self.results:
            each = [result.total for result in self.results]
            return sum(count for count in each if count is not None)
        return self.row_count if self.affected is None else self.affected


class Reporting:
    """Counts calls and reports those that are to be told of."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        catalogue: Catalogue,
        plans: Plans,
        settings: LogSettings,
        observe: Observer,
        log: Observer,
    ) -> None:
        """``log`` takes what there may be an event of for each call, and nobody else wants to know of."""
        self._metrics = metrics
        self._queries = catalogue.queries
        self._plans = plans
        self._observe = observe
        self._log = log
        self._slow = settings.slow
        self._tells_all = settings.access == "all"
        self._tells_errors = settings.access != "off"
        self._audits = settings.audit == "writes"
        self._tells_answers = self._tells_all or self._audits
        self._series: dict[str, _Series] = {}
        """Of the queries that were called."""
        groups = {query.group for query in self._queries.values()}
        self._queued = {group: metrics.histogram(QUEUE_SECONDS, group) for group in groups}
        self._outcomes = {each: metrics.counter(OUTCOMES, each) for each in (Outcome.COMMITTED, Outcome.ROLLED_BACK)}

    def answered(self, name: str, request: falcon.Request, call: Call, answer: Answer) -> None:
        """Count a call that was answered. ``name``: of the query, or ``TRANSACTION``.

        PERF: about 1 µs; what is told is decided when the app is built.
        """
        took = monotonic() - request.context.arrived
        ok, seconds, may_write, queued = self._series.get(name) or self._first(name)
        if answer.is_known:
            self._metrics.counter(REQUESTS, name, "304").value += 1
        else:
            ok.value += 1
        seconds.counts[bisect_left(SECONDS, took)] += 1
        seconds.sum += took
        served = answer.served
        if served is not None:
            if queued is None:
                queued = self._queued[call.group]
            if served.queued:
                queued.observe(served.queued)
            else:
                queued.counts[0] += 1
        if may_write and writes(call):
            self._outcomes[ending(call)].value += 1
        if took >= self._slow or self._tells_answers:
            status = 304 if answer.is_known else 200
            self._tell(name, request, call, took, served=served, status=status, answer=answer)

    def _first(self, name: str) -> _Series:
        query = self._queries.get(name)
        series = _Series(
            self._metrics.counter(REQUESTS, name, "200"),
            self._metrics.histogram(REQUEST_SECONDS, name),
            query is None or query.access is Access.WRITE,
            None if query is None else self._queued[query.group],
        )
        return self._series.setdefault(name, series)

    def failed(self, request: falcon.Request, error: GatewayError, status: int) -> None:
        """Count a request that ends in a problem."""
        self.broke_off(request, error)
        name = self.name_of(request)
        if name is None:
            return
        took = monotonic() - request.context.arrived
        self._metrics.counter(REQUESTS, name, str(status)).value += 1
        self._metrics.histogram(REQUEST_SECONDS, name).observe(took)
        call = call_of(request)
        if error.outcome is not None:
            self._metrics.counter(OUTCOMES, error.outcome).value += 1
        if call is not None:
            queued = took if error.served is None else error.served.queued
            self._metrics.histogram(QUEUE_SECONDS, call.group).observe(queued)
        if took >= self._slow or self._tells_errors or self._audits:
            self._tell(name, request, call, took, served=error.served, status=status, error=error)

    def broke_off(self, request: falcon.Request, error: GatewayError) -> None:
        """Count what a request ends with whose answer had begun, and which was counted as answered."""
        self._metrics.counter(ERRORS, error.code).value += 1
        if type(error) in _GIVEN_UP and self.name_of(request) is not None:
            reason = "operator" if getattr(request.context, "is_ended", False) else _GIVEN_UP[type(error)]
            self._metrics.counter(CANCELLED, reason).value += 1

    def name_of(self, request: falcon.Request) -> str | None:
        """Return what a call is counted as, whatever became of it; None: it is none, or it never found its route."""
        if request.uri_template == _TRANSACTION_ROUTE:
            return TRANSACTION
        if request.uri_template != QUERY:
            called: str | None = getattr(request.context, "query", None)
            return called
        name = request.path.rpartition("/")[2]
        return name if name in self._queries else UNKNOWN

    def _tell(
        self,
        name: str,
        request: falcon.Request,
        call: Call | None,
        took: float,
        *,
        served: Served | None,
        status: int,
        answer: Answer | None = None,
        error: GatewayError | None = None,
    ) -> None:
        context, env = request.context, request.env
        told = RequestServed(
            request_id=context.request_id,
            query=name,
            caller=context.caller.name,
            trace_id=tracing.trace_id(env) if "HTTP_TRACEPARENT" in env else "",
            status=status,
            code="" if error is None else error.code,
            endpoint="" if served is None else served.endpoint,
            ms=_ms(took),
        )
        if took >= self._slow:
            self._observe(RequestSlow(**msgspec.structs.asdict(told), **self._spent(name, served)))
        if self._tells_all or (self._tells_errors and error is not None):
            self._log(told)
        if self._audits and self._writes(name, call):
            audited = self._audited(name, call, answer, error)
            self._log(WriteAudited(**msgspec.structs.asdict(told), **audited))

    def _spent(self, name: str, served: Served | None) -> dict[str, Any]:
        return {
            "arguments": self._arguments(name),
            "query_id": self._query_id(name),
            "queue_ms": 0.0 if served is None else _ms(served.queued),
            "db_ms": 0.0 if served is None else _ms(served.took),
            "attempts": 0 if served is None else served.attempts,
        }

    def _audited(
        self, name: str, call: Call | None, answer: Answer | None, error: GatewayError | None
    ) -> dict[str, Any]:
        queries = call.queries if isinstance(call, TransactionCall) else ()
        return {
            "queries": tuple(query.name for query in queries) if name == TRANSACTION else (),
            "arguments": self._arguments(name),
            "affected": None if answer is None else msgspec.json.decode(answer.body, type=_Counts).total,
            "outcome": error.outcome if error is not None else call and ending(call),
            "replayed": answer is not None and answer.replayed,
        }

    def _query_id(self, name: str) -> str | None:
        if name not in self._queries:
            return None
        signature = self._plans.known(name).signature
        return None if signature is None else signature.query_id

    def _arguments(self, name: str) -> tuple[str, ...]:
        query = self._queries.get(name)
        return () if query is None else tuple(parameter.name for parameter in query.parameters)

    def _writes(self, name: str, call: Call | None) -> bool:
        if call is not None:
            return writes(call)
        query = self._queries.get(name)
        return name == TRANSACTION or (query is not None and query.access is Access.WRITE)


def call_of(request: falcon.Request) -> Call | None:
    """Return the call that was made of a request; None before it was."""
    call: Call | None = getattr(request.context, "call", None)
    return call


def writes(call: Call) -> bool:
    """Whether a call writes. PERF: a plan knows by itself; only a transaction's steps are looked through."""
    if isinstance(call, SingleCall):
        return call.plan.write
    return isinstance(call, BulkCall) or (isinstance(call, TransactionCall) and call.work.writes)


def ending(call: Call) -> Outcome:
    """How a write ends that is answered."""
    is_tried = isinstance(call, TransactionCall) and call.work.rolls_back
    return Outcome.ROLLED_BACK if is_tried else Outcome.COMMITTED


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
