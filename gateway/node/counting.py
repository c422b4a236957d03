"""A driver whose connections are counted with those of the whole node, from before they are opened.

A connection needs a place (``places``), and to be counted as a session of its server (``sessions``).
"""

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.node.places import AFTER_CLOSE, AFTER_CUT, Places
from gateway.node.rows import Claim
from gateway.node.sessions import Sessions
from gateway.pool.driver import CapReached, ConnectError, Connection, Driver
from gateway.postgres.backends import Asking, backend_of
from gateway.rotation.endpoint import Reason

RETRY = 0.01
"""Seconds between two tries to take a place."""
PATIENCE = 0.75
"""Share of the time until the deadline that may be spent on waiting for a place: the rest is for connecting."""
BORROW_AFTER = 0.03
"""Seconds without a place of its own after which a probe borrows one of a group."""

_CUT_OFF = frozenset({Reason.TIMEOUT, Reason.LOST, Reason.UNKNOWN})
"""Reasons of failed connects after which the server may still be opening a session."""


class CountedConnection(Connection, Asking, Protocol):
    """A connection that reports when it is closed."""

    on_close: Callable[[bool], None] | None
    """Called once; with True where it was closed while idle, or by the server."""


C = TypeVar("C", bound=CountedConnection)


class Quota(NamedTuple):
    """What a connection to one endpoint has to be counted in."""

    places: Places
    sessions: Sessions | None
    """None: it is not counted as a session of its server."""


class Count:
    """One connection, as it is counted. Safe for threads."""

    def __init__(self, quota: Quota, place: Claim, session: Claim | None) -> None:
        """``session``: its row, if sessions are counted."""
        self._places, self._sessions = quota
        self._place = place
        self._session = session
        self._is_pooled = False
        # NOTE: reentrant, because a connection may be finalised, and released, anywhere in here.
        self._lock = threading.RLock()
        self._is_released = False

    @property
    def is_released(self) -> bool:
        """Whether the connection was closed."""
        return self._is_released

    def opened(self, connection: CountedConnection, deadline: float) -> None:
        """Find out which session the connection has. Raises a GatewayError if it is lost in doing so."""
        if self._sessions is not None:
            backend = backend_of(connection, deadline)
            self._is_pooled = backend is None
            sessions = self._sessions  # none any more, if ``move_to`` was called while the server was asked
            if backend is not None and sessions is not None and self._session is not None:
                sessions.identify(self._session, backend)

    def failed(self, *, is_cut: bool) -> None:
        """No connection was opened; ``is_cut``: the server has not said so."""
        self._release(AFTER_CUT if is_cut else AFTER_CLOSE, is_known_to_end=not is_cut)

    def release(self, in_good_order: bool) -> None:
        """Take note that the connection was closed; only the first call counts."""
        self._release(AFTER_CLOSE if in_good_order else AFTER_CUT, is_known_to_end=self._is_pooled)

    def move_to(self, places: Places, place: Claim) -> None:
        """Count the connection in a place of its own from now on, and give back what was borrowed."""
        with self._lock:
            borrowed, number, sessions = self._places, self._place, self._sessions
            if self._is_released:  # it was closed since the place was taken
                borrowed, number, sessions = places, place, None
            else:
                self._places, self._place, self._sessions = places, place, None
        borrowed.release(number, after=0.0)
        if sessions is not None and self._session is not None:
            sessions.hand_over(self._session)

    def _release(self, rest: float, *, is_known_to_end: bool) -> None:
        with self._lock:
            if self._is_released:
                return
            self._is_released = True
        # NOTE: not under the lock: the places have locks of their own, under which another connection may be finalised.
        if self._sessions is not None and self._session is not None:
            self._sessions.end(self._session, rest=rest if is_known_to_end else None)
        self._places.release(self._place, after=rest)


class CountedDriver(Generic[C]):
    """A driver that opens no connection that cannot be counted. Satisfies ``pool.driver.Driver``."""

    def __init__(
        self,
        driver: Driver[C],
        *,
        purpose: str,
        quotas: Mapping[str, Sequence[Quota]],
        is_draining: Callable[[], bool] = lambda: False,
        on_borrowed: Callable[[str, Count], None] = lambda _endpoint, _count: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``quotas`` by endpoint; all but the first are borrowed from, after a moment: ``on_borrowed`` is told."""
        self._driver = driver
        self._purpose = purpose
        self._quotas = quotas
        self._is_draining = is_draining
        self._on_borrowed = on_borrowed
        self._clock = clock
        self._sleep = sleep

    def connect(self, endpoint: str, deadline: float) -> C:
        """Wait for a place, then connect; raises ConnectError, or CapReached where the cap allows no connection."""
        count = self._count(endpoint, deadline)
        try:
            connection = self._driver.connect(endpoint, deadline)
        except ConnectError as error:
            count.failed(is_cut=error.reason in _CUT_OFF)
            raise
        except BaseException:
            count.failed(is_cut=True)
            raise
        connection.on_close = count.release
        weakref.finalize(connection, count.release, False).atexit = False
        try:
            count.opened(connection, deadline)
        except GatewayError as error:
            connection.close()
            reason = Reason.TIMEOUT if isinstance(error, DeadlineExceeded) else Reason.LOST
            raise ConnectError(reason, f"connected, but {error.server_message or error.detail}") from error
        return connection

    def _count(self, endpoint: str, deadline: float) -> Count:
        own, *others = self._quotas[endpoint]
        began = now = self._clock()
        ends = began + (deadline - began) * PATIENCE
        while True:
            try:
                if (place := own.places.take(is_draining=self._is_draining())) is not None:
                    return self._with_session(own, place)
                if now - began >= BORROW_AFTER and (count := self._borrowed(others)) is not None:
                    self._on_borrowed(endpoint, count)
                    return count
            except OSError as error:
                raise ConnectError(None, f"the node's places for connections: {error.strerror}") from error
            if now + RETRY >= ends:
                raise CapReached(f"{self._purpose}: all its connections on this node are in use")
            self._sleep(RETRY)
            now = self._clock()

    def _with_session(self, quota: Quota, place: Claim) -> Count:
        if quota.sessions is None:
            return Count(quota, place, None)
        session = quota.sessions.begin()
        if session is None:
            quota.places.release(place, after=0.0)
            raise CapReached(f"{self._purpose}: the server has not ended the sessions that were given up")
        return Count(quota, place, session)

    def _borrowed(self, others: Sequence[Quota]) -> Count | None:
        """Borrow from whoever can best do without."""
        for quota in sorted(others, key=lambda other: other.places.free(), reverse=True):
            if (place := quota.places.take(is_borrowed=True)) is not None:
                try:
                    return self._with_session(quota, place)
                except CapReached:
                    continue
        return None
