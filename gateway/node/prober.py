"""Looks at every endpoint for the whole node, as long as this worker is the one elected to.

What is learnt goes into the rotation, and with its views to the other workers. They try to be elected all the time:
a prober that ends is followed by another when that is told, one that is stopped is stood in for (``election``).
"""

from collections.abc import Callable
from functools import partial

from gateway.events import Observer
from gateway.node.election import Election
from gateway.node.following import Follower, Resolve
from gateway.node.history import History
from gateway.node.polling import Polling
from gateway.node.tasks import Task
from gateway.node.watcher import Watcher
from gateway.pool.driver import Driver
from gateway.postgres.session import Session
from gateway.rotation.rotation import Rotation
from gateway.settings import ProbeSettings

TRY_EVERY = 0.25
"""Seconds between two tries at being elected, where nobody tells that a worker has ended."""


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
        settings: ProbeSettings,
        observe: Observer,
        after_look: Callable[[str, Session], None] | None = None,
    ) -> None:
        """``after_look`` is called after each look that was answered, and may use the connection."""
        self._after_look = after_look
        self._rotation = rotation
        self._election = election
        self._history = History()
        self._is_elected = False
        self._candidacy = Task("the election of the prober", self._try, observe=observe)
        self._watchers = {
            name: Watcher(
                name,
                driver=driver,
                rotation=rotation,
                history=self._history,
                settings=settings,
                is_wanted=self.is_elected,
                stood_still_since=polling.stood_still_since,
                after_look=partial(self._looked, name),
                observe=observe,
            )
            for name in rotation.names
        }
        followers = tuple(
            Follower(name, resolve=resolve, rotation=rotation, is_wanted=self.is_elected, observe=observe)
            for name in rotation.names
        )
        self._tasks: tuple[Task, ...] = (*self._watchers.values(), *followers)

    def is_elected(self) -> bool:
        """Whether this process looks at the servers now."""
        return self._is_elected

    def look_soon(self, endpoint: str) -> None:
        """Look at an endpoint now, if this process is the one that looks."""
        if self._is_elected and endpoint in self._watchers:
            self._watchers[endpoint].look_soon()

    def notice_end(self) -> None:
        """Try to be elected now: a worker has ended."""
        self._candidacy.wake()

    def start(self) -> None:
        """Begin to look, at once if nobody else does."""
        self._rotation.subscribe(self._notice)
        self._try()
        for task in (*self._tasks, self._candidacy):
            task.start()

    def close(self) -> None:
        """End all looking after the looks in progress, and let another worker be elected."""
        self._candidacy.close()
        self._is_elected = False
        for task in self._tasks:
            task.wake()
        for task in self._tasks:
            task.close()
        self._election.close()

    def _try(self) -> float:
        elected = self._election.is_elected()
        if elected != self._is_elected:
            if elected:
                self._history.seed(self._rotation.views())
            self._is_elected = elected
            for task in self._tasks:
                task.wake()
        return TRY_EVERY

    def _looked(self, endpoint: str, connection: Session | None) -> None:
        self._election.stamp()
        if connection is not None and self._after_look is not None:
            self._after_look(endpoint, connection)

    def _notice(self) -> None:
        if self._is_elected:
            for watcher in self._watchers.values():
                watcher.notice()
