"""Which endpoints may answer a read that asks for fresh data, and what makes sure that they are fresh.

``lease_request`` chooses before a connection is waited for, from what probes have seen. ``check`` looks again when
there is one, and gives the guard that must go in front of the query. The choice may be wrong; what was checked and
guarded is not.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gateway.errors import InvalidRequest, TooStale
from gateway.pool.lease import LeaseRequest
from gateway.postgres import guarding
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import EndpointState, EndpointView, Role


class Freshness(NamedTuple):
    """What a read asks for. All of it must hold."""

    max_lag: float | None = None
    """Milliseconds."""
    strict: bool = False
    """Rather nobody than the primary, where the group's reads go to replicas."""
    token: Token | None = None
    """The write that must be seen."""
    only_primary: bool = False
    """No replica has the data: it is in an unlogged table."""


def asked_for(*, max_staleness: float | None, strict: bool, token: str | None) -> Freshness | None:
    """What a caller asks for, None if nothing; raises InvalidRequest for a token that is none.

    ``max_staleness``: seconds; ``strict``: rather an error than older data, where ``max_staleness`` is given.
    """
    if token is None and max_staleness is None:
        return None
    return Freshness(
        max_lag=None if max_staleness is None else max_staleness * 1000,
        strict=strict and max_staleness is not None,
        token=None if token is None else Token.read(token),
    )


def lag_now(view: EndpointView, now: float, interval: float) -> float | None:
    """How far a replica may be behind, in milliseconds; None: not known.

    What the last probe saw, and all the time since the next one was due (``interval`` seconds later).
    """
    if view.lag_ms is None or view.ping_at is None:
        return None
    overdue = now - view.ping_at - interval
    return view.lag_ms + overdue * 1000 if overdue > 0 else view.lag_ms


def newest_timeline(views: Iterable[EndpointView]) -> int | None:
    """The timeline of the primary, if it is known; of several, the newest."""
    timelines = (view.timeline for view in views if view.role is Role.PRIMARY and view.state is EndpointState.IN)
    return max(filter(None, timelines), default=None)


def refuse_foreign(token: Token, views: Iterable[EndpointView]) -> None:
    """Raise InvalidRequest if none of these endpoints is of the token's cluster."""
    systems = {view.system for view in views if view.system is not None}
    if systems and str(token.system) not in systems:
        raise InvalidRequest("Gateway-Consistency-Token: the token is of another database cluster")


def lease_request(
    asked: Freshness,
    *,
    serving: Sequence[EndpointView],
    reserve: Sequence[EndpointView],
    newest: int | None,
    patient: bool,
    late: frozenset[str],
    now: float,
    interval: float,
) -> LeaseRequest | None:
    """Which endpoints may be asked now; None: nobody who may answer is fresh enough.

    ``patient``: replicas that have not come as far as the token by all that is known are still worth asking. Where
    there is no primary to go to they always are. ``late``: who was asked last, and had not.
    """
    replicas = [
        view
        for view in serving
        if view.role is Role.REPLICA
        and not asked.only_primary
        and _keeps_up(asked, view, now, interval)
        and (asked.token is None or _is_comparable(asked.token, view, newest))
    ]
    primaries = [view for view in serving if view.role is Role.PRIMARY]
    if not asked.strict:
        primaries += reserve
    if asked.token is not None:
        position = asked.token.position
        ahead = [view for view in replicas if view.position is not None and view.position >= position]
        if ahead or (primaries and not patient):
            replicas = ahead
    chosen = replicas or primaries
    return LeaseRequest(only=frozenset(view.name for view in chosen), avoid=late) if chosen else None


def check(asked: Freshness, view: EndpointView, *, newest: int | None, now: float, interval: float) -> str:
    """What must go in front of the query on this endpoint (nothing, or one of ``guarding``); raises TooStale."""
    token = asked.token
    if view.role is Role.PRIMARY:
        # The connection may be older than the view, and lead to another server than the probe's does.
        # One that does not tell its position cannot be asked for its timeline either, and gives out no tokens.
        return "" if token is None or view.hides_wal else guarding.writes_timeline(token)
    if asked.only_primary:
        raise TooStale("the primary has become a replica, which has not the data")
    if not _keeps_up(asked, view, now, interval):
        raise TooStale("the replica has fallen behind")
    if token is None:
        return ""
    if not _is_comparable(token, view, newest):
        raise TooStale("the replica is not known to be on the token's timeline")
    return guarding.has_replayed(token)


def _keeps_up(asked: Freshness, view: EndpointView, now: float, interval: float) -> bool:
    if asked.max_lag is None:
        return True
    lag = lag_now(view, now, interval)
    return lag is not None and lag <= asked.max_lag


def _is_comparable(token: Token, view: EndpointView, newest: int | None) -> bool:
    """Whether a position of the token's timeline says anything of this replica, and it tells its own.

    A replica whose timeline nobody could see may follow an old primary, further along than the new one's writes;
    but not where the write was made before there was any other timeline.
    """
    if view.hides_wal or (newest is not None and token.timeline < newest):
        return False
    return view.timeline == token.timeline or (view.timeline is None and token.timeline == 1)
