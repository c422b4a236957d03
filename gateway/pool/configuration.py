"""What a group is made to be."""

import msgspec

from gateway.pool.balancing import Balance
from gateway.rotation.choosing import Fallback, Needs


class GroupConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a group, which never change. Raises ValueError for values that no group can have."""

    name: str
    access_write: bool
    endpoints: tuple[str, ...]
    size: int
    """Slots: how many connections this process may have for the group."""
    queue_limit: int
    """How many requests may wait, beyond those for which a connection can be opened."""
    fallback: Fallback = "primary"
    """Whether reads may go to a primary when no replica is in the rotation."""
    balance: Balance = "least_busy"
    connect_timeout: float = 2.0

    def __post_init__(self) -> None:
        if self.size < 1 or self.queue_limit < 0 or not self.endpoints:
            raise ValueError(f"group {self.name}: needs an endpoint, a size of at least 1 and no negative queue")

    @property
    def needs(self) -> Needs:
        """What the group requires of its endpoints."""
        return Needs(self.name, self.access_write, self.fallback)
