"""Looks at one endpoint again and again, through a connection of its own and with its own deadline.

A frozen server costs one look at a time here, never a request's connection and never another endpoint's look.
"""

import logging
import threading
import time
from collections.abc import Callable
from time import monotonic

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.node.history import History
from gateway.pool.driver import ConnectError, Driver
from gateway.postgres.probing import Look, identify, look
from gateway.postgres.session import Session
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import Rotation
from gateway.settings import ProbeSettings

log = logging.getLogger("gateway.node")

OUT_INTERVAL = 0.2
"""Seconds between two looks at an endpoint that is out, if ``[probe] interval`` is longer: it is missed."""
REFUSED_INTERVAL = 0.05
"""The same where a look costs next to nothing."""
LISTEN = 0.25
"""Seconds between two glances at the idle connection: the server that closed it may be going."""
PAUSE = 0.02
"""Seconds between two looks at the least, however much one is wanted."""

_CHEAP = frozenset({Reason.REFUSED, Reason.STARTING_UP, Reason.LOST})


class Watcher:
    """One endpoint, watched while ``is_wanted`` says that this process is to."""

    def __init__(
        self,
        name: str,
        *,
        driver: Driver[Session],
        rotation: Rotation,
        history: History,
        settings: ProbeSettings,
        is_wanted: Callable[[], bool],
        stood_still_since: Callable[[float], bool],
        after_look: Callable[[Session | None], None],
    ) -> None:
        """``stood_still_since``: whether this process did (see ``polling``).

        ``after_look`` is called after each look, with the connection if it was answered.
        """
        self.name = name
        self._driver = driver
        self._rotation = rotation
        self._history = history
        self._interval = settings.interval
        self._timeout = settings.timeout
        self._is_wanted = is_wanted
        self._stood_still_since = stood_still_since
        self._after_look = after_look
        self._woken = threading.Event()
        self._is_due = False
        self._stopped = False
        self._connection: Session | None = None
        self._system: str | None = None
        self._began = 0.0

    def wake(self) -> None:
        """Look whether there is something to do."""
        self._woken.set()

    def notice(self) -> None:
        """Wake up, if somebody wants a look that begins later than the last one did."""
        if self._rotation.view(self.name).wanted_at > self._began:
            self._woken.set()

    def look_soon(self) -> None:
        """Look now, though it is not time to."""
        self._is_due = True
        self._woken.set()

    def close(self) -> None:
        """End after the look under way."""
        self._stopped = True
        self._woken.set()

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped:
            if self._is_wanted():
                self._look_unless_broken()
                self._rest()
            else:
                self._drop()
                self._woken.wait()
            self._woken.clear()
        self._drop()

    def _rest(self) -> None:
        """Wait until the next look is due, or wanted."""
        due = self._due()
        time.sleep(PAUSE)
        while (left := due - monotonic()) > 0 and not self._stopped and self._is_wanted():
            self._woken.clear()
            if self._is_due or self._rotation.view(self.name).wanted_at > self._began:
                return
            if self._connection is not None and not self._connection.is_usable():
                return
            self._woken.wait(min(left, LISTEN))

    def _due(self) -> float:
        view = self._rotation.view(self.name)
        if view.ping_ok and view.state is EndpointState.IN:
            return self._began + self._interval
        return monotonic() + min(self._interval, REFUSED_INTERVAL if view.reason in _CHEAP else OUT_INTERVAL)

    def _look_unless_broken(self) -> None:
        self._began = monotonic()
        self._is_due = is_answered = False
        try:
            is_answered = self._look(self._began + self._timeout)
        except Exception:  # a bug of ours must not be the last look at this endpoint
            log.exception("endpoint %s: the probe failed by a bug of ours", self.name)
            self._drop()
        self._after_look(self._connection if is_answered else None)

    def _look(self, deadline: float) -> bool:
        """Look, and report what was seen; whether the server answered in time."""
        try:
            seen = self._seen(deadline)
        except ConnectError as error:
            self._note_failure(error.reason, error.message)
        except GatewayError as error:
            self._drop()
            answered = Reason.LOST if error.sqlstate is None else Reason.UNKNOWN
            reason = Reason.TIMEOUT if isinstance(error, DeadlineExceeded) else answered
            self._note_failure(reason, error.server_message or error.detail)
        else:
            if seen.ended <= deadline:  # else we were stopped, and the server was so when the question was asked
                self._note(seen)
                return True
        return False

    def _seen(self, deadline: float) -> Look:
        """Look through the connection there is, or else through a new one.

        One that broke says nothing of the server: it may have been restarted, or somebody ended that session.
        """
        connection = self._connection
        if connection is not None and connection.is_usable() and self._is_where_it_should_be(connection):
            try:
                return look(connection, deadline)
            except DeadlineExceeded:
                raise
            except GatewayError:
                pass
        self._drop()
        connection = self._connection = self._driver.connect(self.name, deadline)
        self._system = identify(connection, deadline)
        return look(connection, deadline)

    def _is_where_it_should_be(self, connection: Session) -> bool:
        addresses = self._rotation.view(self.name).addresses
        return not addresses or not connection.address or connection.address in addresses

    def _note(self, seen: Look) -> None:
        lag_ms: float | None = None
        lag_bytes: int | None = None
        if seen.role is Role.PRIMARY:
            self._history.note(self._system, seen)
        else:
            lag_ms, lag_bytes = self._history.lag(self._system, seen)
        event = Probed(
            role=seen.role,
            ping_ms=seen.ping_ms,
            lag_ms=lag_ms,
            lag_bytes=lag_bytes,
            system=self._system,
            timeline=seen.timeline,
            position=seen.position,
            streaming=seen.streaming,
            server_version=seen.server_version,
        )
        self._rotation.apply(self.name, event)

    def _note_failure(self, reason: Reason | None, message: str) -> None:
        if reason is Reason.TIMEOUT and self._stood_still_since(self._began):
            return  # we were late, not the server: the next look, at once, will tell
        self._rotation.apply(self.name, ProbeFailed(reason, message))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
