"""Has the queries' types learnt: a worker adopts what another has learnt, or learns over a connection of its pool."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from gateway.errors import GatewayError, NoEndpoint
from gateway.node.plans import Plans
from gateway.node.spawning import Spawn, spawn_thread
from gateway.pool.pool import Pool
from gateway.postgres.connection import Connection

log = logging.getLogger("gateway.node")

SOON = 0.02
"""Seconds between two tries while not every query has been looked at: nobody is served before."""
LATER = 0.2
"""Seconds between two glances at whether there is something to learn again."""
PATIENCE = 1.0
"""Seconds to wait for a connection."""


class Learner:
    """Keeps the plans of a process complete."""

    def __init__(self, *, plans: Plans, pool: Pool[Connection], spawn: Spawn = spawn_thread) -> None:
        self._plans = plans
        self._pool = pool
        self._spawn = spawn
        self._stopped = threading.Event()
        self._told = ""

    def start(self) -> None:
        """Begin."""
        self._spawn(self._run)

    def stop(self) -> None:
        """End after the look under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(LATER if self._plans.complete else SOON):
            try:
                self._learn()
            except Exception:  # a bug of ours must not be the last try
                log.exception("the queries' types could not be learnt, by a bug of ours")

    def _learn(self) -> None:
        if not self._plans.wants_another_look():
            return
        try:
            self._plans.learn_all(self._lend)
            self._told = ""
        except NoEndpoint:
            return  # the rotation says why
        except GatewayError as error:
            if error.detail != self._told:
                self._told = error.detail
                log.warning("learning the queries' types ended early: %s", error.detail)

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        """Lend a connection of the first group that has an endpoint: it is counted as any other."""
        for group in self._pool.groups.values():
            if group.serving:
                with group.lease(monotonic() + PATIENCE) as lease:
                    yield lease.connection
                return
        raise NoEndpoint("no server has answered yet")
