"""The one wait of psycopg2: for the server's socket, the deadline or the client hanging up.

psycopg2 calls back (``set_wait_callback``, process-wide) whenever libpq would block: in connects, pings,
executes and fetches alike. An exception raised here makes psycopg2 close the connection, which is what a passed
deadline or a client that left must do: the server notices the closed socket within
``client_connection_check_interval`` and ends the query.

How a wait waits is one function, ``park``: here with ``poll(2)``, for threads; ``postgres.looping`` has another.
"""

import select
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Any, Protocol

import psycopg2.extensions
import psycopg2.extras

from gateway.postgres.run import Run
from gateway.waiting import HANG_UP, LOOK, ClientSocket

READABLE, WRITABLE = select.POLLIN, select.POLLOUT


class DeadlinePassed(Exception):
    """The wait lasted until the deadline."""


class ClientLeft(Exception):
    """The client hung up while its query was running."""


class EndpointWithdrawn(Exception):
    """The endpoint left the rotation while a read waited for it."""


class Watcher(Protocol):
    """What a loop has at the socket of one connection."""

    data_arrived: bool
    """The server closed the idle connection, or sent something unasked."""

    def wait(self) -> None:
        """Wait until the socket is readable."""

    def end_wait(self) -> None:
        """End the wait for the server, soon, with EndpointWithdrawn. May be called from any thread."""

    def close(self) -> None:
        """Stop watching. To be called before the socket is closed; harmless when called again."""


class Waiting(Protocol):
    """A connection whose server is waited for, as far as a wait looks at it; a ``session.Session``."""

    run: Run
    watcher: Watcher | None
    is_established: bool
    """Whether the connect is over, so that the socket stays the same."""

    @property
    def closed(self) -> int:
        """Return whether it is closed."""

    def fileno(self) -> int:
        """Return the socket's descriptor."""

    def poll(self) -> int:
        """Let libpq go on, and return what it waits for."""

    def report_lost(self) -> None:
        """Take note that the server has closed the idle connection."""


Park = Callable[[Waiting, int], None]
"""Waits until a connection's socket is READABLE or WRITABLE; raises DeadlinePassed, ClientLeft or EndpointWithdrawn
instead."""

_park: Park | None = None
"""As psycopg2's callback is process-wide, so is this."""


def install(park: Park | None = None) -> None:
    """Make every psycopg2 connection of this process wait by ``park``.

    Without ``park`` it is as for threads (``poll(2)``), unless another way was installed before.
    """
    global _park
    if park is not None or _park is None:
        _park = park or park_in_poll
        psycopg2.extensions.set_wait_callback(_waiting_by(_park))


def _waiting_by(park: Park) -> Callable[[Any], None]:
    """What psycopg2 calls to wait until libpq has finished what it is doing on a connection.

    It raises DeadlinePassed at the deadline of the connection's run, ClientLeft when its client hangs up, and
    EndpointWithdrawn where it gives up. A connection that is not one of ours waits without limit.
    """
    ok, read = psycopg2.extensions.POLL_OK, psycopg2.extensions.POLL_READ
    foreign = psycopg2.extensions.connection

    def wait(given: Any) -> None:
        if type(given) is foreign:
            psycopg2.extras.wait_select(given)
            return
        connection: Waiting = given
        try:
            while (state := connection.poll()) != ok:
                park(connection, READABLE if state == read else WRITABLE)
        except BaseException:
            # psycopg2 closes the socket next, and its number will be another's at once.
            if connection.watcher is not None:
                connection.watcher.close()
            raise

    return wait


def park(connection: Waiting, event: int) -> None:
    """Wait until the connection's socket is ready for ``event``, or raise as :func:`wait_for` does."""
    (_park or park_in_poll)(connection, event)


def park_in_poll(connection: Waiting, event: int) -> None:
    """Wait as threads do."""
    wait_for(connection.fileno(), event, connection.run)


def wait_for(fd: int, event: int, run: Run) -> None:
    """Wait until ``fd`` is ready for ``event``; raises DeadlinePassed, ClientLeft or EndpointWithdrawn instead."""
    # NOTE: poll, not select: with threads there are descriptors above 1023. Nothing outlives the call, since libpq
    # may reopen its socket under the same number between two waits of one connect.
    poller = select.poll()
    poller.register(fd, event)
    client = run.client if isinstance(run.client, ClientSocket) else None
    if client is not None and client.gone_at is None:
        poller.register(client.fd, HANG_UP)
    while True:
        until = run.deadline
        if client is not None and client.gone_at is not None:
            until = min(until, client.gone_at)
        now = monotonic()
        if until <= now:
            raise DeadlinePassed if until == run.deadline else ClientLeft
        if run.gives_up(now, _call):
            raise EndpointWithdrawn
        ready = dict(poller.poll(ceil(min(until - now, LOOK) * 1000)))
        # The client first: a server that always has something to say must not hide that nobody listens.
        if client is not None and client.fd in ready:
            if client.hung_up(ready[client.fd]):
                raise ClientLeft
            poller.unregister(client.fd)
        if fd in ready:
            return


def _call(what: Callable[[], None]) -> None:
    what()
