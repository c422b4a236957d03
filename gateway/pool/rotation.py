"""Which endpoints may be given new work: the state machine "endpoint", and who is a candidate for whom.

``step``, ``objection`` and ``candidates`` are pure; ``Rotation`` keeps the views and tells its listeners.

Moves::

    event                        UNKNOWN    IN                    SUSPECT            OUT
    Probed                       IN         IN                    IN, an entry       IN, an entry
    ProbeFailed(lost)            OUT        SUSPECT, probe wanted OUT                OUT, newest reason
    ProbeFailed(other reason)    OUT        OUT                   OUT                OUT, newest reason
    ConnectFailed(refused, lost,
      starting_up)               OUT        SUSPECT, probe wanted -                  OUT, newest reason
    ConnectFailed(other reason)  OUT        probe wanted          -                  OUT, newest reason
    ...Failed(None)              -          -                     -                  -
    Connected(role)              IN         role noted            role noted         role noted
    Lost                         -          SUSPECT, probe wanted -                  -
    Silent                       -          probe wanted          -                  -

Only a probe brings an endpoint back. Evidence from a connection that was opened before the endpoint last came back is
stale: the dead connections of before a restart say nothing against the restarted server. An endpoint that comes back
for the fourth time in 30 seconds is *held*: observed, and used only where nobody else may answer.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from gateway.pool.driver import Reason, Role
from gateway.pool.endpoint import EndpointState, EndpointView

Fallback = Literal["primary", "none"]

LATELY = 5.0
"""Seconds for which reads wait for the only server there is, as writes do (reliability.md, promise 4)."""
ENTRIES = 3
"""How often an endpoint may come back within ``ENTRIES_WITHIN`` seconds before it is held."""
ENTRIES_WITHIN = 30.0
DEAF_AFTER = 1.0
"""Seconds without a WAL receiver after which a replica is out, if there is a primary to receive from."""

_DOUBTFUL = frozenset({Reason.REFUSED, Reason.LOST, Reason.STARTING_UP})
"""What a failed connect must say to take away new work until a probe has looked."""


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
    """The server broke a connection."""

    message: str
    opened_at: float
    """When that connection was opened (``time.monotonic``)."""


class Silent(msgspec.Struct, frozen=True):
    """A read has had no answer for long enough to ask what is wrong."""


class Drain(msgspec.Struct, frozen=True):
    """Somebody wants the endpoint out of the rotation, its work in flight finished."""


class Resume(msgspec.Struct, frozen=True):
    """Somebody wants it back."""


class Resolved(msgspec.Struct, frozen=True):
    """The endpoint's host name was looked up."""

    addresses: tuple[str, ...]


Event = Probed | ProbeFailed | ConnectFailed | Connected | Lost | Silent | Drain | Resume | Resolved


class Needs(msgspec.Struct, frozen=True):
    """What a group asks of its endpoints."""

    group: str
    access_write: bool
    fallback: Fallback = "primary"


class Candidates(msgspec.Struct, frozen=True):
    """The endpoints a group may use now, each in the order they are named in the group."""

    serving: tuple[str, ...] = ()
    """May be given any work of the group."""
    reserve: tuple[str, ...] = ()
    """May be given work that asks for them by name: the primary of a read group, while replicas serve."""
    suspect: tuple[str, ...] = ()
    """Were serving, and may be again in a moment."""
    untried: tuple[str, ...] = ()
    """Not looked at yet: tried for new connections when no serving one will do."""


def step(
    view: EndpointView,
    event: Event,
    *,
    others: Iterable[EndpointView],
    max_lags: Mapping[str, float],
    now: float,
    wall: float,
) -> EndpointView:
    """The view after the event, as the table above says; the same object if nothing changes.

    ``others``: the views of the other endpoints. ``max_lags``: seconds, by group.
    """
    match event:
        case Probed():
            return _probed(view, event, max_lags, now=now, wall=wall)
        case ProbeFailed(reason, message):
            failed = replace(view, ping_ok=False, ping_ms=None, ping_at=now, lag_ms=None, lag_bytes=None)
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
        known = [other.timeline for other in (view, *others) if other.timeline and _same_system(view, other)]
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
    """The same view, with a probe wanted, unless one that is wanted has not come yet."""
    return view if view.wanted_at > (view.ping_at or 0.0) else replace(view, wanted_at=now)


def _moved(view: EndpointView, state: EndpointState, *, now: float, wall: float) -> EndpointView:
    if view.state is state:
        return view
    in_until = now if view.state is EndpointState.IN else None if state is EndpointState.IN else view.in_until
    return replace(view, state=state, since=now, since_wall=wall, in_until=in_until, reason=None, message="")


def _same_system(one: EndpointView, other: EndpointView) -> bool:
    return one.system is None or other.system is None or one.system == other.system


def objection(view: EndpointView, views: Sequence[EndpointView], needs: Needs) -> Reason | None:
    """Why an endpoint may not serve a group with these endpoints now; None: it may.

    A primary may serve reads by this, where the group's fallback allows it: whether it does is ``candidates``' to say.
    """
    if view.drained:
        return Reason.DRAINED
    if view.state is not EndpointState.IN:
        return view.reason or Reason.UNKNOWN
    if not _same_system(view, _reference(views)):
        return Reason.UNKNOWN
    primaries = [
        other
        for other in views
        if other.role is Role.PRIMARY and other.state is EndpointState.IN and _same_system(view, other)
    ]
    newest = max((primary.timeline or 0 for primary in primaries), default=0)
    is_old = view.timeline is not None and view.timeline < newest
    if view.role is Role.PRIMARY:
        if is_old:
            return Reason.OLD_TIMELINE
        return None if needs.access_write or needs.fallback == "primary" else Reason.WRONG_ROLE
    if needs.access_write:
        return Reason.WRONG_ROLE
    if is_old and view.streaming:
        return Reason.OLD_TIMELINE  # it follows the old primary, which still runs
    if primaries and view.deaf_since is not None and (view.ping_at or 0.0) - view.deaf_since >= DEAF_AFTER:
        return Reason.NOT_STREAMING
    return Reason.LAGGING if needs.group in view.lagging else None


def _reference(views: Sequence[EndpointView]) -> EndpointView:
    """Of which cluster a group is, if its endpoints do not agree: of the one most of them belong to, else the first."""
    systems = [view.system for view in views if view.system is not None]
    return max(views, key=lambda view: systems.count(view.system or ""))


def candidates(views: Sequence[EndpointView], needs: Needs) -> Candidates:
    """Who may be given work of a group with these endpoints.

    Writes go to primaries of the newest timeline. Reads go to replicas, and to primaries only with
    ``fallback="primary"`` and no replica in the rotation.
    """
    fit = [view for view in views if objection(view, views, needs) is None]
    tiers = [
        tuple(view.name for view in fit if view.role is role and view.held is held)
        for held in (False, True)
        for role in (Role.REPLICA, Role.PRIMARY)
    ]
    serving = next(filter(None, tiers), ())
    primaries = () if needs.access_write else tuple(view.name for view in fit if view.role is Role.PRIMARY)
    return Candidates(
        serving=serving,
        reserve=tuple(name for name in primaries if name not in serving),
        suspect=tuple(view.name for view in views if view.state is EndpointState.SUSPECT and not view.drained),
        untried=tuple(view.name for view in views if view.state is EndpointState.UNKNOWN and not view.drained),
    )


class Views(Protocol):
    """Where the views are kept: here (``LocalViews``), or shared by the processes of a node (``node.board``)."""

    @property
    def version(self) -> int:
        """Grows with every change, whoever made it."""

    def read(self) -> Mapping[str, EndpointView]:
        """The newest view of every endpoint, in the order they were given."""

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view, with nobody changing any of them meanwhile; returns what ``change`` returned.

        Nothing is written, and the version stays, where that is the very object it was given.
        """


class LocalViews:
    """The views of one process."""

    def __init__(
        self,
        endpoints: Iterable[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        now, epoch = clock(), wall()
        self.version = 0
        self._views = {name: EndpointView(name=name, since=now, since_wall=epoch) for name in endpoints}
        self._lock = threading.Lock()

    def read(self) -> Mapping[str, EndpointView]:
        """The newest view of every endpoint, in the order they were given."""
        return dict(self._views)

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view, with nobody changing any of them meanwhile."""
        with self._lock:
            view = change(self._views)
            if view is not self._views[view.name]:
                self._views[view.name] = view
                self.version += 1
        return view


class Rotation:
    """All endpoints of a node as this process sees them, and who wants to know when something is learnt of one.

    NOTE: readers take no lock: the views are replaced all together. Listeners are told after that and look for
    themselves, so that the later of two changes leaves them with what holds.
    """

    def __init__(
        self,
        *,
        views: Views,
        max_lags: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``max_lags``: seconds by group, for groups that read."""
        self._store = views
        self._max_lags = dict(max_lags or {})
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._seen = self.told = views.version
        """``told``: the version that every listener has been told of."""
        self._views = views.read()
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """The version of the views, whoever made it; after ``apply`` what was learnt is in it."""
        return self._store.version

    @property
    def names(self) -> tuple[str, ...]:
        """All endpoints, in the order they were given."""
        return tuple(self._views)

    def view(self, name: str) -> EndpointView:
        """The newest view of an endpoint; KeyError for a name that was not given."""
        return self._views[name]

    def views(self) -> tuple[EndpointView, ...]:
        """The newest view of every endpoint."""
        return tuple(self._views.values())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change, in the thread that brought it."""
        self._listeners.append(listener)

    def apply(self, name: str, event: Event) -> EndpointView:
        """Learn something of an endpoint, tell the listeners, return the new view. Hold no lock when calling."""

        def change(views: Mapping[str, EndpointView]) -> EndpointView:
            others = (view for view in views.values() if view.name != name)
            now, wall = self._clock(), self._wall()
            return step(views[name], event, others=others, max_lags=self._max_lags, now=now, wall=wall)

        view = self._store.change(change)
        self.poll()
        return view

    @property
    def has_news(self) -> bool:
        """Whether something changed, here or in another process, that ``poll`` has not taken over yet."""
        return self._store.version != self._seen

    def poll(self) -> bool:
        """Take over what changed, here or in another process, and tell the listeners; False if nothing did."""
        if not self.has_news:
            return False
        with self._lock:
            seen = self._seen = self._store.version
            self._views = self._store.read()
        for listener in self._listeners:
            listener()
        with self._lock:
            self.told = max(self.told, seen)
        return True

    def candidates(self, names: Iterable[str], needs: Needs) -> Candidates:
        """Who of these endpoints may be given work now."""
        return candidates([self.view(name) for name in names], needs)

    def objection(self, name: str, names: Iterable[str], needs: Needs) -> Reason | None:
        """Why an endpoint may not serve a group with these endpoints now; None: it may."""
        return objection(self.view(name), [self.view(other) for other in names], needs)

    def is_back_soon(self, now: float) -> bool:
        """Whether reads better wait than fail: the only server there is was in the rotation lately."""
        if len(self._views) != 1:
            return False
        (view,) = self.views()
        return view.in_until is not None and now - view.in_until < LATELY

    def __repr__(self) -> str:
        return f"<Rotation {'; '.join(map(str, self.views()))}>"
