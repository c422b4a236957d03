"""All groups of one process, and the rotation they share."""

from collections.abc import Iterable
from types import MappingProxyType
from typing import Generic

from gateway.pool.exchange import GroupStats
from gateway.pool.group import Group
from gateway.pool.slot import C
from gateway.rotation.rotation import Rotation


class Pool(Generic[C]):
    """Groups by name over one rotation."""

    def __init__(self, *, rotation: Rotation, groups: Iterable[Group[C]]) -> None:
        self.rotation = rotation
        self.groups = MappingProxyType({group.name: group for group in groups})

    def __getitem__(self, name: str) -> Group[C]:
        return self.groups[name]

    def stats(self) -> dict[str, GroupStats]:
        """Return the counts of every group, by name."""
        return {name: group.stats() for name, group in self.groups.items()}

    def connections(self) -> dict[tuple[str, ...], float]:
        """Return the number of connections by group, endpoint and state: leased, idle, or connecting."""
        return {
            (name, *where): count
            for name, group in self.groups.items()
            for where, count in group.exchange.connections().items()
        }

    def clean_idle(self) -> None:
        """See ``Group.clean_idle``; to be called a few times in 100 ms."""
        for group in self.groups.values():
            group.clean_idle()

    def close(self) -> None:
        """Refuse new requests, wake those that wait with Draining, close what is idle.

        Leased connections are closed when they are returned.
        """
        for group in self.groups.values():
            group.close()

    def __repr__(self) -> str:
        return f"<Pool {' '.join(map(repr, self.groups.values()))}>"
