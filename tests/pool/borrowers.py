"""Requests in threads of their own."""

import threading
from types import TracebackType

from gateway.pool.group import Group
from gateway.pool.lease import ANY, LeaseRequest
from gateway.waiting import Client
from tests.pool.fake import FakeConnection, WatchedGroup

PATIENCE = 10.0
"""Seconds after which a test gives up on something that should have happened."""


class Borrower:
    """A request: leases in its own thread, keeps the connection until told to go, and notes what became of it."""

    def __init__(
        self, group: Group[FakeConnection], deadline: float, request: LeaseRequest = ANY, client: Client | None = None
    ) -> None:
        self.connection: FakeConnection | None = None
        self.error: BaseException | None = None
        self.endpoint = ""
        self._group = group
        self._deadline = deadline
        self._request = request
        self._client = client
        self._has = threading.Event()
        self._go = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._group.lease(self._deadline, self._request, self._client) as lease:
                self.connection, self.endpoint = lease.connection, lease.endpoint
                self._has.set()
                self._go.wait(PATIENCE)
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            self.error = error
            self._has.set()

    @property
    def is_served(self) -> bool:
        return self._has.is_set() and self.error is None

    def wait(self) -> "Borrower":
        """Until it has a connection or an error."""
        assert self._has.wait(PATIENCE), f"never served: {self._group!r}"
        return self

    def succeed(self) -> "Borrower":
        """Until it has a connection; raises its error, if it got one."""
        self.wait()
        if self.error is not None:
            raise self.error
        return self

    def release(self) -> None:
        """Let it give the connection back."""
        self._go.set()

    def leave(self) -> None:
        """Let it give the connection back, and wait until that is done."""
        self.release()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def __enter__(self) -> "Borrower":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.leave()


def queue_up(
    group: WatchedGroup, deadline: float, request: LeaseRequest = ANY, client: Client | None = None
) -> Borrower:
    """A borrower that is in the queue when this returns."""
    borrower = Borrower(group, deadline, request, client)
    assert group.watched.came.acquire(timeout=PATIENCE)
    return borrower
