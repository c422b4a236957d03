"""Which endpoints may be given new work: the state machine "endpoint", and who is a candidate for whom.

``step`` and ``candidates`` are pure; ``Rotation`` keeps the views and tells its listeners.

Moves::

    event                    UNKNOWN           IN                 OUT
    Probed                   IN                IN                 IN
    ProbeFailed(reason)      OUT               OUT                OUT, newest reason
    ConnectFailed(reason)    OUT               OUT                OUT, newest reason
    ConnectFailed(None)      -                 -                  -          (ProbeFailed(None) likewise)
    Connected(role)          IN                role noted         role noted, only a probe brings it back
    Lost                     OUT (lost)        OUT (lost)         -
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from gateway.pool.driver import Reason, Role
from gateway.pool.endpoint import Endpoint, EndpointState, EndpointView

Fallback = Literal["primary", "none"]

LATELY = 5.0
"""Seconds for which reads wait for the only server there is, as writes do (reliability.md, promise 4)."""


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """A probe found the server good."""

    role: Role
    ping_ms: float
    lag_ms: float | None = None
    lag_bytes: int | None = None
    timeline: int | None = None
    server_version: str | None = None


class ProbeFailed(msgspec.Struct, frozen=True):
    """A probe found the server not good; without a reason it says nothing against the endpoint."""

    reason: Reason | None
    message: str


class ConnectFailed(msgspec.Struct, frozen=True):
    """A connection could not be opened; without a reason it says nothing against the endpoint."""

    reason: Reason | None
    message: str


class Connected(msgspec.Struct, frozen=True):
    """A connection said what its server is: just opened, or with news of a promotion."""

    role: Role


class Lost(msgspec.Struct, frozen=True):
    """A connection broke under a request."""

    message: str


Event = Probed | ProbeFailed | ConnectFailed | Connected | Lost


class Candidates(msgspec.Struct, frozen=True):
    """The endpoints a group may use now, in the order they are named in the group."""

    serving: tuple[str, ...] = ()
    """In the rotation, with the right role."""
    untried: tuple[str, ...] = ()
    """Not looked at yet: tried for new connections when no serving one will do."""


def step(view: EndpointView, event: Event, *, now: float, wall: float) -> EndpointView:
    """The view after the event, as the table above says."""
    match event:
        case Probed():
            return replace(
                _moved(view, EndpointState.IN, now=now, wall=wall),
                role=event.role,
                ping_ok=True,
                ping_ms=event.ping_ms,
                ping_at=now,
                lag_ms=event.lag_ms,
                lag_bytes=event.lag_bytes,
                timeline=event.timeline,
                server_version=event.server_version or view.server_version,
            )
        case ProbeFailed(reason, message):
            failed = replace(view, ping_ok=False, ping_ms=None, ping_at=now, lag_ms=None, lag_bytes=None)
            return _failed(failed, reason, message, now=now, wall=wall)
        case ConnectFailed(reason, message):
            return _failed(view, reason, message, now=now, wall=wall)
        case Connected(role):
            known = view.state is not EndpointState.UNKNOWN
            return replace(view if known else _moved(view, EndpointState.IN, now=now, wall=wall), role=role)
        case Lost(message):
            if view.state is EndpointState.OUT:
                return view
            return _failed(view, Reason.LOST, message, now=now, wall=wall)


def _failed(view: EndpointView, reason: Reason | None, message: str, *, now: float, wall: float) -> EndpointView:
    if reason is None:
        return view
    return replace(_moved(view, EndpointState.OUT, now=now, wall=wall), reason=reason, message=message)


def _moved(view: EndpointView, state: EndpointState, *, now: float, wall: float) -> EndpointView:
    if view.state is state:
        return view
    in_until = now if view.state is EndpointState.IN else None
    return replace(view, state=state, since=now, since_wall=wall, in_until=in_until, reason=None, message="")


def candidates(views: Sequence[EndpointView], *, access_write: bool, fallback: Fallback) -> Candidates:
    """Who may be given work of a group with these endpoints.

    Writes go to primaries. Reads go to replicas, and to primaries only with ``fallback="primary"`` and no replica
    in the rotation.
    """
    inside = [view for view in views if view.state is EndpointState.IN]
    primaries = tuple(view.name for view in inside if view.role is Role.PRIMARY)
    replicas = tuple(view.name for view in inside if view.role is Role.REPLICA)
    serving = primaries if access_write else replicas or (primaries if fallback == "primary" else ())
    return Candidates(serving, tuple(view.name for view in views if view.state is EndpointState.UNKNOWN))


class Rotation:
    """All endpoints of a process, and who wants to know when something is learnt of one.

    NOTE: there is no lock. A view is replaced as a whole; of two events at the same moment either may come to be
    the last, as if they had come in that order. Since listeners are told of every event, whether it changed
    anything or not, and look for themselves, the later of two always leaves them with what holds.
    """

    def __init__(
        self,
        *,
        endpoints: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._endpoints = {name: Endpoint(name, now=clock(), wall=wall()) for name in endpoints}
        self._listeners: list[Callable[[], None]] = []

    @property
    def names(self) -> tuple[str, ...]:
        """All endpoints, in the order they were given."""
        return tuple(self._endpoints)

    def view(self, name: str) -> EndpointView:
        """The newest view of an endpoint; KeyError for a name that was not given."""
        return self._endpoints[name].view

    def views(self) -> tuple[EndpointView, ...]:
        """The newest view of every endpoint."""
        return tuple(endpoint.view for endpoint in self._endpoints.values())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every event, in the thread that brought the event."""
        self._listeners.append(listener)

    def apply(self, name: str, event: Event) -> EndpointView:
        """Learn something of an endpoint, tell the listeners, return the new view. Hold no lock when calling."""
        endpoint = self._endpoints[name]
        view = endpoint.view = step(endpoint.view, event, now=self._clock(), wall=self._wall())
        for listener in self._listeners:
            listener()
        return view

    def candidates(self, names: Iterable[str], *, access_write: bool, fallback: Fallback) -> Candidates:
        """Who of these endpoints may be given work now."""
        return candidates([self.view(name) for name in names], access_write=access_write, fallback=fallback)

    def is_back_soon(self, now: float) -> bool:
        """Whether reads better wait than fail: the only server there is was in the rotation lately."""
        if len(self._endpoints) != 1:
            return False
        (view,) = self.views()
        return view.in_until is not None and now - view.in_until < LATELY

    def __repr__(self) -> str:
        return f"<Rotation {'; '.join(map(str, self.views()))}>"
