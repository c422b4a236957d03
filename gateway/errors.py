"""What can go wrong, one class per code; no HTTP in here (``web.problem`` holds that table).

Foreign exceptions are mapped to these at the border where they appear (``postgres.sqlstate``, ``web.bodies``).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, Final, Self

import msgspec

from gateway.served import Allowance, Served


class Outcome(StrEnum):
    """What became of a write."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"


class ArgumentFault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing wrong with one argument of a request."""

    parameter: str | None
    message: str
    step: int | None = None
    constraint: str | None = None


class GatewayError(Exception):
    """A request that cannot be answered as asked. Subclasses say why; ``detail`` tells this case."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        outcome: Outcome | None = None,
        sqlstate: str | None = None,
        faults: Sequence[ArgumentFault] = (),
        title: str | None = None,
        server_message: str | None = None,
        step: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail: Final = detail
        self.outcome: Final = outcome
        self.sqlstate: Final = sqlstate
        self.faults: Final = tuple(faults)
        self.shown_title: Final = title or self.title
        self.served: Final[Served | None] = None
        """How the query was run that failed; None where no connection was available for it."""
        self.step: Final = step
        """The failing step of a transaction, or index of an array body."""
        self.transaction: Final[str | None] = None
        """The mark under which the outcome can be asked for later, where it is unknown now."""
        self.server_message: Final = server_message
        """The server's own words, which may show values: for ``[server] verbose_errors`` only."""

    def but(self, **context: Any) -> Self:
        """Return the same error with some of its attributes replaced, for whoever knows more than who raised it.

        An error is never changed: ``raise error.but(step=3) from error``.
        """
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__ | context)
        return copy

    @property
    def was_started(self) -> bool:
        """Whether a connection was available, so that the query was begun on some server."""
        return self.served is not None

    def __repr__(self) -> str:
        """Class, code and detail, as logs show it."""
        return f"<{type(self).__name__} {self.code}: {self.detail}>"


class InternalError(GatewayError):
    """A bug of ours, or a server error of class F0 or XX."""


class InvalidJSON(GatewayError):
    """The body is not JSON we can pass on exactly."""

    code = "invalid_json"
    title = "The body is not valid JSON"


class InvalidRequest(GatewayError):
    """A header or the form of the request is wrong."""

    code = "invalid_request"
    title = "The request is malformed"


class UnknownQuery(GatewayError):
    """No query of this name is in the catalogue."""

    code = "unknown_query"
    title = "No such query"


class NotFound(GatewayError):
    """No such route."""

    code = "not_found"
    title = "Not found"


class NoRow(GatewayError):
    """There is no row where the query expects one, or no value that could be answered without JSON around it."""

    code = "no_row"
    title = "There is no such row"


class MethodNotAllowed(GatewayError):
    """The route exists, the method is not for it."""

    code = "method_not_allowed"
    title = "Method not allowed"


class NotAcceptable(GatewayError):
    """None of the accepted media types can be produced."""

    code = "not_acceptable"
    title = "No acceptable format"


class RequestTimeout(GatewayError):
    """The client did not send its request in time."""

    code = "request_timeout"
    title = "The request did not arrive in time"
    retryable = True


class BodyTooLarge(GatewayError):
    """The body is longer than ``[server] max_body``."""

    code = "body_too_large"
    title = "The body is too large"


class HeadersTooLarge(GatewayError):
    """The request's line or head is longer than is read; only the worker meets it."""

    code = "headers_too_large"
    title = "The request's head is too large"


class UnsupportedMediaType(GatewayError):
    """The body is something other than JSON."""

    code = "unsupported_media_type"
    title = "The body must be application/json"


class InvalidArguments(GatewayError):
    """Names, types or constraints of arguments are wrong; ``faults`` has all of them."""

    code = "invalid_arguments"
    title = "The arguments do not fit the query"


class IdempotencyMismatch(GatewayError):
    """The key was used before, for another request."""

    code = "idempotency_mismatch"
    title = "The Idempotency-Key was used for another request"


class Unauthenticated(GatewayError):
    """Nobody knows who calls: no credentials, or none that are good. Which of the two is not told."""

    code = "unauthenticated"
    title = "Who calls is not known"

    def __init__(
        self, detail: str = "send Authorization: Bearer with a key or token that is in force", **more: Any
    ) -> None:
        super().__init__(detail, **more)


class Forbidden(GatewayError):
    """The server (or a role) does not allow it."""

    code = "forbidden"
    title = "Not allowed"


class Conflict(GatewayError):
    """A unique, foreign key or exclusion constraint says no."""

    code = "conflict"
    title = "The write conflicts with existing data"


class ReloadRefused(GatewayError):
    """What was to be served has faults, or its workers were not ready; ``faults`` has all of them."""

    code = "reload_refused"
    title = "Not reloaded: what was served before is served on"


class UnexpectedAffected(GatewayError):
    """A write touched more rows than its caller wants, or not as many as its query expects; it was rolled back."""

    code = "unexpected_affected"
    title = "The write touches another number of rows than expected"


class SerializationFailure(GatewayError):
    """Another transaction got in the way; the same request may succeed now."""

    code = "serialization_failure"
    title = "Another transaction got in the way"
    retryable = True


class Raised(GatewayError):
    """The database's own code raised this on purpose; its message is the title."""

    code = "raised"
    title = "Raised by the database"


class QueryBroken(GatewayError):
    """The catalogue is wrong, not the caller."""

    code = "query_broken"
    title = "The query does not fit the database"


class RateLimited(GatewayError):
    """The caller calls more often than it may, or more calls of the query run than may at once."""

    code = "rate_limited"
    title = "Too many requests"
    retryable = True

    def __init__(
        self, detail: str = "", *, after: float | None = 1.0, allowances: Sequence[Allowance] = (), **more: Any
    ) -> None:
        """``after``: seconds until it may be tried again; None: never, as it asks for more at once than is allowed."""
        super().__init__(detail, **more)
        self.after: Final = after
        self.allowances: Final = tuple(allowances)


class PoolTimeout(GatewayError):
    """No connection came free before the deadline."""

    code = "pool_timeout"
    title = "No connection came free in time"
    retryable = True


class QueueFull(GatewayError):
    """As many requests wait as may wait."""

    code = "queue_full"
    title = "Too many requests are waiting"
    retryable = True


class NoEndpoint(GatewayError):
    """No endpoint of the group may be given work."""

    code = "no_endpoint"
    title = "No endpoint may answer"
    retryable = True


class TooStale(GatewayError):
    """Nobody who may answer is as fresh as was asked for."""

    code = "too_stale"
    title = "No server is fresh enough"
    retryable = True


class BackendUnavailable(GatewayError):
    """A server refuses connections or work."""

    code = "backend_unavailable"
    title = "The database is not available"
    retryable = True


class CatalogueStale(GatewayError):
    """The database has changed since the query was learnt; it is being learnt anew."""

    code = "catalogue_stale"
    title = "The database has changed"
    retryable = True


class Overloaded(GatewayError):
    """The bodies of requests in progress use as much memory as they may on this node."""

    code = "overloaded"
    title = "Too much is in progress"
    retryable = True


class ConnectionLost(GatewayError):
    """The connection broke while the query was on it; ``outcome`` says what is known of a write."""

    code = "connection_lost"
    title = "The connection to the database was lost"
    retryable = True


class LockTimeout(GatewayError):
    """A lock was not to be had in time (55P03)."""

    code = "lock_timeout"
    title = "A lock was not free in time"
    retryable = True


class Cancelled(GatewayError):
    """Somebody cancelled the query on the server (57014) before our own deadline."""

    code = "cancelled"
    title = "The query was cancelled on the server"
    retryable = True


class Draining(GatewayError):
    """This process is shutting down and takes no new work."""

    code = "draining"
    title = "The gateway is shutting down"
    retryable = True


class DeadlineExceeded(GatewayError):
    """The whole answer was not there in time."""

    code = "deadline_exceeded"
    title = "The deadline passed"
    retryable = True


class ResultTooLarge(GatewayError):
    """More rows than ``@max_rows`` or more bytes than ``[server] max_result_bytes``."""

    code = "result_too_large"
    title = "The result is too large"


class ClientGone(GatewayError):
    """The client hung up; nobody reads this answer, logs and metrics do."""

    code = "client_closed_request"
    title = "The client closed the request"
