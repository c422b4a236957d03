"""The right to one connection for the length of a ``with`` statement, and what a request asks of that connection."""

from types import TracebackType
from typing import Generic, Protocol

import msgspec

from gateway.pool.slot import C, Slot
from gateway.rotation.endpoint import EndpointView
from gateway.waiting import Client


class LeaseRequest(msgspec.Struct, frozen=True):
    """Which connections satisfy a request.

    NOTE: a request that any serving endpoint satisfies passes ``ANY`` itself and not an equal value: the pool
    recognises it by identity.
    """

    only: frozenset[str] | None = None
    """Names of endpoints that satisfy it, those in reserve included; None: every endpoint that serves."""
    avoid: frozenset[str] = frozenset()
    """Endpoints that are used only if no other may be used."""
    answered_since: float = 0.0
    """A connection whose last answer is older than this (``time.monotonic``) is pinged before it is used."""

    def allows(self, name: str) -> bool:
        """Whether an endpoint of this name may be used, if only for want of another."""
        return self.only is None or name in self.only


ANY = LeaseRequest()
"""Every endpoint that serves satisfies it."""


class Lender(Protocol[C]):
    """Gives leases; implemented by ``group.Group``."""

    def check_out(self, deadline: float, request: LeaseRequest, client: Client | None) -> tuple[Slot[C], float]:
        """Return a slot with a usable connection, leased to the caller, and the seconds spent in the queue."""

    def check_in(self, slot: Slot[C], deadline: float) -> None:
        """Take a slot back; its connection is settled and kept, or closed."""

    def view(self, endpoint: str) -> EndpointView:
        """Return the newest view of an endpoint."""


class Lease(Generic[C]):
    """One connection, held from entering to leaving. Made by ``Group.lease``, entered once.

    PERF: a class, because entering and leaving a ``contextmanager`` costs as much as the lease itself.
    """

    __slots__ = ("_client", "_deadline", "_lender", "_request", "_slot", "connection", "endpoint", "queued")

    _slot: Slot[C]
    connection: C
    endpoint: str
    queued: float
    """Seconds waited in the queue."""

    def __init__(self, lender: Lender[C], deadline: float, request: LeaseRequest, client: Client | None) -> None:
        self._lender = lender
        self._deadline = deadline
        self._request = request
        self._client = client

    def __enter__(self) -> "Lease[C]":
        slot, self.queued = self._lender.check_out(self._deadline, self._request, self._client)
        self._slot = slot
        self.connection = slot.connection
        self.endpoint = slot.endpoint
        return self

    @property
    def opened_at(self) -> float:
        """When the connection was opened (``time.monotonic``). To be read while the lease is held."""
        return self._slot.opened_at

    @property
    def view(self) -> EndpointView:
        """The newest view of the endpoint."""
        return self._lender.view(self.endpoint)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lender.check_in(self._slot, self._deadline)
