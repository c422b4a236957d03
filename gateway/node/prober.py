"""Looks at every endpoint for the whole node, as long as this worker is the one elected to.

What is learnt goes into the rotation, and with its views to the other workers. They try to be elected all the time:
a prober that dies is followed by another within ``TRY_EVERY``, one that is stopped is stood in for (``election``).
"""

import logging
import threading

from gateway.node.election import Election
from gateway.node.following import Follower, Resolve
from gateway.node.history import History
from gateway.node.polling import Polling
from gateway.node.spawning import Spawn, spawn_thread
from gateway.node.watcher import Watcher
from gateway.pool.driver import Driver
from gateway.postgres.session import Session
from gateway.rotation.rotation import Rotation

log = logging.getLogger("gateway.node")

TRY_EVERY = 0.1
"""Seconds between two tries at being elected."""


def stale_after(interval: float, timeout: float) -> float:
    """Seconds without a look after which the prober is stopped or stuck."""
    return max(1.0, interval + timeout + 0.5)


class Prober:
    """Watches the endpoints of a rotation, one thread each, while elected."""

    def __init__(
        self,
        *,
        driver: Driver[Session],
        resolve: Resolve,
        rotation: Rotation,
        election: Election,
        polling: Polling,
        interval: float,
        timeout: float,
        spawn: Spawn = spawn_thread,
    ) -> None:
        """``interval`` and ``timeout`` in seconds."""
        self._rotation = rotation
        self._election = election
        self._history = History()
        self._spawn = spawn
        self._stopped = threading.Event()
        self._is_elected = False
        self._watchers = tuple(
            Watcher(
                name,
                driver=driver,
                rotation=rotation,
                history=self._history,
                interval=interval,
                timeout=timeout,
                is_wanted=self.is_elected,
                stood_still_since=polling.stood_still_since,
                on_look=election.stamp,
            )
            for name in rotation.names
        )
        followers = tuple(
            Follower(name, resolve=resolve, rotation=rotation, is_wanted=self.is_elected) for name in rotation.names
        )
        self._tasks: tuple[Watcher | Follower, ...] = (*self._watchers, *followers)

    def is_elected(self) -> bool:
        """Whether this process looks at the servers now."""
        return self._is_elected

    def start(self) -> None:
        """Begin to look, at once if nobody else does."""
        self._rotation.subscribe(self._notice)
        self._try()
        for task in self._tasks:
            self._spawn(task.run)
        self._spawn(self._keep_trying)

    def close(self) -> None:
        """End all looking after the looks under way, and let another worker be elected."""
        self._stopped.set()
        self._is_elected = False
        for task in self._tasks:
            task.close()
        self._election.resign()

    def _keep_trying(self) -> None:
        while not self._stopped.wait(TRY_EVERY):
            try:
                self._try()
            except Exception:  # a bug of ours, or a runtime directory that is gone
                log.exception("the election of the prober failed")

    def _try(self) -> None:
        elected = self._election.is_elected()
        if elected == self._is_elected:
            return
        if elected:
            self._history.seed(self._rotation.views())
        self._is_elected = elected
        for task in self._tasks:
            task.wake()

    def _notice(self) -> None:
        if self._is_elected:
            for watcher in self._watchers:
                watcher.notice()
