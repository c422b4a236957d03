"""A slot holds one connection, or none, and knows its state.

Legal moves, and nothing else moves::

    EMPTY  -> LEASED   claimed, to be connected
    IDLE   -> LEASED   claimed
    LEASED -> LEASED   passed on to the next in the queue
    LEASED -> IDLE     returned clean
    LEASED -> EMPTY    returned broken, old, withdrawn
    IDLE   -> EMPTY    withdrawn, too old, died, made room for another, or closed
"""

from enum import StrEnum
from typing import Generic, NoReturn, TypeVar

from gateway.pool.driver import Connection
from gateway.rotation.endpoint import Role

C = TypeVar("C", bound=Connection)


class SlotState(StrEnum):
    """Who may use a slot. Whoever opens, pings, uses or settles a connection has its slot LEASED."""

    EMPTY = "empty"
    IDLE = "idle"
    LEASED = "leased"

    onward: tuple["SlotState", ...]
    """Where a slot may move from here. PERF: a tuple's ``in`` looks at identity, a set's would hash in Python."""


# PERF: Python 3.11 takes four times as long to find a member in its enum as a name in a module.
EMPTY, IDLE, LEASED = SlotState.EMPTY, SlotState.IDLE, SlotState.LEASED

EMPTY.onward = (LEASED,)
IDLE.onward = (LEASED, EMPTY)
LEASED.onward = (IDLE, LEASED, EMPTY)


class IllegalMove(Exception):
    """A slot was asked for a move that its state does not allow: a bug of the pool."""


class Slot(Generic[C]):
    """Moved under the lock of its group's ``exchange``; the connection in it is used only by whoever leases it."""

    __slots__ = ("connection", "endpoint", "opened_at", "rested_at", "retire_at", "role", "state")

    connection: C
    """The connection in this slot; asking for it raises IllegalMove where there is none."""
    role: Role | None
    """The role of the server as last reported to the rotation; ``connection.role`` may be newer."""

    def __init__(self) -> None:
        self.state: SlotState = EMPTY
        self.endpoint = ""
        self.role = None
        self.opened_at = 0.0
        self.rested_at = 0.0
        """When the connection was last known to be good."""
        self.retire_at = 0.0

    def __getattr__(self, name: str) -> NoReturn:
        """PERF: called only for an attribute that is missing, so that reading ``connection`` needs no check."""
        raise IllegalMove(f"no {name} in {self!r}")

    @property
    def is_filled(self) -> bool:
        """Whether there is a connection in it."""
        return self.endpoint != ""

    def move(self, to: SlotState) -> None:
        """Change the state. Raises IllegalMove, and changes nothing, if the table above has no such row."""
        if to not in self.state.onward:
            raise IllegalMove(f"{self.state} -> {to}")
        self.state = to

    def fill(self, connection: C, *, endpoint: str, now: float, retire_at: float) -> None:
        """Put a new connection into this slot, which is leased and has none."""
        if self.state is not LEASED or self.is_filled:
            raise IllegalMove(f"a connection for {self!r}")
        self.connection = connection
        self.endpoint = endpoint
        self.role = connection.role
        self.opened_at = self.rested_at = now
        self.retire_at = retire_at

    def vacate(self) -> C | None:
        """Move to EMPTY and return the connection, if there was one, for the caller to close."""
        self.move(EMPTY)
        if not self.is_filled:
            return None
        connection = self.connection
        del self.connection
        self.endpoint = ""
        self.role = None
        return connection

    def __repr__(self) -> str:
        return f"<Slot {self.state}{f' {self.endpoint}' if self.endpoint else ''}>"
