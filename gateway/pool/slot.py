"""A place for one connection, the owner of its state.

Legal moves, and nothing else moves::

    EMPTY  -> LEASED   claimed, to be connected
    IDLE   -> LEASED   claimed
    LEASED -> LEASED   passed on to the next in the queue
    LEASED -> IDLE     returned clean
    LEASED -> EMPTY    returned broken, old, withdrawn
    IDLE   -> EMPTY    withdrawn, too old, or closed
"""

from enum import StrEnum
from typing import Generic, TypeVar

from gateway.pool.driver import Connection, Role

C = TypeVar("C", bound=Connection)


class SlotState(StrEnum):
    """What a slot is doing; whoever connects, pings or settles a connection has its slot LEASED."""

    EMPTY = "empty"
    IDLE = "idle"
    LEASED = "leased"


_LEGAL = frozenset(
    {
        (SlotState.EMPTY, SlotState.LEASED),
        (SlotState.IDLE, SlotState.LEASED),
        (SlotState.LEASED, SlotState.LEASED),
        (SlotState.LEASED, SlotState.IDLE),
        (SlotState.LEASED, SlotState.EMPTY),
        (SlotState.IDLE, SlotState.EMPTY),
    }
)


class IllegalMove(Exception):
    """A slot was asked for a move that its state does not allow: a bug of the pool."""


class Slot(Generic[C]):
    """A place for one connection. Moved under its group's lock; what it holds belongs to its leaser."""

    __slots__ = ("_connection", "endpoint", "rested_at", "retire_at", "role", "state")

    def __init__(self) -> None:
        self.state = SlotState.EMPTY
        self.endpoint = ""
        self.role: Role | None = None
        """What this connection last said of its server; a difference to ``connection.role`` is news."""
        self.rested_at = 0.0
        """When the connection was last known to be good."""
        self.retire_at = 0.0
        self._connection: C | None = None

    @property
    def connection(self) -> C:
        """The connection in this slot. Raises IllegalMove if there is none."""
        if self._connection is None:
            raise IllegalMove(f"no connection in {self!r}")
        return self._connection

    def move(self, to: SlotState) -> None:
        """Change the state. Raises IllegalMove, and changes nothing, if the table above has no such row."""
        if (self.state, to) not in _LEGAL:
            raise IllegalMove(f"{self.state} -> {to}")
        self.state = to

    def fill(self, connection: C, *, endpoint: str, now: float, retire_at: float) -> None:
        """Put a fresh connection into this leased, empty-handed slot."""
        if self.state is not SlotState.LEASED or self._connection is not None:
            raise IllegalMove(f"a connection for {self!r}")
        self._connection = connection
        self.endpoint = endpoint
        self.role = connection.role
        self.rested_at = now
        self.retire_at = retire_at

    def vacate(self) -> C | None:
        """Move to EMPTY; the connection, if there was one, is the caller's to close."""
        self.move(SlotState.EMPTY)
        connection, self._connection = self._connection, None
        self.endpoint = ""
        self.role = None
        return connection

    def __repr__(self) -> str:
        return f"<Slot {self.state}{f' {self.endpoint}' if self.endpoint else ''}>"
