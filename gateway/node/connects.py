"""Reports the connections of a group that are opened, fail to be opened, and end."""

import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from gateway.events import ConnectFailed, ConnectionClosed, ConnectionOpened, Observer
from gateway.pool.driver import CapReached, ConnectError, Connection, Driver
from gateway.rotation.moves import PreparedLost
from gateway.rotation.rotation import Rotation

CAP, FULL = "cap", "full"
"""Reasons that say nothing against the endpoint: the node's limit of connections, and the server's."""


class ReportingConnection(Connection, Protocol):
    """A connection that reports when it is closed."""

    on_close: Callable[[bool], None] | None
    """Called once; with True where it was closed while idle, or by the server."""
    was_lost: bool
    """Whether the server, or the way to it, ended the connection."""
    on_unprepared: Callable[[], object] | None
    """Called once, when a pooler in between turns out to lose what is prepared."""


C = TypeVar("C", bound=ReportingConnection)


class ReportingDriver(Generic[C]):
    """A driver whose connections are reported. Satisfies ``pool.driver.Driver``."""

    def __init__(self, driver: Driver[C], *, group: str, rotation: Rotation, observe: Observer) -> None:
        self._driver = driver
        self._group = group
        self._rotation = rotation
        self._observe = observe

    def connect(self, endpoint: str, deadline: float) -> C:
        """Open a connection; raises ConnectError."""
        began = time.monotonic()
        try:
            connection = self._driver.connect(endpoint, deadline)
        except ConnectError as error:
            reason = CAP if isinstance(error, CapReached) else error.reason or FULL
            self._observe(ConnectFailed(endpoint=endpoint, group=self._group, reason=str(reason), detail=error.message))
            raise
        took = round((time.monotonic() - began) * 1000, 2)
        self._observe(ConnectionOpened(endpoint=endpoint, group=self._group, ms=took))
        # NOTE: by a weak reference, else the connection would keep itself alive.
        connection.on_unprepared = partial(self._rotation.apply, endpoint, PreparedLost())
        connection.on_close = partial(self._closed, endpoint, weakref.ref(connection), connection.on_close)
        return connection

    def _closed(
        self,
        endpoint: str,
        connection: "weakref.ref[C]",
        on_close: Callable[[bool], None] | None,
        in_good_order: bool,
    ) -> None:
        if on_close is not None:
            on_close(in_good_order)
        closed = connection()
        lost = closed is not None and closed.was_lost
        reason = "lost" if lost else "retired" if in_good_order else "cut"
        self._observe(ConnectionClosed(endpoint=endpoint, group=self._group, reason=reason))
