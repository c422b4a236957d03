"""The events that change what is known of an endpoint, and how they change it: its state machine. Pure.

Moves::

    event                        UNKNOWN    IN                    SUSPECT            OUT
    Probed                       IN         IN                    IN, an entry       IN, an entry
    ProbeFailed(lost)            OUT        SUSPECT, probe wanted OUT                OUT, newest reason
    ProbeFailed(other reason)    OUT        OUT                   OUT                OUT, newest reason
    ConnectFailed(refused, lost,
      starting_up)               OUT        SUSPECT, probe wanted -                  OUT, newest reason
    ConnectFailed(other reason)  OUT        probe wanted          -                  OUT, newest reason
    ProbeFailed(None)            OUT        -                     -                  OUT, refused
    ConnectFailed(None)          -          -                     -                  -
    Connected(role)              IN         role noted            role noted         role noted
    Lost                         -          SUSPECT, probe wanted -                  -
    Silent                       -          probe wanted          -                  -

Only a probe brings an endpoint back. A loss of a connection that was opened before the endpoint last came back is
ignored: connections from before a restart say nothing against the restarted server. An endpoint that comes back
for the fourth time in 30 seconds is *held*: observed, and used only where no other endpoint may answer.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role, same_system

ENTRIES = 3
"""How often an endpoint may come back within ``ENTRIES_WITHIN`` seconds before it is held."""
ENTRIES_WITHIN = 30.0

_DOUBTFUL = frozenset({Reason.REFUSED, Reason.LOST, Reason.STARTING_UP})
"""Reasons of a failed connect for which an endpoint gets no new work until it has been probed."""


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """A probe found the server good."""

    role: Role
    ping_ms: float
    lag_ms: float | None = None
    lag_bytes: int | None = None
    system: str | None = None
    timeline: int | None = None
    position: int | None = None
    streaming: bool | None = None
    server_version: str | None = None


class ProbeFailed(msgspec.Struct, frozen=True):
    """A probe found the server not good; without a reason (``too many connections``) its sessions may still serve."""

    reason: Reason | None
    message: str


class ConnectFailed(msgspec.Struct, frozen=True):
    """A connection could not be opened; without a reason it says nothing against the endpoint."""

    reason: Reason | None
    message: str


class Connected(msgspec.Struct, frozen=True):
    """A connection reported the role of its server: it was just opened, or the role has changed."""

    role: Role


class Lost(msgspec.Struct, frozen=True):
    """The server broke a connection."""

    message: str
    opened_at: float
    """When that connection was opened (``time.monotonic``)."""


class Silent(msgspec.Struct, frozen=True):
    """A read has had no answer for so long that the endpoint should be probed."""


class Drain(msgspec.Struct, frozen=True):
    """An operator takes the endpoint out of the rotation; work in progress is finished."""


class Resume(msgspec.Struct, frozen=True):
    """An operator puts it back."""


class Resolved(msgspec.Struct, frozen=True):
    """The endpoint's host name was looked up."""

    addresses: tuple[str, ...]


class PreparedLost(msgspec.Struct, frozen=True):
    """A statement that was prepared there is not any more, because of a pooler in between."""


Event = Probed | ProbeFailed | ConnectFailed | Connected | Lost | Silent | Drain | Resume | Resolved | PreparedLost


def step(
    view: EndpointView,
    event: Event,
    *,
    others: Iterable[EndpointView],
    max_lags: Mapping[str, float],
    now: float,
    wall: float,
) -> EndpointView:
    """Return the view after the event, as the table above says; the same object if nothing changes.

    ``others``: the views of the other endpoints. ``max_lags``: seconds, by group.
    """
    match event:
        case Probed():
            return _probed(view, event, max_lags, now=now, wall=wall)
        case ProbeFailed(reason, message):
            failed = replace(view, ping_ok=False, ping_ms=None, ping_at=now, lag_ms=None, lag_bytes=None)
            if reason is None and view.state in (EndpointState.UNKNOWN, EndpointState.OUT):
                reason = Reason.REFUSED  # there are no sessions that could serve
            if reason is Reason.LOST and view.state is EndpointState.IN:
                return _suspected(failed, reason, message, now=now, wall=wall)
            return _failed(failed, reason, message, now=now, wall=wall)
        case ConnectFailed(reason, message):
            return _connect_failed(view, reason, message, now=now, wall=wall)
        case Connected(role):
            return _connected(view, role, others, now=now, wall=wall)
        case Lost(message, opened_at):
            if view.state is not EndpointState.IN or opened_at < view.entered_at:
                return view
            return _suspected(view, Reason.LOST, message, now=now, wall=wall)
        case Silent():
            return _wanted(view, now) if view.state is EndpointState.IN else view
        case Drain():
            return replace(view, drained=True)
        case Resume():
            return replace(view, drained=False, wanted_at=now)
        case Resolved(addresses):
            return view if addresses == view.addresses else replace(view, addresses=addresses)
        case PreparedLost():
            return view if view.unprepared else replace(view, unprepared=True)


def _probed(
    view: EndpointView, seen: Probed, max_lags: Mapping[str, float], *, now: float, wall: float
) -> EndpointView:
    deaf_since = view.deaf_since
    if seen.streaming or seen.role is Role.PRIMARY:
        deaf_since = None
    elif view.streaming and seen.streaming is False:
        deaf_since = now
    return replace(
        _entered(view, now=now, wall=wall),
        role=seen.role,
        ping_ok=True,
        ping_ms=seen.ping_ms,
        ping_at=now,
        lag_ms=seen.lag_ms,
        lag_bytes=seen.lag_bytes,
        lagging=_lagging(view, seen, max_lags),
        system=seen.system or view.system,
        timeline=seen.timeline,
        position=seen.position,
        streaming=seen.streaming,
        deaf_since=deaf_since,
        server_version=seen.server_version or view.server_version,
    )


def _lagging(view: EndpointView, seen: Probed, max_lags: Mapping[str, float]) -> tuple[str, ...]:
    """Out above the limit, back below half of it."""
    if seen.role is Role.PRIMARY:
        return ()
    if seen.lag_ms is None:
        return view.lagging
    return tuple(
        group
        for group, limit in max_lags.items()
        if seen.lag_ms > limit * 1000 * (0.5 if group in view.lagging else 1.0)
    )


def _entered(view: EndpointView, *, now: float, wall: float) -> EndpointView:
    entries = tuple(entry for entry in view.entries if now - entry < ENTRIES_WITHIN)
    match view.state:
        case EndpointState.IN if not view.held:
            return view
        case EndpointState.IN if len(entries) >= ENTRIES:
            return view
        case EndpointState.IN:
            return replace(view, held=False, reason=None, message="", entries=(*entries, now))
        case EndpointState.UNKNOWN:
            return _moved(view, EndpointState.IN, now=now, wall=wall)
    entered = replace(_moved(view, EndpointState.IN, now=now, wall=wall), entered_at=now, entries=entries)
    if len(entries) < ENTRIES:
        return replace(entered, entries=(*entries, now))
    message = f"came back more than {ENTRIES} times within {ENTRIES_WITHIN:.0f} s"
    return replace(entered, held=True, reason=view.reason, message=message)


def _connect_failed(
    view: EndpointView, reason: Reason | None, message: str, *, now: float, wall: float
) -> EndpointView:
    if reason is None or view.state is EndpointState.SUSPECT:
        return view
    if view.state is not EndpointState.IN:
        return _failed(view, reason, message, now=now, wall=wall)
    if reason in _DOUBTFUL:
        return _suspected(view, reason, message, now=now, wall=wall)
    return _wanted(view, now)  # connections that are open may go on serving


def _connected(
    view: EndpointView, role: Role, others: Iterable[EndpointView], *, now: float, wall: float
) -> EndpointView:
    if view.state is EndpointState.UNKNOWN:
        return replace(_moved(view, EndpointState.IN, now=now, wall=wall), role=role, wanted_at=now)
    if role is view.role:
        return view
    timeline = view.timeline
    if role is Role.PRIMARY:
        # A promotion always begins a timeline: the old primary is out at once, not only when a probe has looked.
        known = [other.timeline for other in (view, *others) if other.timeline and same_system(view, other)]
        timeline = max(known) + 1 if known else None
    return replace(view, role=role, timeline=timeline, lagging=(), wanted_at=now)


def _suspected(view: EndpointView, reason: Reason, message: str, *, now: float, wall: float) -> EndpointView:
    moved = _moved(view, EndpointState.SUSPECT, now=now, wall=wall)
    return replace(moved, reason=reason, message=message, wanted_at=now, held=False)


def _failed(view: EndpointView, reason: Reason | None, message: str, *, now: float, wall: float) -> EndpointView:
    if reason is None or (view.state is EndpointState.OUT and (view.reason, view.message) == (reason, message)):
        return view
    return replace(_moved(view, EndpointState.OUT, now=now, wall=wall), reason=reason, message=message, held=False)


def _wanted(view: EndpointView, now: float) -> EndpointView:
    """The same view, with a probe asked for, unless one that was asked for has not ended so far."""
    return view if view.wanted_at > (view.ping_at or 0.0) else replace(view, wanted_at=now)


def _moved(view: EndpointView, state: EndpointState, *, now: float, wall: float) -> EndpointView:
    if view.state is state:
        return view
    in_until = now if view.state is EndpointState.IN else None if state is EndpointState.IN else view.in_until
    return replace(view, state=state, since=now, since_wall=wall, in_until=in_until, reason=None, message="")
