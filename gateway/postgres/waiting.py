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
from typing import Any

import psycopg2.extensions

from gateway.waiting import HANG_UP, LOOK, ClientSocket

READABLE, WRITABLE = select.POLLIN, select.POLLOUT


class DeadlinePassed(Exception):
    """The wait lasted until the deadline."""


class ClientLeft(Exception):
    """The client hung up while its query was running."""


class EndpointWithdrawn(Exception):
    """The endpoint left the rotation while a read waited for it."""


Park = Callable[[Any, int], None]
"""Waits until a connection's socket is READABLE or WRITABLE; raises DeadlinePassed or ClientLeft instead."""

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

    It raises DeadlinePassed at ``connection.deadline``, ClientLeft when ``connection.client`` hangs up, and
    EndpointWithdrawn when ``connection.gives_up``. A connection without these attributes (not one of ours) waits
    without limit.
    """
    ok, read = psycopg2.extensions.POLL_OK, psycopg2.extensions.POLL_READ

    def wait(connection: Any) -> None:
        try:
            while (state := connection.poll()) != ok:
                park(connection, READABLE if state == read else WRITABLE)
        except BaseException:
            # psycopg2 closes the socket next, and its number will be another's at once.
            watch = getattr(connection, "watch", None)
            if watch is not None:
                watch.close()
            raise

    return wait


def _call(what: Callable[[], None]) -> None:
    what()


def park(connection: Any, event: int) -> None:
    """Wait until the connection's socket is ready for ``event``, or raise as :func:`wait` does."""
    (_park or park_in_poll)(connection, event)


def park_in_poll(connection: Any, event: int) -> None:
    """Wait as threads do."""
    deadline = getattr(connection, "deadline", None)
    gives_up = getattr(connection, "gives_up", None)
    wait_for(connection.fileno(), event, deadline, getattr(connection, "client", None), gives_up)


def wait_for(
    fd: int,
    event: int,
    deadline: float | None,
    client: ClientSocket | None = None,
    gives_up: Callable[[float, Callable[[Callable[[], None]], object]], bool] | None = None,
) -> None:
    """Wait until ``fd`` is ready for ``event``; raises DeadlinePassed, ClientLeft or EndpointWithdrawn instead.

    ``gives_up`` is asked again and again, with the time of ``time.monotonic``.
    """
    # NOTE: poll, not select: with threads there are descriptors above 1023. Nothing outlives the call, since libpq
    # may reopen its socket under the same number between two waits of one connect.
    poller = select.poll()
    poller.register(fd, event)
    if client is not None and client.gone_at is None:
        poller.register(client.fd, HANG_UP)
    while True:
        until = deadline
        if client is not None and client.gone_at is not None:
            until = client.gone_at if until is None else min(until, client.gone_at)
        now = monotonic()
        left = None if until is None else until - now
        if left is not None and left <= 0:
            raise DeadlinePassed if until == deadline else ClientLeft
        if gives_up is not None:
            if gives_up(now, _call):
                raise EndpointWithdrawn
            left = LOOK if left is None else min(left, LOOK)
        ready = dict(poller.poll(None if left is None else ceil(left * 1000)))
        # The client first: a server that always has something to say must not hide that nobody listens.
        if client is not None and client.fd in ready:
            if client.hung_up(ready[client.fd]):
                raise ClientLeft
            poller.unregister(client.fd)
        if fd in ready:
            return
