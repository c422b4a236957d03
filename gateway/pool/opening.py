"""Connectors at work: each opens one connection after the other, in a thread of its own, as long as they are wanted."""

from collections.abc import Callable
from functools import partial
from typing import Generic

from gateway.pool.driver import CapReached, ConnectError, Driver
from gateway.pool.exchange import Exchange
from gateway.pool.growth import Connector, Order
from gateway.pool.slot import C, Slot
from gateway.rotation.endpoint import Reason
from gateway.rotation.moves import Connected, ConnectFailed
from gateway.rotation.rotation import Rotation
from gateway.waiting import Waits


class Opening(Generic[C]):
    """The life of a connector. Nothing here is called with the group's lock held."""

    def __init__(
        self,
        *,
        driver: Driver[C],
        rotation: Rotation,
        connect_timeout: float,
        clock: Callable[[], float],
        spawn: Callable[[Callable[[], None]], None],
        waits: Waits,
        equip: Callable[[Slot[C]], None],
    ) -> None:
        """``waits``: how a connector pauses; ``equip`` is shown every slot with a new connection."""
        self._driver = driver
        self._rotation = rotation
        self._connect_timeout = connect_timeout
        self._clock = clock
        self._spawn = spawn
        self._waits = waits
        self._equip = equip

    def start(self, exchange: Exchange[C], me: Connector[C]) -> None:
        """Set a connector to work."""
        try:
            self._spawn(partial(self._work, exchange, me))
        except RuntimeError as error:  # no thread to be had: who waits still has the returned connections
            self._dismiss(exchange, me, str(error))

    def _work(self, exchange: Exchange[C], me: Connector[C]) -> None:
        try:
            while (order := self._next(exchange, me)) is not None:
                self._connect(exchange, me, order)
        finally:
            self._dismiss(exchange, me, "interrupted")

    def _dismiss(self, exchange: Exchange[C], me: Connector[C], message: str) -> None:
        with exchange.lock:
            exchange.growth.dismiss(me, message, self._clock())

    def _next(self, exchange: Exchange[C], me: Connector[C]) -> Order[C] | None:
        """What it is to open next, after a pause if it must; None: it is not wanted any more."""
        while True:
            with exchange.lock:
                me.gate = None
                wait = exchange.growth.next(me, exchange.queue, self._clock())
                if wait is None:
                    break
                gate = me.gate = self._waits.gate()
            gate.wait(wait)
        exchange.run_errands()  # it may have made room
        return me.order

    def _connect(self, exchange: Exchange[C], me: Connector[C], order: Order[C]) -> None:
        name = order.target.name
        began = self._clock()
        try:
            connection = self._driver.connect(name, began + self._connect_timeout)
        except ConnectError as error:
            self._failed(exchange, me, name, error)
        except Exception as error:  # noqa: BLE001 -- a bug in a driver must not cost the slot
            self._failed(exchange, me, name, ConnectError(Reason.UNKNOWN, f"{type(error).__name__} in the driver"))
        else:
            self._succeeded(exchange, me, order, connection, self._clock() - began)

    def _succeeded(self, exchange: Exchange[C], me: Connector[C], order: Order[C], connection: C, took: float) -> None:
        self._rotation.apply(order.target.name, Connected(connection.role))
        now = self._clock()
        with exchange.lock:
            if exchange.growth.succeeded(me, order, connection, took=took, now=now):
                self._equip(order.slot)
                exchange.hand_over(order.slot, now)
                exchange.grow(now)
            else:
                exchange.discard(order.slot, now)
        exchange.run_errands()

    def _failed(self, exchange: Exchange[C], me: Connector[C], name: str, error: ConnectError) -> None:
        with exchange.lock:
            exchange.growth.failed(me, error.message, self._clock(), full=isinstance(error, CapReached))
        self._rotation.apply(name, ConnectFailed(error.reason, error.message))
