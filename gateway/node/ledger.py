"""The node's connection cap: never more server connections than the groups' sizes and one probe an endpoint.

A connection needs a place (``places``) from before it is opened until the server has forgotten it. Places belong to
the node, so the cap holds through killed workers and through a reload, when two generations of workers share them.
"""

import hashlib
import logging
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from gateway.node.places import AFTER_BREAK, AFTER_FAREWELL, Places
from gateway.pool.driver import CapReached, ConnectError, Connection, Driver
from gateway.rotation.endpoint import Reason

log = logging.getLogger("gateway.node")

RETRY = 0.01
"""Seconds between two tries at a place."""
PATIENCE = 0.75
"""Share of the time until the deadline that may be spent on waiting for a place: the rest is to connect."""
BORROW_AFTER = 0.03
"""Seconds without a place of its own after which a probe borrows one of a group."""
SWEEP_EVERY = 10
"""Rounds of ``tend`` between two looks for places of dead processes."""

_CUT_OFF = frozenset({Reason.TIMEOUT, Reason.LOST, Reason.UNKNOWN})
"""Failed connects after which the server may be at work on the connection yet."""


class CountedConnection(Connection, Protocol):
    """A connection that tells when it is closed."""

    on_close: Callable[[bool], None] | None
    """Called once; with True where it was closed in good order, or by the server."""


C = TypeVar("C", bound=CountedConnection)


class Held:
    """A place that this process holds."""

    def __init__(self, places: Places, place: int) -> None:
        self._places = places
        self._place = place
        self._is_released = False

    def release(self, in_good_order: bool) -> None:
        """Let go, the first time this is called."""
        if not self._is_released:
            self._is_released = True
            self._places.release(self._place, after=AFTER_FAREWELL if in_good_order else AFTER_BREAK)


class CountedDriver(Generic[C]):
    """A driver that opens no connection without a place for it. Satisfies ``pool.driver.Driver``.

    ``places`` by endpoint; where there are several, all but the first are borrowed from, after a moment.
    """

    def __init__(
        self,
        driver: Driver[C],
        *,
        purpose: str,
        places: Mapping[str, Sequence[Places]],
        is_draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._driver = driver
        self._purpose = purpose
        self._places = places
        self._is_draining = is_draining
        self._clock = clock
        self._sleep = sleep

    def connect(self, endpoint: str, deadline: float) -> C:
        """Wait for a place, then connect; raises ConnectError, or CapReached where no place came free."""
        held = self._take(endpoint, deadline)
        try:
            connection = self._driver.connect(endpoint, deadline)
        except ConnectError as error:
            held.release(error.reason not in _CUT_OFF)
            raise
        except BaseException:
            held.release(False)
            raise
        connection.on_close = held.release
        weakref.finalize(connection, held.release, False).atexit = False
        return connection

    def _take(self, endpoint: str, deadline: float) -> Held:
        own, *others = self._places[endpoint]
        began = now = self._clock()
        ends = began + (deadline - began) * PATIENCE
        while True:
            try:
                if (place := own.take(is_draining=self._is_draining())) is not None:
                    return Held(own, place)
                if now - began >= BORROW_AFTER:
                    for lender in others:
                        if (place := lender.take(is_borrowed=True)) is not None:
                            return Held(lender, place)
            except OSError as error:
                raise ConnectError(None, f"the node's places for connections: {error.strerror}") from error
            if now + RETRY >= ends:
                raise CapReached(f"{self._purpose}: all its connections on this node are in use")
            self._sleep(RETRY)
            now = self._clock()


class Lender(Protocol):
    """A group of connections that can do with fewer."""

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        """Close so many idle connections; ``or_leased``: if none is idle, one more when it is returned."""


class Ledger:
    """The places of a node, as one of its workers has a hand on them."""

    def __init__(
        self,
        directory: Path,
        *,
        workers: int,
        is_draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``directory``: the node's runtime directory; ``is_draining``: whether this process is to end."""
        self._directory = directory
        self._workers = workers
        self._is_draining = is_draining
        self._clock = clock
        self._groups: dict[str, Places] = {}
        self._endpoints: dict[str, list[Places]] = {}
        self._probes: list[Places] = []
        self._lenders: list[tuple[Places, Lender]] = []
        self._rounds = 0

    def slots(self, size: int) -> int:
        """How many connections one worker may have of a group of this size: its share, rounded up."""
        return -(-size // self._workers)

    def for_group(self, name: str, driver: Driver[C], *, size: int, endpoints: Iterable[str]) -> Driver[C]:
        """A driver for a group with so many connections on this node."""
        try:
            places = self._open(f"group-{name}", size=size, share=size // self._workers)
        except OSError as error:
            return _uncounted(f"group {name}", driver, error)
        self._groups[name] = places
        endpoints = tuple(endpoints)
        for endpoint in endpoints:
            self._endpoints.setdefault(endpoint, []).append(places)
        return CountedDriver(
            driver,
            purpose=f"group {name}",
            places={endpoint: [places] for endpoint in endpoints},
            is_draining=self._is_draining,
            clock=self._clock,
        )

    def for_probes(self, driver: Driver[C], endpoints: Iterable[str]) -> Driver[C]:
        """A driver for one probe an endpoint; to be asked for after those of the groups.

        The worker that probed may be stopped, or dead for less than its place takes to become free: the one that
        takes over borrows a place of a group, so that neither the cap nor the probing suffers.
        """
        places = {}
        try:
            for name in endpoints:
                own = self._open(f"probe-{name}", size=1, share=1)
                self._probes.append(own)
                places[name] = [own, *self._endpoints.get(name, [])]
        except OSError as error:
            return _uncounted("probe", driver, error)
        return CountedDriver(driver, purpose="probe", places=places, is_draining=self._is_draining, clock=self._clock)

    def enlist(self, name: str, lender: Lender) -> None:
        """Let a group give up connections that others need more."""
        if name in self._groups:
            self._lenders.append((self._groups[name], lender))

    def tend(self) -> None:
        """Give what others need more, and find what the dead have left. To be called some twenty times a second."""
        for places, lender in self._lenders:
            self._give(places, lender)
        self._rounds += 1
        if self._rounds % SWEEP_EVERY == 0:
            for places in (*self._groups.values(), *self._probes):
                places.sweep()

    def _give(self, places: Places, lender: Lender) -> None:
        mine = places.mine
        if mine == 0:
            return
        if self._is_draining():
            if places.wants_first() or places.wants_share():
                lender.close_idle(mine, or_leased=False)
        elif places.wants_first() or (mine > places.share and places.wants_share()):
            lender.close_idle(1, or_leased=mine > places.share)

    def _open(self, purpose: str, *, size: int, share: int) -> Places:
        name = hashlib.blake2b(purpose.encode(), digest_size=8).hexdigest()  # names may hold anything
        return Places(self._directory / f"places-{name}", size=size, share=share, clock=self._clock)


def _uncounted(purpose: str, driver: Driver[C], error: OSError) -> Driver[C]:
    """Serve without the cap rather than not at all: the runtime directory is gone, or full."""
    log.warning("%s: connections of this worker are not counted with the node's: %s", purpose, error)
    return driver
