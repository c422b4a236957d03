"""What the pool requires of a driver and of its connections.

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
    """The node may have no further connection now. No server was asked, and that may change at any moment."""

    def __init__(self, message: str) -> None:
        super().__init__(None, message)


class ConnectionBroken(Exception):
    """A connection did not survive a ping."""


class Connection(Protocol):
    """One connection to one server. Used by one owner at a time; no method takes a lock."""

    on_lost: Callable[[], None] | None
    """Called once, when the driver notices by itself that the server has closed the idle connection; not within a
    call of another method, and never after ``close``."""
    on_silent: Callable[[], None] | None
    """Called once for a read that has had no answer for 300 ms."""

    @property
    def role(self) -> Role:
        """The role of the server as of its last answer."""

    @property
    def lost(self) -> str | None:
        """What was seen when the server broke the connection; None while it is open, or if it was closed by us."""

    @property
    def address(self) -> str:
        """The IP address it goes to; empty where there is none."""

    def is_usable(self) -> bool:
        """Look at the idle connection's socket, without a round trip: False if closed or readable."""

    def ping(self, deadline: float) -> None:
        """Ask the server for an answer; raises ConnectionBroken if there is none by ``deadline``."""

    @property
    def owes_reset(self) -> bool:
        """Whether an earlier use may have left session state: it is reset in front of the next one's first message."""

    def settle(self, deadline: float) -> bool:
        """End what is open, for the next lease; False if that is not possible, and it has to be closed."""

    def clean(self, deadline: float) -> bool:
        """Reset at once what ``owes_reset`` reports; False if that is not possible, and it has to be closed."""

    def abandon(self) -> None:
        """Cancel a read that waits for this server, which is not expected to answer.

        The read soon ends as if the connection had broken; a write goes on. ``settle`` returns False from now on.
        Called by others than the owner, with locks held: it does no more than leave a note. Does nothing if nothing
        runs.
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
