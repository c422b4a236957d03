"""From an error of ours to an answer: ``application/problem+json`` (RFC 9457), always the same members."""

import logging
from http import HTTPStatus
from typing import Any

import falcon

from gateway import errors
from gateway.errors import GatewayError
from gateway.web import answers
from gateway.web.problem import problem

log = logging.getLogger("gateway.web")

STATUS: dict[type[GatewayError], int] = {
    errors.InvalidJSON: 400,
    errors.InvalidRequest: 400,
    errors.Raised: 400,
    errors.Forbidden: 403,
    errors.UnknownQuery: 404,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.RequestTimeout: 408,
    errors.Conflict: 409,
    errors.SerializationFailure: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidArguments: 422,
    errors.IdempotencyMismatch: 422,
    errors.HeadersTooLarge: 431,
    errors.ClientGone: 499,
    errors.GatewayError: 500,
    errors.InternalError: 500,
    errors.QueryBroken: 500,
    errors.BackendUnavailable: 503,
    errors.Cancelled: 503,
    errors.CatalogueStale: 503,
    errors.ConnectionLost: 503,
    errors.Draining: 503,
    errors.LockTimeout: 503,
    errors.NoEndpoint: 503,
    errors.Overloaded: 503,
    errors.PoolTimeout: 503,
    errors.QueueFull: 503,
    errors.TooStale: 503,
    errors.DeadlineExceeded: 504,
    errors.ResultTooLarge: 507,
}
"""The contract's table. A test holds that every class of ``errors`` is in it."""

RETRY_AFTER = "1"
"""Seconds, with every 503: RFC 9110 knows no fractions, and rotation settles within one."""

_FALCON: dict[int, type[GatewayError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
}


class Failures:
    """Turns whatever a request ends with into a problem; registered on the app as its error handlers."""

    def __init__(self, *, verbose: bool) -> None:
        """``verbose``: show the server's own words, which may hold values and SQL (``verbose_errors``)."""
        self._verbose = verbose

    def register(self, app: "falcon.App[Any, Any]") -> None:
        """Handle every kind of exception that a responder can raise."""
        app.add_error_handler(Exception, self.on_bug)
        app.add_error_handler(falcon.HTTPError, self.on_falcon)
        app.add_error_handler(GatewayError, self.on_failure)

    def on_failure(self, request: falcon.Request, response: falcon.Response, error: GatewayError, _params: Any) -> None:
        """Answer an error of ours."""
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        detail = error.detail
        if self._verbose and error.server_message:
            detail = f"{detail}: {error.server_message}" if detail else error.server_message
        response.status = f"{status} {_reason(status)}"
        response.content_type = "application/problem+json"
        response.data = problem(
            status=status,
            title=error.shown_title,
            code=error.code,
            detail=detail,
            request_id=request.context.request_id,
            retryable=error.retryable,
            outcome=error.outcome,
            sqlstate=error.sqlstate,
            faults=error.faults,
            step=error.step,
            transaction=error.transaction,
        )
        if error.served is not None:
            answers.write_served(response, error.served)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            response.set_header("Retry-After", RETRY_AFTER)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.SERVICE_UNAVAILABLE:
            words = error.server_message or ""
            log.warning("request %s: %s %s %s", request.context.request_id, error.code, error.detail, words)

    def on_falcon(
        self, request: falcon.Request, response: falcon.Response, error: falcon.HTTPError, params: Any
    ) -> None:
        """Answer an error of Falcon's own: no such route, method not allowed, a header it cannot read."""
        if error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.on_bug(request, response, error, params)
            return
        kind = _FALCON.get(error.status_code, errors.InvalidRequest)
        if error.headers:
            response.set_headers(error.headers)
        self.on_failure(request, response, kind(error.description or ""), params)

    def on_bug(self, request: falcon.Request, response: falcon.Response, _error: Exception, params: Any) -> None:
        """Answer what should never happen; the log has the traceback, the caller the request id."""
        log.exception("request %s: a bug of ours", request.context.request_id)
        self.on_failure(request, response, errors.InternalError("see the log under this request id"), params)


def _reason(status: int) -> str:
    return "Client Closed Request" if status == 499 else HTTPStatus(status).phrase
