"""What a connector does in its thread: it opens connections, one after the other, as long as they are needed."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Generic

from gateway.pool.connectors import Connector, Order, Pause
from gateway.pool.driver import CapReached, ConnectError, Driver
from gateway.pool.exchange import Exchange
from gateway.pool.slot import C
from gateway.rotation.endpoint import Reason
from gateway.rotation.moves import Connected, ConnectFailed
from gateway.rotation.rotation import Rotation


def start_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a daemon thread."""
    threading.Thread(target=work, name="gateway-connector", daemon=True).start()


class Connecting(Generic[C]):
    """Runs connectors. Nothing here is called with the group's lock held."""

    def __init__(
        self,
        *,
        driver: Driver[C],
        rotation: Rotation,
        timeout: float,
        clock: Callable[[], float],
        spawn: Callable[[Callable[[], None]], None],
    ) -> None:
        """``timeout``: seconds for one connect; ``spawn`` runs a connector in a thread of its own."""
        self._driver = driver
        self._rotation = rotation
        self._timeout = timeout
        self._clock = clock
        self._spawn = spawn

    def start(self, exchange: Exchange[C], connector: Connector[C]) -> None:
        """Start a connector."""
        try:
            self._spawn(partial(self._run, exchange, connector))
        except RuntimeError as error:  # no thread can be started: waiters are still served by returned connections
            exchange.dismiss(connector, str(error))

    def _run(self, exchange: Exchange[C], connector: Connector[C]) -> None:
        try:
            while (order := self._next(exchange, connector)) is not None:
                self._connect(exchange, connector, order)
        finally:
            exchange.dismiss(connector, "interrupted")

    def _next(self, exchange: Exchange[C], connector: Connector[C]) -> Order[C] | None:
        """Return what it is to open next, after a pause if there has to be one; None: it is not needed any more."""
        while isinstance(found := exchange.next_order(connector), Pause):
            found.gate.wait(found.seconds)
        return found

    def _connect(self, exchange: Exchange[C], connector: Connector[C], order: Order[C]) -> None:
        name = order.endpoint.name
        began = self._clock()
        try:
            connection = self._driver.connect(name, began + self._timeout)
        except ConnectError as error:
            self._failed(exchange, connector, name, error)
        except Exception as error:  # noqa: BLE001 -- a bug in a driver must not cost the slot
            message = f"{type(error).__name__} in the driver"
            self._failed(exchange, connector, name, ConnectError(Reason.UNKNOWN, message))
        else:
            # Before the slot is filled: if the role is news, the group has been refreshed by it, and judges the
            # connection by what is known now.
            self._rotation.apply(name, Connected(connection.role))
            exchange.connected(connector, order, connection, self._clock() - began)

    def _failed(self, exchange: Exchange[C], connector: Connector[C], name: str, error: ConnectError) -> None:
        exchange.connect_failed(connector, error.message, cap_reached=isinstance(error, CapReached))
        self._rotation.apply(name, ConnectFailed(error.reason, error.message))
