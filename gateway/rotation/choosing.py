"""Which endpoints may be given which work: the candidates of a group, and the objections to an endpoint. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role, same_system

Fallback = Literal["primary", "none"]

DEAF_AFTER = 1.0
"""Seconds without a WAL receiver after which a replica is out, if there is a primary it could receive from."""


class Needs(msgspec.Struct, frozen=True):
    """What a group requires of its endpoints."""

    group: str
    access_write: bool
    fallback: Fallback = "primary"


class Candidates(msgspec.Struct, frozen=True):
    """The endpoints a group may use now, each in the order they are named in the group."""

    serving: tuple[str, ...] = ()
    """May be given any work of the group."""
    reserve: tuple[str, ...] = ()
    """May be given only work that asks for them by name: the primary of a read group, while replicas serve."""
    suspect: tuple[str, ...] = ()
    """Were serving, and may be again after the next probe."""
    untried: tuple[str, ...] = ()
    """Not probed so far: a connect may be tried when none serves."""


def objection(view: EndpointView, views: Sequence[EndpointView], needs: Needs) -> Reason | None:
    """Return why an endpoint may not serve a group with these endpoints now; None: it may.

    A primary may serve reads where the group's fallback allows it; ``candidates`` decides whether it does.
    """
    if view.drained:
        return Reason.DRAINED
    if view.state is not EndpointState.IN:
        return view.reason or Reason.UNKNOWN
    if not same_system(view, _reference(views)):
        return Reason.UNKNOWN
    primaries = [
        other
        for other in views
        if other.role is Role.PRIMARY and other.state is EndpointState.IN and same_system(view, other)
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
    """Return an endpoint of the cluster that most of them belong to, else the first."""
    systems = [view.system for view in views if view.system is not None]
    return max(views, key=lambda view: systems.count(view.system or ""))


def candidates(views: Sequence[EndpointView], needs: Needs) -> Candidates:
    """Return which endpoints may be given work of a group with these endpoints.

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
