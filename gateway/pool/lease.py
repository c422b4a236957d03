"""The right to one connection for the length of a ``with``."""

from types import TracebackType
from typing import Generic, Protocol

from gateway.pool.slot import C, Slot
from gateway.pool.want import Want
from gateway.rotation.endpoint import EndpointView
from gateway.waiting import Client


class Lender(Protocol[C]):
    """Who gives leases; ``group.Group``."""

    def check_out(self, deadline: float, want: Want, client: Client | None) -> tuple[Slot[C], float]:
        """A slot with a usable connection, LEASED to the caller, and the seconds spent in the queue."""

    def check_in(self, slot: Slot[C], deadline: float) -> None:
        """Take a slot back; its connection is settled and kept, or closed."""

    def view(self, endpoint: str) -> EndpointView:
        """The newest view of an endpoint."""


class Lease(Generic[C]):
    """One connection, held from entering to leaving. Made by ``Group.lease``, entered once.

    PERF: a class, because entering and leaving a ``contextmanager`` costs as much as the lease itself.
    """

    __slots__ = ("_client", "_deadline", "_lender", "_slot", "_want", "connection", "endpoint", "queued")

    _slot: Slot[C]
    connection: C
    endpoint: str
    queued: float
    """Seconds waited in the queue."""

    def __init__(self, lender: Lender[C], deadline: float, want: Want, client: Client | None) -> None:
        self._lender = lender
        self._deadline = deadline
        self._want = want
        self._client = client

    def __enter__(self) -> "Lease[C]":
        slot, self.queued = self._lender.check_out(self._deadline, self._want, self._client)
        self._slot = slot
        self.connection = slot.connection
        self.endpoint = slot.endpoint
        return self

    @property
    def opened_at(self) -> float:
        """When the connection was opened (``time.monotonic``). To be asked while the lease is held."""
        return self._slot.opened_at

    @property
    def view(self) -> EndpointView:
        """What is known of the endpoint at this moment."""
        return self._lender.view(self.endpoint)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lender.check_in(self._slot, self._deadline)
