"""What happens to requests."""

from gateway.events.event import Event, Level


class RequestFailed(Event, frozen=True, kw_only=True):
    """A request ended in an error that its caller did not cause."""

    name = "request_failed"
    request_id: str
    status: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.status} {self.code}: {self.detail}"


class RequestEvent(Event, frozen=True, kw_only=True):
    """What is told of a call that was answered, or failed."""

    request_id: str
    query: str
    """Its name, ``transaction``, or ``unknown``."""
    caller: str = ""
    """Empty: nobody was asked who they are."""
    trace_id: str = ""
    status: int
    code: str = ""
    """Of a failure."""
    endpoint: str = ""
    """On which the query was run; empty where it was not."""
    ms: float
    """From its arrival until its answer was ready."""

    @property
    def _words(self) -> str:
        by = f" for {self.caller}" if self.caller else ""
        on = f" on {self.endpoint}" if self.endpoint else ""
        return f"request {self.request_id}: {self.query}{by}{on}: {self.status}{f' {self.code}' if self.code else ''}"


class RequestServed(RequestEvent, frozen=True, kw_only=True):
    """A call was answered; told as ``[log] access`` says."""

    name = "request_served"
    is_limited = False
    severity = Level.INFO

    def __str__(self) -> str:
        return f"{self._words} in {self.ms} ms"


class RequestSlow(RequestEvent, frozen=True, kw_only=True):
    """A call took longer than ``[log] slow``."""

    name = "request_slow"
    queue_ms: float
    """Of it, waiting for a connection."""
    db_ms: float
    """Of it, with the connection."""
    attempts: int
    arguments: tuple[str, ...] = ()
    """Names of the query's parameters, never values."""
    query_id: str | None = None
    """As ``pg_stat_statements`` has it."""

    def __str__(self) -> str:
        spent = f"queue {self.queue_ms} ms, database {self.db_ms} ms"
        return f"{self._words} took {self.ms} ms: {spent}"


class WriteAudited(RequestEvent, frozen=True, kw_only=True):
    """A call that writes was answered, or failed; told where ``[log] audit`` is ``writes``."""

    name = "write_audited"
    is_limited = False
    severity = Level.INFO
    queries: tuple[str, ...] = ()
    """Of a transaction's steps."""
    arguments: tuple[str, ...] = ()
    """Names of the query's parameters, never values."""
    affected: int | None = None
    """Rows, where that is known."""
    outcome: str | None = None
    replayed: bool

    def __str__(self) -> str:
        touched = "" if self.affected is None else f", {self.affected} rows"
        replayed = ", replayed" if self.replayed else ""
        return f"{self._words}, {self.outcome or 'not executed'}{touched}{replayed}"


class RequestEnded(Event, frozen=True, kw_only=True):
    """An operator ended requests that were in flight."""

    name = "request_ended"
    severity = Level.INFO
    ended: str
    """Their id."""
    request_id: str
    """Of the request that asked for it."""
    caller: str = ""

    def __str__(self) -> str:
        return f"request {self.ended} was ended by request {self.request_id}"


class CallRepeated(Event, frozen=True, kw_only=True):
    """A call is run once more, as its failure was the server's and nothing of it has happened."""

    name = "call_repeated"
    severity = Level.DEBUG
    request_id: str
    group: str
    reason: str
    """Code of the failure."""

    def __str__(self) -> str:
        return f"request {self.request_id}: run once more in group {self.group} after {self.reason}"


class TracesNotExported(Event, frozen=True, kw_only=True):
    """The collector does not take spans, which are given up: told once until it takes some again."""

    name = "traces_not_exported"
    spans: int
    detail: str

    def __str__(self) -> str:
        return (
            f"the collector of [traces] endpoint does not take spans, which are given up until it does: {self.detail}"
        )


class RequestRefused(Event, frozen=True, kw_only=True):
    """What a client sent was refused before it was a request: it cannot be read, or took too long."""

    name = "request_refused"
    severity = Level.DEBUG
    status: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"a request was refused: {self.status} {self.code}: {self.detail}"


class ClientTooSlow(Event, frozen=True, kw_only=True):
    """A client did not take its answer in time, and was disconnected."""

    name = "client_too_slow"
    severity = Level.INFO
    unsent: int
    """Bytes."""

    def __str__(self) -> str:
        return f"a client did not take its answer in time: {self.unsent} bytes are left"
