"""What is shown of an endpoint: whether it is in the rotation, and if not why, in the contract's words."""

from typing import Any, NamedTuple

from gateway.pool.pool import Pool
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason


class Standing(NamedTuple):
    """Of one endpoint, over all groups that name it."""

    in_rotation: bool
    reason: Reason | None


def standing(view: EndpointView, pool: Pool[Any]) -> Standing:
    """In the rotation, if any group may give it work.

    If none may, the reason is the one that is not the role's: a replica is always the wrong one for writes. A
    drained or held endpoint is out, though a held one is used where nobody else may answer.
    """
    objections = [group.objection(view.name) for group in pool.groups.values() if view.name in group.endpoints]
    if view.held:
        return Standing(False, view.reason or Reason.UNKNOWN)
    if not objections:  # no group names it: it is only looked at
        return Standing(
            view.state is EndpointState.IN and not view.drained, Reason.DRAINED if view.drained else view.reason
        )
    if None in objections:
        return Standing(True, None)
    told = [reason for reason in objections if reason is not Reason.WRONG_ROLE]
    return Standing(False, told[0] if told else Reason.WRONG_ROLE)
