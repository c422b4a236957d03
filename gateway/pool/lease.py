"""The right to one connection for the length of a ``with``."""

from types import TracebackType
from typing import Generic, Protocol

from gateway.pool.slot import C, Slot


class Lender(Protocol[C]):
    """Who gives leases; ``group.Group``."""

    def check_out(self, deadline: float) -> tuple[Slot[C], float]:
        """A slot with a usable connection, LEASED to the caller, and the seconds spent in the queue."""

    def check_in(self, slot: Slot[C], deadline: float) -> None:
        """Take a slot back; its connection is settled and kept, or closed."""


class Lease(Generic[C]):
    """One connection, held from entering to leaving. Made by ``Group.lease``, entered once.

    PERF: a class, because entering and leaving a ``contextmanager`` costs as much as the lease itself.
    """

    __slots__ = ("_deadline", "_lender", "_slot", "connection", "endpoint", "queued")

    _slot: Slot[C]
    connection: C
    endpoint: str
    queued: float
    """Seconds waited in the queue."""

    def __init__(self, lender: Lender[C], deadline: float) -> None:
        self._lender = lender
        self._deadline = deadline

    def __enter__(self) -> "Lease[C]":
        self._slot, self.queued = self._lender.check_out(self._deadline)
        self.connection = self._slot.connection
        self.endpoint = self._slot.endpoint
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lender.check_in(self._slot, self._deadline)
