"""``/query/{name}`` and ``/transaction``: a request becomes a call, the call is run, its answer is written."""

from functools import partial

import falcon

from gateway.execution.call import JSON, Answer, AnyCall, RawCall
from gateway.execution.execution import Execution
from gateway.execution.keeping import Keeping
from gateway.web import answers, streams
from gateway.web.accepting import has_already
from gateway.web.calls import Calls
from gateway.web.compression import LONG, Compression
from gateway.web.deprecations import Deprecations
from gateway.web.failures import Failures
from gateway.web.messages import Response
from gateway.web.reporting import TRANSACTION, Answered

UNTRUSTED = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}
"""With a value that is answered as it is. SECURITY: a document or a picture with scripts in it shall not run them,
least of all as a page of the gateway's own origin."""


class Calling:
    """Runs calls and writes their answers."""

    def __init__(
        self,
        *,
        calls: Calls,
        execution: Execution | Keeping,
        answered: Answered,
        failures: Failures,
        compression: Compression,
        deprecations: Deprecations,
    ) -> None:
        self._calls = calls
        self._execution = execution
        self._answered = answered
        self._failures = failures
        self._compression = compression
        self._deprecations = deprecations if deprecations else None

    def _write(self, request: falcon.Request, response: Response, call: AnyCall, answer: Answer) -> None:
        """Write an answer that is long, still coming, or not JSON."""
        if answer.held is not None:
            streams.write(response, call, answer, partial(self._failures.tell, request))
        else:
            answers.write(response, call, answer)
        if isinstance(call, RawCall):
            response.set_headers(UNTRUSTED)
        else:
            self._compression.apply(request, response)


class QueryResource(Calling):
    """Runs named queries."""

    def on_post(self, request: falcon.Request, response: Response, name: str) -> None:
        """Run a query with the arguments in the body, or once for each object or record in it."""
        call = self._calls.of_body(request, name)
        if self._deprecations is not None:
            self._deprecations.note(name, request, response)
        answer = self._execution.run(call)
        if answer.media is JSON and len(answer.body) < LONG:  # PERF: nearly all of them
            answers.write(response, call, answer)
        else:
            self._write(request, response, call, answer)
        self._answered(name, request, call, answer)

    def on_query(self, request: falcon.Request, response: Response, name: str) -> None:
        """Run a read with the arguments in the body (RFC 10008)."""
        self._calls.require_read(request, name)
        self.on_post(request, response, name)

    def on_options(self, request: falcon.Request, response: Response, name: str) -> None:
        """Tell how the query may be called."""
        response.set_header("Allow", ", ".join(self._calls.methods(request, name)))
        response.set_header("Accept-Query", JSON)
        response.set_header("Content-Length", "0")

    def on_get(self, request: falcon.Request, response: Response, name: str) -> None:
        """Run a read with the arguments in the query string."""
        response.set_header("Cache-Control", "no-store")
        call = self._calls.of_query_string(request, name)
        if self._deprecations is not None:
            self._deprecations.note(name, request, response)
        answer = self._execution.run(call)
        if answer.kept is not None and has_already(request, response, answer.kept.tag):
            answer.is_known = True
            answers.write(response, call, answer)
            response.data = None
        elif answer.media is JSON and len(answer.body) < LONG:
            answers.write(response, call, answer)
        else:
            self._write(request, response, call, answer)
        self._answered(name, request, call, answer)

    def on_head(self, request: falcon.Request, response: Response, name: str) -> None:
        """Run a read with the arguments in the query string, and answer the headers alone."""
        self.on_get(request, response, name)
        if isinstance(response.stream, streams.Sent):
            response.stream.close()
            response.stream = None


class TransactionResource(Calling):
    """Runs several queries in one transaction."""

    def on_post(self, request: falcon.Request, response: Response) -> None:
        """Run the steps in the body."""
        call = self._calls.of_transaction(request)
        if self._deprecations is not None:
            for query in call.queries:
                self._deprecations.note(query.name, request, response)
        answer = self._execution.run(call)
        if len(answer.body) < LONG:
            answers.write(response, call, answer)
        else:
            self._write(request, response, call, answer)
        self._answered(TRANSACTION, request, call, answer)
