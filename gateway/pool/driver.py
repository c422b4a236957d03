"""What the pool asks of a driver: six verbs on a connection and one way to get one.

The real driver is ``postgres.session``; ``tests/pool/fake.py`` has another, and both pass
``tests/pool/conformance.py``.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.rotation.endpoint import Reason, Role


class ConnectError(Exception):
    """A connection could not be opened. ``message`` is one line without secrets."""

    def __init__(self, reason: Reason | None, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """None: says nothing against the endpoint (its connection slots are used up, say)."""
        self.message = message


class CapReached(ConnectError):
    """The node may have no more connections now: no server was asked, and a place may come free any moment."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)


class ConnectionBroken(Exception):
    """A connection did not survive a ping."""


class Connection(Protocol):
    """One connection to one server. Used by one owner at a time; no method takes a lock."""

    on_lost: Callable[[], None] | None
    """Called, once, when the server is seen to have closed the idle connection, where the driver sees that without
    being asked; not from within another's work, and never after ``close``."""
    on_silent: Callable[[], None] | None
    """Called once for a read that has had no answer for 300 ms."""

    @property
    def role(self) -> Role:
        """What the server said it is, kept current with every answer."""

    @property
    def lost(self) -> str | None:
        """What was seen when the server broke the connection; None while it lives, or if we closed it."""

    @property
    def address(self) -> str:
        """The IP address it goes to; empty where there is none."""

    def is_usable(self) -> bool:
        """Look at the idle connection's socket, without a round trip: False if closed or readable."""

    def ping(self, deadline: float) -> None:
        """Ask the server and wait until ``deadline``; ConnectionBroken if there is no good answer."""

    @property
    def owes_reset(self) -> bool:
        """Whether an earlier use may have left session state: it is reset in front of the next one's first message."""

    def settle(self, deadline: float) -> bool:
        """End what is open, for the next lease; True if it may be used again, False: close it."""

    def clean(self, deadline: float) -> bool:
        """Reset at once what ``owes_reset`` tells of; True if it may be used again, False: close it."""

    def abandon(self) -> None:
        """Give up a read that waits for this server, which is gone: soon it ends as if the connection had broken.

        A write goes on. Either way the connection does not settle any more. Called by others than the owner, under
        locks: it only leaves word. Harmless where nothing runs.
        """

    def close(self) -> None:
        """Close at once, without waiting for the server. Harmless when closed already."""


C_co = TypeVar("C_co", bound=Connection, covariant=True)


class Driver(Protocol[C_co]):
    """Opens connections."""

    def connect(self, endpoint: str, deadline: float) -> C_co:
        """Open a connection to the endpoint of this name before ``deadline`` (a point of ``time.monotonic``).

        Raises ConnectError with the reason; never anything else.
        """
