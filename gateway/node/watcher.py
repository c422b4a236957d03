"""Looks at one endpoint again and again, through a connection of its own and with its own deadline.

A frozen server costs one look at a time here, never a request's connection and never another endpoint's look.
"""

from collections.abc import Callable
from time import monotonic

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.events import Observer
from gateway.node.history import History
from gateway.node.tasks import PATIENCE, Task
from gateway.pool.driver import CapReached, ConnectError, Driver
from gateway.postgres.probing import Look, Looker, identify
from gateway.postgres.session import Session
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import Rotation
from gateway.settings import ProbeSettings

OUT_INTERVAL = 0.2
"""Seconds between two looks at an endpoint that is out, if ``[probe] interval`` is longer: it is missed."""
REFUSED_INTERVAL = 0.05
"""Seconds between two looks at an endpoint that refuses connections, where a look costs next to nothing."""
LISTEN = 0.25
"""Seconds between two glances at the idle connection, where no loop has it report when it is closed: the server that
closed it may be going."""
PAUSE = 0.02
"""Seconds between two looks at the least, however much one is wanted."""

_CHEAP = frozenset({Reason.REFUSED, Reason.STARTING_UP, Reason.LOST})


class Watcher(Task):
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
        observe: Observer,
    ) -> None:
        """``stood_still_since``: whether this process did (see ``polling``).

        ``after_look`` is called after each look, with the connection if it was answered.
        """
        super().__init__(f"the probe of endpoint {name}", self._watch, observe=observe)
        self._endpoint = name
        self._driver = driver
        self._rotation = rotation
        self._history = history
        self._settings = settings
        self._is_wanted = is_wanted
        self._stood_still_since = stood_still_since
        self._after_look = after_look
        self._is_wanted_now = False
        self._connection: Session | None = None
        self._looker: Looker | None = None
        self._system: str | None = None
        self._began = 0.0
        self._looked_at = float("-inf")
        self._due = float("-inf")

    def notice(self) -> None:
        """Have a look at once, if somebody wants one that begins later than the last one did."""
        if self._is_called_for():
            self.wake()

    def look_soon(self) -> None:
        """Look now, though it is not time to."""
        self._is_wanted_now = True
        self.wake()

    def close(self, patience: float = PATIENCE) -> bool:
        """End after the look in progress, and close the connection; returns whether it has ended."""
        has_ended = super().close(patience)
        if has_ended:
            self._drop()
        return has_ended

    def _watch(self) -> float | None:
        """Look, if it is time; returns the seconds until the next glance at whether it is."""
        if not self._is_wanted():
            self._drop()
            return None
        now = monotonic()
        if now >= self._due or self._is_called_for() or self._is_broken():
            if now < self._looked_at + PAUSE:
                return self._looked_at + PAUSE - now
            self._look_once()
        if self.is_closing:
            self._drop()
        rest = self._due - monotonic()
        is_heard = self._connection is not None and self._connection.watcher is not None
        return max(PAUSE, rest if is_heard else min(rest, LISTEN))

    def _is_called_for(self) -> bool:
        return self._is_wanted_now or self._rotation.view(self._endpoint).wanted_at > self._began

    def _is_broken(self) -> bool:
        return self._connection is not None and not self._connection.is_usable()

    def _next(self) -> float:
        view = self._rotation.view(self._endpoint)
        if view.ping_ok and view.state is EndpointState.IN:
            return self._began + self._settings.interval
        return self._looked_at + min(
            self._settings.interval, REFUSED_INTERVAL if view.reason in _CHEAP else OUT_INTERVAL
        )

    def _look_once(self) -> None:
        self._began = monotonic()
        self._is_wanted_now = is_answered = False
        try:
            is_answered = self._look(self._began + self._settings.timeout)
        except BaseException:
            self._drop()
            raise
        finally:
            self._looked_at = monotonic()
            self._due = self._next()
            self._after_look(self._connection if is_answered else None)

    def _look(self, deadline: float) -> bool:
        """Look, and report what was seen; whether the server answered in time."""
        try:
            seen = self._seen(deadline)
        except CapReached:
            pass  # no server was asked: during a reload, another generation of workers may be looking at it
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
        connection, looker = self._connection, self._looker
        if (
            connection is not None
            and looker is not None
            and connection.is_usable()
            and self._is_where_it_should_be(connection)
        ):
            try:
                return looker.look(deadline)
            except DeadlineExceeded:
                raise
            except GatewayError:
                pass
        self._drop()
        connection = self._connection = self._driver.connect(self._endpoint, deadline)
        connection.on_lost = self.wake
        self._system = identify(connection, deadline)
        self._looker = Looker(connection)
        return self._looker.look(deadline)

    def _is_where_it_should_be(self, connection: Session) -> bool:
        addresses = self._rotation.view(self._endpoint).addresses
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
        self._rotation.apply(self._endpoint, event)

    def _note_failure(self, reason: Reason | None, message: str) -> None:
        if reason is Reason.TIMEOUT and self._stood_still_since(self._began):
            return  # we were late, not the server: the next look, at once, will tell
        self._rotation.apply(self._endpoint, ProbeFailed(reason, message))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
