"""Deletes expired idempotency keys, once a minute, on every primary that writes go to."""

from collections.abc import Callable
from time import monotonic

from gateway.errors import GatewayError
from gateway.events import KeysNotSwept, Observer
from gateway.node.tasks import Task
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.idempotency import SWEPT_AT_ONCE, sweep
from gateway.postgres.session import Session

EVERY = 60.0
"""Seconds between two sweeps."""
MOST = 20
"""Statements for one group, each for a bounded number of keys, before the next group has its turn."""
PATIENCE = 2.0
"""Seconds for one statement, and for the connection it runs on."""


class Sweeper:
    """Sweeps through the groups that write, while ``is_wanted`` says that this process is to."""

    def __init__(
        self,
        *,
        pool: Pool[Session],
        retention: float,
        is_wanted: Callable[[], bool],
        observe: Observer,
        every: float = EVERY,
    ) -> None:
        """``retention`` and ``every`` in seconds."""
        self._groups = [group for group in pool.groups.values() if group.access_write]
        self._retention = retention
        self._is_wanted = is_wanted
        self._observe = observe
        self._every = every
        self._told = ""
        self._task = Task("the deletion of expired idempotency keys", self._sweep, observe=observe)

    def start(self) -> None:
        """Begin, with a pause."""
        self._task.start(after=self._every)

    def close(self) -> None:
        """End after the statement in progress."""
        self._task.close()

    def _sweep(self) -> float:
        left = self._groups
        while left and not self._task.is_closing:
            left = [group for group in left if self._is_wanted() and group.serving and self._has_more(group)]
        return self._every

    def _has_more(self, group: Group[Session]) -> bool:
        """Sweep through a group for a while; whether there was still more when that ended."""
        try:
            for _ in range(MOST):
                # A lease each: nobody waits for a connection longer than one statement takes.
                with group.lease(monotonic() + PATIENCE) as lease:
                    swept = sweep(lease.connection, retention=self._retention, deadline=monotonic() + PATIENCE)
                self._told = ""
                if swept < SWEPT_AT_ONCE or self._task.is_closing:
                    return False
        except GatewayError as error:
            if error.detail != self._told:
                self._told = error.detail
                self._observe(KeysNotSwept(detail=error.detail))
            return False
        return True
