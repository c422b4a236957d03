"""What can happen in a gateway that an operator may want to know, and who is told.

Whoever has something to report creates one of these values and calls the ``Observer`` it was constructed with. Nothing
else logs: a log, and later metrics, only read events. ``str`` of an event is its sentence for people; its fields are
for programs. No field holds an argument's value, SQL text or a secret.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

import msgspec


class Level(IntEnum):
    """How urgent an event is; the numbers are those of ``logging``."""

    INFO = 20
    WARNING = 30
    ERROR = 40


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened. ``level`` may differ between events of one class."""

    name: ClassVar[str] = "event"
    """What the event is called in logs."""

    severity: ClassVar[Level] = Level.WARNING
    """How urgent such an event is, where that does not depend on what it says."""

    @property
    def level(self) -> Level:
        """How urgent this one is."""
        return self.severity


Observer = Callable[[Event], None]
"""Takes an event. It returns at once and never raises: it is called while requests wait, and under no lock."""


def ignore(_event: Event) -> None:
    """Observe nothing: for what is constructed outside of a worker."""


# --- endpoints --------------------------------------------------------------------------------------------------------


class EndpointMoved(Event, frozen=True, kw_only=True):
    """The standing of an endpoint in the rotation changed."""

    name = "endpoint_moved"
    endpoint: str
    standing: str
    """As a phrase: ``in the rotation as replica``, ``out of the rotation, refused``."""
    serves: bool
    """Whether it may be given new work now."""
    message: str = ""
    """The last thing that went wrong, in one line."""

    @property
    def level(self) -> Level:
        """A warning where the endpoint does not serve."""
        return Level.INFO if self.serves else Level.WARNING

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}: {self.standing}{f': {self.message}' if self.message else ''}"


class EndpointLagged(Event, frozen=True, kw_only=True):
    """The lag of a replica crossed a group's limit, or fell below half of it."""

    name = "endpoint_lagged"
    endpoint: str
    group: str
    lags: bool
    lag_ms: float | None

    @property
    def level(self) -> Level:
        """A warning where the replica is too far behind."""
        return Level.WARNING if self.lags else Level.INFO

    def __str__(self) -> str:
        told = (
            f"too far behind for group {self.group}: {self.lag_ms} ms"
            if self.lags
            else f"fresh enough for {self.group}"
        )
        return f"endpoint {self.endpoint}: {told}"


class EndpointDrained(Event, frozen=True, kw_only=True):
    """An operator took an endpoint out of the rotation, or put it back."""

    name = "endpoint_drained"
    severity = Level.INFO
    endpoint: str
    drained: bool
    request_id: str | None = None
    """Of the request that asked for it, in the worker that received it."""

    def __str__(self) -> str:
        by = f" by request {self.request_id}" if self.request_id else ""
        return f"endpoint {self.endpoint}: {'drained' if self.drained else 'no longer drained'}{by}"


# --- queries ----------------------------------------------------------------------------------------------------------


class QueryRefused(Event, frozen=True, kw_only=True):
    """The server does not accept a query of the catalogue, so that it cannot be served."""

    name = "query_refused"
    query: str
    file: str
    line: int
    fault: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.query} cannot be served: {self.fault}"


class CatalogueChanged(Event, frozen=True, kw_only=True):
    """The database is not as it was when the queries were learnt: somebody has migrated it."""

    name = "catalogue_changed"
    severity = Level.INFO
    parts: int
    """Tables, types, functions and so on that have changed."""
    queries: int
    """Queries that depend on them, and are learnt anew."""

    def __str__(self) -> str:
        return f"the database has changed: queries learnt anew: {self.queries}, objects concerned: {self.parts}"


class LearningInterrupted(Event, frozen=True, kw_only=True):
    """The connection was lost while the types of the queries were being learnt; it is tried again."""

    name = "learning_interrupted"
    detail: str

    def __str__(self) -> str:
        return f"learning the queries' types was interrupted: {self.detail}"


class LearningNotShared(Event, frozen=True, kw_only=True):
    """What this worker learns cannot be written for the other workers of the node."""

    name = "learning_not_shared"
    detail: str

    def __str__(self) -> str:
        return f"what the servers say of the queries is no longer shared between workers: {self.detail}"


# --- requests ---------------------------------------------------------------------------------------------------------


class RequestFailed(Event, frozen=True, kw_only=True):
    """A request ended in an error that its caller did not cause."""

    name = "request_failed"
    request_id: str
    status: int
    code: str
    detail: str

    def __str__(self) -> str:
        return f"request {self.request_id}: {self.status} {self.code}: {self.detail}"


class ClientTooSlow(Event, frozen=True, kw_only=True):
    """A client did not take its answer in time, and was disconnected."""

    name = "client_too_slow"
    severity = Level.INFO
    unsent: int
    """Bytes."""

    def __str__(self) -> str:
        return f"a client did not take its answer in time: {self.unsent} bytes are left"


# --- who calls --------------------------------------------------------------------------------------------------------


class KeysFileRefused(Event, frozen=True, kw_only=True):
    """The file of API keys has changed and cannot be used; the keys read before stay in force."""

    name = "keys_file_refused"
    severity = Level.ERROR
    faults: int
    first: str
    """The first of them."""

    def __str__(self) -> str:
        more = f", and {self.faults - 1} more faults" if self.faults > 1 else ""
        return f"API keys are not taken over, those read before stay in force: {self.first}{more}"


# --- the node and its workers -----------------------------------------------------------------------------------------


class BugFound(Event, frozen=True, kw_only=True):
    """An exception that nobody expected. What it interrupted goes on with the next request or the next round."""

    name = "bug_found"
    severity = Level.ERROR
    where: str
    """What was interrupted, as a phrase: ``the probe of endpoint replica1``."""
    error: BaseException
    request_id: str | None = None

    def __str__(self) -> str:
        of = f"request {self.request_id}: " if self.request_id else ""
        return f"{of}a bug of the gateway interrupted {self.where}: {type(self.error).__name__}"


class NodeNotShared(Event, frozen=True, kw_only=True):
    """A file in the runtime directory cannot be used: this worker goes on without the part of the node it holds."""

    name = "node_not_shared"
    what: str
    """What is not shared, as a sentence without its end: ``connections of group read are not counted``."""
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


class KeysNotSwept(Event, frozen=True, kw_only=True):
    """Expired idempotency keys could not be deleted; it is tried again."""

    name = "keys_not_swept"
    detail: str

    def __str__(self) -> str:
        return f"expired idempotency keys could not be deleted: {self.detail}"


class LoopHeld(Event, frozen=True, kw_only=True):
    """The worker's event loop did not turn for some time."""

    name = "loop_held"
    ms: int
    stack: str
    """Of the thread that held it."""

    def __str__(self) -> str:
        return f"the event loop did not turn for {self.ms} ms, held by:\n{self.stack}"


class WorkerEnds(Event, frozen=True, kw_only=True):
    """This worker ends by itself: it served as many requests as it may, or its master is gone."""

    name = "worker_ends"
    severity = Level.INFO
    reason: str

    def __str__(self) -> str:
        return f"this worker ends: {self.reason}"


class CannotAccept(Event, frozen=True, kw_only=True):
    """Connections of clients cannot be accepted."""

    name = "cannot_accept"
    severity = Level.ERROR
    detail: str

    def __str__(self) -> str:
        return f"cannot accept connections: {self.detail}"
