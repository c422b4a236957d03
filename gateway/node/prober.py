"""Looks at every endpoint again and again, and lets the rotation know.

One thread an endpoint with a connection of its own: a frozen server costs its own probe, never a request's
connection and never another endpoint's probe.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.node.plans import Plans
from gateway.pool.driver import ConnectError, Reason
from gateway.pool.rotation import Probed, ProbeFailed, Rotation
from gateway.postgres.connection import Connection
from gateway.postgres.driver import Driver
from gateway.postgres.probing import Look, look

log = logging.getLogger("gateway.node")

OUT_INTERVAL = 0.2
"""Seconds between two looks at an endpoint that is out, if ``[probe] interval`` is longer: it is missed."""


class Prober:
    """Probes the endpoints of a process, and has the plans learnt from the first that answers."""

    def __init__(
        self,
        *,
        driver: Driver,
        rotation: Rotation,
        plans: Plans,
        interval: float,
        timeout: float,
        spawn: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        """``interval`` and ``timeout`` in seconds; ``spawn`` runs a function beside us (default: daemon threads)."""
        self._driver = driver
        self._rotation = rotation
        self._plans = plans
        self._interval = interval
        self._timeout = timeout
        self._spawn = spawn or (lambda run: threading.Thread(target=run, daemon=True, name="prober").start())
        self._stopped = threading.Event()
        self._primary_position: str | None = None

    def start(self) -> None:
        """Begin to look at all endpoints, at once."""
        for name in self._rotation.names:
            self._spawn(lambda name=name: self._watch(name))  # type: ignore[misc]  # mypy cannot infer the default

    def stop(self) -> None:
        """End all looking after the looks under way."""
        self._stopped.set()

    def _watch(self, name: str) -> None:
        connection: Connection | None = None
        while not self._stopped.is_set():
            connection = self._look_unless_broken(name, connection)
            out = connection is None
            self._stopped.wait(min(self._interval, OUT_INTERVAL) if out or not self._plans.complete else self._interval)
        if connection is not None:
            connection.close()

    def _look_unless_broken(self, name: str, connection: Connection | None) -> Connection | None:
        try:
            return self._look(name, connection)
        except Exception:  # a bug of ours must not be the last look at this endpoint
            log.exception("endpoint %s: the probe failed by a bug of ours", name)
            if connection is not None:
                connection.close()
            return None

    def _look(self, name: str, connection: Connection | None) -> Connection | None:
        """Look once; the connection to look through the next time, None where it did not survive."""
        deadline = monotonic() + self._timeout
        try:
            if connection is None or not connection.is_usable():
                connection = self._driver.connect(name, deadline)
            seen = look(connection, deadline, self._primary_position)
        except ConnectError as error:
            self._note_failure(name, error.reason, error.message)
            return None
        except GatewayError as error:
            if connection is not None:
                connection.close()
            reason = Reason.TIMEOUT if isinstance(error, DeadlineExceeded) else Reason.LOST
            self._note_failure(name, reason, error.server_message or error.detail)
            return None
        self._note_success(name, seen)
        if self._plans.wants_another_look():
            try:
                self._plans.learn_all(connection)
            except GatewayError as error:
                log.warning("endpoint %s: learning the queries' types ended early: %s", name, error.detail)
        return None if connection.closed else connection

    def _note_success(self, name: str, seen: Look) -> None:
        if seen.role == "primary":
            self._primary_position = seen.position
        before = self._rotation.view(name)
        view = self._rotation.apply(
            name,
            Probed(
                role=seen.role,
                ping_ms=seen.ping_ms,
                lag_ms=seen.lag_ms,
                lag_bytes=seen.lag_bytes,
                timeline=seen.timeline,
                server_version=seen.server_version,
            ),
        )
        if (before.state, before.role) != (view.state, view.role):
            log.info("endpoint %s: in the rotation as %s", name, seen.role)

    def _note_failure(self, name: str, reason: Reason | None, message: str) -> None:
        before = self._rotation.view(name)
        view = self._rotation.apply(name, ProbeFailed(reason, message))
        if (before.state, before.reason) != (view.state, view.reason):
            log.warning("endpoint %s: out of the rotation, %s: %s", name, view.reason, message)
