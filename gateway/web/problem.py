"""A failure in the terms of HTTP: its status, and a body of ``application/problem+json`` (RFC 9457)."""

from http import HTTPStatus

import msgspec
import orjson

from gateway import errors
from gateway.errors import GatewayError

STATUS: dict[type[GatewayError], int] = {
    errors.InvalidJSON: 400,
    errors.InvalidRequest: 400,
    errors.Raised: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.UnknownQuery: 404,
    errors.NoRow: 404,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.NotAcceptable: 406,
    errors.RequestTimeout: 408,
    errors.Conflict: 409,
    errors.ReloadRefused: 409,
    errors.SerializationFailure: 409,
    errors.UnexpectedAffected: 409,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidArguments: 422,
    errors.IdempotencyMismatch: 422,
    errors.RateLimited: 429,
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
"""The status of every class of ``errors``; a test holds that none is missing."""

_KINDS: dict[int, type[GatewayError]] = {
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    406: errors.NotAcceptable,
    408: errors.RequestTimeout,
    413: errors.BodyTooLarge,
    414: errors.HeadersTooLarge,
    415: errors.UnsupportedMediaType,
    431: errors.HeadersTooLarge,
    500: errors.InternalError,
    503: errors.Overloaded,
}
_CLIENT_GONE = 499
"""Of nginx; nobody is there to read it."""

RETRY_AFTER = "1"
"""Seconds, with every 503: RFC 9110 knows no fractions, and rotation settles within one."""


def status_of(error: GatewayError) -> int:
    """Return the status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_of(status: int, detail: str) -> GatewayError:
    """Return the error that stands for a status, where whoever refused the request knows no more than that."""
    return _KINDS.get(status, errors.InvalidRequest)(detail)


def phrase_of(status: int) -> str:
    """Return the words after a status."""
    return "Client Closed Request" if status == _CLIENT_GONE else HTTPStatus(status).phrase


def problem(error: GatewayError, *, status: int, request_id: str, verbose: bool = False) -> bytes:
    """Return the body for an error, always with the same members.

    ``verbose`` shows the server's own words, which may hold values and SQL.
    """
    shown = (error.detail, error.server_message) if verbose else (error.detail,)
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": error.shown_title,
            "status": status,
            "code": error.code,
            "detail": ": ".join(filter(None, shown)),
            "request_id": request_id,
            "retryable": error.retryable,
            "outcome": error.outcome,
            "sqlstate": error.sqlstate,
            "step": error.step,
            "transaction": error.transaction,
            "errors": [msgspec.to_builtins(fault) for fault in error.faults],
        }
    )
