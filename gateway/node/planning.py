"""The arithmetic of a deployment: sessions on each server, the time to end in, and memory."""

import math
from collections.abc import Mapping

import msgspec

from gateway.postgres.capacity import Capacity
from gateway.settings import Settings

MASTER_BYTES = 36 << 20
WORKER_BYTES = 44 << 20
"""What is a process's own: a third more than was measured at rest after load (86 MB for a master and two workers)."""
ENDING = 5.0
"""Seconds beyond what the gateway takes to end."""


class GroupPlan(msgspec.Struct, frozen=True):
    """Connections of one group."""

    size: int
    """Of a node."""
    per_worker: float
    """What each worker is entitled to; what is left over goes to whichever needs it."""
    all_nodes: int


class ServerPlan(msgspec.Struct, frozen=True):
    """Sessions on one server, all of them at work at once."""

    per_node: int
    """The sizes of the groups that name the server, and one for the probe."""
    all_nodes: int
    at_most: int
    """While a roll-out has more nodes than planned."""
    capacity: Capacity | None
    """None: the server was not asked, or did not answer."""
    nodes_that_fit: int | None
    """Of them so many as a roll-out adds are for the roll-out."""

    @property
    def fits(self) -> bool:
        """Whether the server has as many, as far as that is known."""
        return self.capacity is None or self.at_most <= self.capacity.free


class Plan(msgspec.Struct, frozen=True):
    """All of it."""

    nodes: int
    surge: int
    workers: int
    groups: dict[str, GroupPlan]
    servers: dict[str, ServerPlan]
    grace_seconds: int
    """For ``terminationGracePeriodSeconds`` and ``TimeoutStopSec``."""
    memory_at_rest: int
    """Bytes of a node."""
    memory_limit: int
    """With as many bytes of requests in progress as the node takes."""


def plan(settings: Settings, capacities: Mapping[str, Capacity], *, nodes: int, surge: int, grace: float) -> Plan:
    """Compute it. ``surge``: nodes besides, during a roll-out; ``grace``: seconds in which requests may finish."""
    server = settings.server
    at_rest = MASTER_BYTES + server.workers * WORKER_BYTES
    return Plan(
        nodes=nodes,
        surge=surge,
        workers=server.workers,
        groups={
            name: GroupPlan(group.size, group.size / server.workers, group.size * nodes)
            for name, group in settings.groups.items()
        },
        servers={name: _server(settings, name, capacities.get(name), nodes, surge) for name in settings.endpoints},
        grace_seconds=math.ceil(server.shutdown_delay + grace + ENDING),
        memory_at_rest=at_rest,
        memory_limit=at_rest + server.body_budget,
    )


def _server(settings: Settings, name: str, capacity: Capacity | None, nodes: int, surge: int) -> ServerPlan:
    per_node = sum(group.size for group in settings.groups.values() if name in group.endpoints) + 1
    fit = None if capacity is None else max(0, capacity.free // per_node - surge)
    return ServerPlan(per_node, per_node * nodes, per_node * (nodes + surge), capacity, fit)
