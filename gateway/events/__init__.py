"""What can happen in a gateway that an operator may want to know, and who is told.

Whoever has something to report creates one of these values and calls the ``Observer`` it was constructed with. Nothing
else logs: the log (``server.log``) and the metrics (``gateway.metrics``) only read events. ``str`` of an event is its
sentence for people; its fields are for programs. No field holds an argument's value, SQL text or a secret.

``EVENTS`` is the list of all. docs/operations.md says of each when it happens.
"""

from gateway.events.callers import KeySetNotFetched, KeysFileRefused
from gateway.events.endpoints import (
    ConnectFailed,
    ConnectionClosed,
    ConnectionOpened,
    EndpointDrained,
    EndpointLagged,
    EndpointMoved,
)
from gateway.events.event import Event, Level, Observer, ignore
from gateway.events.queries import CatalogueChanged, LearningInterrupted, LearningNotShared, QueryRefused
from gateway.events.requests import (
    CallRepeated,
    ClientTooSlow,
    RequestEvent,
    RequestFailed,
    RequestRefused,
    RequestServed,
    RequestSlow,
    WriteAudited,
)
from gateway.events.workers import (
    BugFound,
    CannotAccept,
    CertificateNotTaken,
    CertificateTaken,
    KeysNotSwept,
    LoopHeld,
    NodeNotShared,
    NotReady,
    Reloaded,
    ReloadRefused,
    ReloadWarned,
    WorkerEnds,
)

EVENTS: tuple[type[Event], ...] = (
    EndpointMoved,
    EndpointLagged,
    EndpointDrained,
    ConnectionOpened,
    ConnectFailed,
    ConnectionClosed,
    QueryRefused,
    CatalogueChanged,
    LearningInterrupted,
    LearningNotShared,
    RequestFailed,
    RequestServed,
    RequestSlow,
    WriteAudited,
    CallRepeated,
    RequestRefused,
    ClientTooSlow,
    KeysFileRefused,
    KeySetNotFetched,
    BugFound,
    NodeNotShared,
    Reloaded,
    ReloadRefused,
    ReloadWarned,
    NotReady,
    KeysNotSwept,
    LoopHeld,
    WorkerEnds,
    CannotAccept,
    CertificateTaken,
    CertificateNotTaken,
)

__all__ = [
    "EVENTS",
    "BugFound",
    "CallRepeated",
    "CannotAccept",
    "CatalogueChanged",
    "CertificateNotTaken",
    "CertificateTaken",
    "ClientTooSlow",
    "ConnectFailed",
    "ConnectionClosed",
    "ConnectionOpened",
    "EndpointDrained",
    "EndpointLagged",
    "EndpointMoved",
    "Event",
    "KeySetNotFetched",
    "KeysFileRefused",
    "KeysNotSwept",
    "LearningInterrupted",
    "LearningNotShared",
    "Level",
    "LoopHeld",
    "NodeNotShared",
    "NotReady",
    "Observer",
    "QueryRefused",
    "ReloadRefused",
    "ReloadWarned",
    "Reloaded",
    "RequestEvent",
    "RequestFailed",
    "RequestRefused",
    "RequestServed",
    "RequestSlow",
    "WorkerEnds",
    "WriteAudited",
    "ignore",
]
