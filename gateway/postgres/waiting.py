"""The one wait of psycopg2: for the server's socket, the deadline or the client hanging up.

psycopg2 calls :func:`wait` (``set_wait_callback``, process-wide) whenever libpq would block: in connects, pings,
executes and fetches alike. An exception raised here makes psycopg2 close the connection, which is what a passed
deadline or a client that left must do: the server notices the closed socket within
``client_connection_check_interval`` and ends the query.
"""

import select
import socket
from math import ceil
from time import monotonic
from typing import Any

import psycopg2.extensions

HALF_CLOSE_GRACE = 0.3
"""Seconds in which an answer still goes to a client that has shut down its sending side."""

_HANG_UP = select.POLLRDHUP
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class DeadlinePassed(Exception):
    """The wait lasted until the deadline."""


class ClientLeft(Exception):
    """The client hung up while its query was running."""


class ClientSocket:
    """The socket of the client whose query runs, looked at while the server is waited for."""

    __slots__ = ("fd", "gone_at")

    def __init__(self, client: socket.socket) -> None:
        self.fd = client.fileno()
        self.gone_at: float | None = None

    def hung_up(self, what: int) -> bool:
        """Judge a poll result: a reset is gone at once, a plain end may be a half-close and gets some grace."""
        if what & _GONE:
            return True
        if self.gone_at is None:
            self.gone_at = monotonic() + HALF_CLOSE_GRACE
        return monotonic() >= self.gone_at


def install() -> None:
    """Make :func:`wait` psycopg2's wait callback, for every connection of this process."""
    psycopg2.extensions.set_wait_callback(wait)


def wait(connection: Any) -> None:
    """Wait until libpq has finished what it is doing on ``connection``.

    Raises DeadlinePassed at ``connection.deadline`` and ClientLeft when ``connection.client`` hangs up. A
    connection without these attributes (not one of ours) waits without limit.
    """
    deadline = getattr(connection, "deadline", None)
    client = getattr(connection, "client", None)
    while True:
        state = connection.poll()
        if state == psycopg2.extensions.POLL_OK:
            return
        event = select.POLLIN if state == psycopg2.extensions.POLL_READ else select.POLLOUT
        wait_for(connection.fileno(), event, deadline, client)


def wait_for(fd: int, event: int, deadline: float | None, client: ClientSocket | None = None) -> None:
    """Wait until ``fd`` is ready for ``event``; raises DeadlinePassed or ClientLeft instead."""
    # NOTE: poll, not select: with threads there are descriptors above 1023. Nothing outlives the call, since libpq
    # may reopen its socket under the same number between two waits of one connect.
    poller = select.poll()
    poller.register(fd, event)
    if client is not None and client.gone_at is None:
        poller.register(client.fd, _HANG_UP)
    while True:
        until = deadline
        if client is not None and client.gone_at is not None:
            until = client.gone_at if until is None else min(until, client.gone_at)
        left = None if until is None else until - monotonic()
        if left is not None and left <= 0:
            raise DeadlinePassed if until == deadline else ClientLeft
        ready = dict(poller.poll(None if left is None else ceil(left * 1000)))
        # The client first: a server that always has something to say must not hide that nobody listens.
        if client is not None and client.fd in ready:
            if client.hung_up(ready[client.fd]):
                raise ClientLeft
            poller.unregister(client.fd)
        if fd in ready:
            return
