"""From whatever a request ends with to its answer, and to an event where its caller did not cause it."""

from collections.abc import Callable
from http import HTTPStatus
from math import ceil
from typing import Any

import falcon

from gateway.errors import ClientGone, GatewayError, InternalError, RateLimited
from gateway.events import BugFound, Observer, RequestFailed
from gateway.execution.call import JSON
from gateway.web import answers
from gateway.web.in_flight import ended
from gateway.web.messages import Response
from gateway.web.problem import RETRY_AFTER, error_of, phrase_of, problem, status_of
from gateway.web.routes import QUERY

_TELLS_MEDIA = (HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
"""Where an answer says what a QUERY's content may be (RFC 10008)."""

Failed = Callable[[falcon.Request, GatewayError, int], None]
"""Takes a request, what it ended with, and the status."""

BrokeOff = Callable[[falcon.Request, GatewayError], None]
"""Takes a request, and what its answer broke off with."""

Challenge = Callable[[falcon.Request], str]
"""Says, in ``WWW-Authenticate``, how whoever makes a request can show who it is."""


class Failures:
    """Turns whatever a request ends with into a problem; registered on the app as its error handlers."""

    def __init__(
        self,
        *,
        verbose: bool,
        observe: Observer,
        failed: Failed,
        broke_off: BrokeOff = lambda _request, _error: None,
        challenge: Challenge = lambda _request: "Bearer",
    ) -> None:
        """``verbose``: show the server's own words, which may hold values and SQL (``verbose_errors``).

        ``failed`` is told of every request that ends so, ``broke_off`` of those whose answer had begun.
        """
        self._challenge = challenge
        self._verbose = verbose
        self._failed = failed
        self._broke_off = broke_off
        self._observe = observe

    def register(self, app: "falcon.App[Any, Any]") -> None:
        """Handle every kind of exception that a responder can raise."""
        app.add_error_handler(Exception, self.on_bug)
        app.add_error_handler(falcon.HTTPError, self.on_falcon)
        app.add_error_handler(GatewayError, self.on_failure)

    def answer(self, request: falcon.Request, response: Response, error: Exception) -> None:
        """Answer whatever a request ended with, as Falcon has it done by the handlers below."""
        if isinstance(error, GatewayError):
            self.on_failure(request, response, error, None)
        elif isinstance(error, falcon.HTTPError):
            self.on_falcon(request, response, error, None)
        else:
            self.on_bug(request, response, error, None)

    def on_failure(self, request: falcon.Request, response: Response, error: GatewayError, _params: Any) -> None:
        """Answer an error of ours."""
        status, body = self.described(request, response, error)
        response.status = f"{status} {phrase_of(status)}"
        response.content_type = "application/problem+json"
        response.data = body
        if status in _TELLS_MEDIA and request.uri_template == QUERY:
            response.set_header("Accept-Query", JSON)
        if status == HTTPStatus.UNAUTHORIZED:
            response.set_header("WWW-Authenticate", self._challenge(request))

    def described(self, request: falcon.Request, response: Response, error: GatewayError) -> tuple[int, bytes]:
        """Report what a request ends with; return its status and its problem. What headers say of it is written.

        SECURITY: the server's words are in no event: they may hold arguments' values.
        """
        error = ended(request, error)
        status = status_of(error)
        request_id: str = request.context.request_id
        response.lines = ""
        if error.served is not None:
            answers.write_served(response, error.served)
        self._failed(request, error, status)
        if isinstance(error, RateLimited):
            if error.allowances:
                answers.write_allowances(response, error.allowances)
            if error.after is not None:
                response.set_header("Retry-After", str(ceil(error.after)))
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.set_header("Retry-After", RETRY_AFTER)
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self._report(request_id, status, error)
        return status, problem(error, status=status, request_id=request_id, verbose=self._verbose)

    def tell(self, request: falcon.Request, error: GatewayError) -> bytes:
        """Report an error that ends an answer which has begun, and return it as a problem's JSON."""
        error = ended(request, error)
        status, request_id = status_of(error), request.context.request_id
        self._broke_off(request, error)
        if not isinstance(error, ClientGone):
            self._report(request_id, status, error)
        return problem(error, status=status, request_id=request_id, verbose=self._verbose)

    def _report(self, request_id: str, status: int, error: GatewayError) -> None:
        detail = f"{error.detail} [{error.sqlstate}]" if error.sqlstate else error.detail
        self._observe(RequestFailed(request_id=request_id, status=status, code=error.code, detail=detail))

    def on_falcon(self, request: falcon.Request, response: Response, error: falcon.HTTPError, params: Any) -> None:
        """Answer an error of Falcon's own: no such route, method not allowed, a header it cannot read."""
        if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.on_bug(request, response, error, params)
            return
        if error.headers:
            response.set_headers(error.headers)
        self.on_failure(request, response, error_of(error.status_code, error.description or ""), params)

    def on_bug(self, request: falcon.Request, response: Response, error: Exception, params: Any) -> None:
        """Answer what should never happen; the log has the traceback, the caller the request id."""
        self._observe(BugFound(where="a request", error=error, request_id=request.context.request_id))
        self.on_failure(request, response, InternalError("see the log under this request id"), params)
