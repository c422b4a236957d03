"""What a worker keeps for operators: its counts, its requests in flight, and the level of its log."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import falcon

from gateway.events import LogLevelChanged, Observer
from gateway.metrics import Merged
from gateway.node.asking import Asking
from gateway.node.beat import Duty
from gateway.node.log_level import LogLevel
from gateway.node.metering import Metering
from gateway.node.snapshots import Snapshot
from gateway.pool.pool import Pool
from gateway.postgres.session import Session
from gateway.settings import Settings
from gateway.waiting import Turns, Waits
from gateway.web.admin import END, LOG, REQUESTS, LogAdminResource, RequestsAdminResource
from gateway.web.calls import Calls
from gateway.web.explaining import ExplainResource
from gateway.web.in_flight import Cancel, InFlight
from gateway.web.metrics import MetricsResource
from gateway.web.reporting import Reporting


class Operations:
    """Counts for operators and answers them, together with the other workers of the node."""

    def __init__(
        self,
        *,
        reporting: Reporting,
        metering: Metering,
        settings: Settings,
        directory: Path | None,
        pool: Pool[Session],
        observe: Observer,
        waits: Waits,
    ) -> None:
        """``directory`` is the node's runtime directory, None where nothing is shared."""
        self.reporting = reporting
        self._settings = settings
        self._directory = directory
        self._pool = pool
        self._observe = observe
        self._waits = waits
        self._metering = metering
        self._log_level = LogLevel(directory, settings.log.level)
        self._asking: Asking | None = None

    @property
    def counted(self) -> Callable[[], Merged]:
        """Return what tells the counts of all workers."""
        return self._metering.all

    def serve(
        self,
        app: "falcon.App[Any, Any]",
        *,
        calls: Calls,
        requests: Callable[[], Iterable[falcon.Request]],
        workers: Callable[[], Iterable[Snapshot]],
        cancel: Cancel,
        tell: Callable[[], None],
    ) -> None:
        """Add the routes. ``requests``: those in flight here; ``workers``: all that live; ``cancel``: see InFlight.

        ``tell`` has the other workers look at what is asked.
        """
        in_flight = InFlight(
            requests=requests, pool=self._pool, reporting=self.reporting, worker=self._metering.slot, cancel=cancel
        )
        self._asking = asking = Asking(
            directory=self._directory,
            workers=workers,
            responses={REQUESTS: in_flight.describe, END: in_flight.end, LOG: self._change_level},
            waits=self._waits,
            tell=tell,
            observe=self._observe,
        )
        listed = RequestsAdminResource(ask=asking.ask, observe=self._observe)
        app.add_route("/metrics", MetricsResource(self._metering.all, Turns(self._waits)))
        app.add_route("/admin/requests", listed)
        app.add_route("/admin/requests/{request_id}", listed, suffix="one")
        app.add_route("/admin/log", LogAdminResource(ask=asking.ask, max_body=self._settings.server.max_body))
        app.add_route("/admin/explain/{name}", ExplainResource(calls=calls, pool=self._pool))

    def start(self) -> None:
        """Take up what an operator has set before this worker began, and be counted from now on."""
        if (level := self._log_level.kept()) is not None:
            self._observe(LogLevelChanged(to=level))
        self._metering.publish()

    def duties(self) -> Iterator[Duty]:
        """What is to be done again and again, beside requests."""
        yield self._metering.tend
        if self._asking is not None:
            yield self._asking.tend

    def close(self) -> None:
        """Leave the counts to whoever takes over this worker's number."""
        self._metering.close()

    def _change_level(self, level: str) -> bool:
        self._log_level.keep(level)
        self._observe(LogLevelChanged(to=level))
        return True
