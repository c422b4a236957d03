"""What the pool asks of a driver: five verbs on a connection and one way to get one.

The real driver is ``postgres.connection``; ``tests/pool/fake.py`` has another, and both pass
``tests/pool/conformance.py``.
"""

from enum import StrEnum
from typing import Protocol, TypeVar


class Role(StrEnum):
    """What a server is at this moment; asked from it, never configured."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Reason(StrEnum):
    """Why an endpoint is not in the rotation."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    LOST = "lost"
    LAGGING = "lagging"
    NOT_STREAMING = "not_streaming"
    WRONG_ROLE = "wrong_role"
    OLD_TIMELINE = "old_timeline"
    AUTH = "auth"
    TLS = "tls"
    STARTING_UP = "starting_up"
    DRAINED = "drained"
    UNKNOWN = "unknown"


class ConnectError(Exception):
    """A connection could not be opened. ``message`` is one line without secrets."""

    def __init__(self, reason: Reason | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """None: says nothing against the endpoint (its connection slots are used up, say)."""
        self.message = message


class ConnectionBroken(Exception):
    """A connection did not survive a ping."""


class Connection(Protocol):
    """One connection to one server. Used by one owner at a time; no method takes a lock."""

    @property
    def role(self) -> Role:
        """What the server said it is, kept current with every answer."""

    def is_usable(self) -> bool:
        """Look at the idle connection's socket, without a round trip: False if closed or readable."""

    def ping(self, deadline: float) -> None:
        """Ask the server and wait until ``deadline``; ConnectionBroken if there is no good answer."""

    def settle(self, deadline: float) -> bool:
        """Make clean for the next lease; True if it is (transaction status decides), False: close it."""

    def close(self) -> None:
        """Close at once, without waiting for the server. Harmless when closed already."""


C_co = TypeVar("C_co", bound=Connection, covariant=True)


class Driver(Protocol[C_co]):
    """Opens connections."""

    def connect(self, endpoint: str, deadline: float) -> C_co:
        """Open a connection to the endpoint of this name before ``deadline`` (a point of ``time.monotonic``).

        Raises ConnectError with the reason; never anything else.
        """
