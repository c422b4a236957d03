"""All that one worker is made of, and runs beside requests."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from socket import gethostname
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from gateway.auth.claims import SessionSettings
from gateway.auth.identities import Identities
from gateway.auth.limits import Limits
from gateway.auth.proxies import Proxies
from gateway.catalogue.query import Catalogue
from gateway.events import Event, NodeNotShared, Observer
from gateway.execution.call import Caller
from gateway.execution.plans import Plans
from gateway.metrics import Metrics
from gateway.node.announcing import Announced
from gateway.node.beat import Beat
from gateway.node.board import Board
from gateway.node.cells import Cells
from gateway.node.connects import ReportingDriver
from gateway.node.discovery import Discovery
from gateway.node.election import Election
from gateway.node.files import remove_left_behind
from gateway.node.learner import Learner
from gateway.node.ledger import Ledger
from gateway.node.metering import Metering
from gateway.node.news import BOARD, LEARNT, PLACES, QUESTION, WORKERS, News
from gateway.node.polling import Polling
from gateway.node.prober import Prober, stale_after
from gateway.node.recent import RecentEvents
from gateway.node.reloads import Reloads
from gateway.node.samples import Samples
from gateway.node.snapshots import Snapshots
from gateway.node.sweeper import Sweeper
from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.configuration import GroupConfig
from gateway.pool.driver import ConnectError
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.dsn import APPLICATION, place_of
from gateway.postgres.passwords import Passwords
from gateway.postgres.resolving import Resolver
from gateway.postgres.session import Session
from gateway.rotation.rotation import LocalViews, Rotation, Views
from gateway.settings import EndpointSettings, GroupSettings, Settings, is_local
from gateway.waiting import Turns, Waits
from gateway.web.authentication import OPERATORS, Authentication
from gateway.web.browsers import Browsers
from gateway.web.health import membership
from gateway.web.metrics import add_states
from gateway.web.middleware import RequestIdentity
from gateway.web.operations import Operations
from gateway.web.reporting import Reporting

if TYPE_CHECKING:
    from gateway.web.spans import Spans

CONNECTED_WITHIN = 2.0
"""Seconds for a first connection to a server that was discovered."""
LONGEST_HOST = 32
"""Characters of the machine's name in ``application_name``, of which PostgreSQL keeps 63 bytes."""


class _Activity(Protocol):
    """Something that runs beside requests."""

    def start(self) -> object:
        """Begin."""

    def close(self) -> object:
        """End."""


class Worker:
    """All that one worker is made of; ``front`` makes its routes of that."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        directory: Path | None,
        is_draining: Callable[[], bool],
        waits: Waits,
        observe: Observer,
    ) -> None:
        self._activities: list[_Activity] = []
        """What runs beside requests."""
        self.waits = waits
        self.metrics = metrics = Metrics()
        self.recent = RecentEvents(directory)
        log = observe
        self.observe = observe = _all_of(metrics.observe, self.recent.observe, log)
        self._beat = Beat(waits=waits, observe=observe)
        self._metering = Metering(metrics, directory=directory, beat=self._beat, observe=observe)
        self.recent.take_over(str(self._metering.slot))
        self.settings = settings
        self.catalogue = catalogue
        self.directory = directory
        self.is_draining = is_draining
        self._news = None if directory is None else News(directory, observe=observe)
        views, self._election = _shared(settings, directory, observe, tell=self.telling(BOARD))
        self.rotation = Rotation(
            views=Announced(views, observe),
            max_lags={name: group.max_lag for name, group in settings.groups.items() if group.access == "read"},
            observe=observe,
        )
        self.plans = Plans(catalogue, Turns(waits), max_bytes=settings.server.max_result_bytes)
        self._resolver, self._passwords, self._backoffs = Resolver(), Passwords(), ConnectBackoffs()
        self._addresses = addresses(settings.endpoints)
        self.ledger = None
        if directory is not None:
            remove_left_behind(directory)
            self.ledger = Ledger(
                directory,
                workers=settings.server.workers,
                is_draining=is_draining,
                observe=observe,
                tell=self.telling(PLACES),
            )
        self.pool = Pool(
            rotation=self.rotation, groups=[self._group(name, group) for name, group in settings.groups.items()]
        )
        self.samples = Samples(
            directory,
            endpoints=settings.endpoints,
            views=self.rotation.views,
            serves=lambda view: membership(view, self.pool).in_rotation,
            observe=observe,
        )
        self.limits: Limits | None = None
        if settings.auth.is_on or any(query.rate for query in catalogue.queries.values()):
            cells = Cells(directory, observe=observe)
            self.limits = Limits(cells, catalogue=catalogue, failure_rate=settings.auth.failure_rate)
        self.identities: Identities | None = None
        self.identity = self._request_identity()
        self.snapshots = Snapshots(
            directory=directory,
            pool=self.pool,
            catalogue=catalogue,
            plans=self.plans,
            learning=lambda: self.learner.status,
            in_flight=self.identity.in_flight,
            is_draining=is_draining,
            observe=observe,
        )
        self.learner = Learner(
            plans=self.plans,
            pool=self.pool,
            catalogue=catalogue,
            directory=directory,
            workers=self.snapshots.all,
            tell=self.telling(LEARNT),
            publish=self._beat.wake,
            observe=observe,
        )

        self.spans = _spans(settings, observe)
        self.operations = self._operations(log)

    def telling(self, topic: bytes) -> Callable[[], None]:
        """Return what tells the other workers that this has changed."""
        return partial(self._news.tell, topic) if self._news is not None else lambda: None

    def _operations(self, log: Observer) -> Operations:
        """What operators are answered; ``log`` takes the events that come with each request."""
        add_states(self.metrics, pool=self.pool, catalogue=self.catalogue)
        reporting = Reporting(
            metrics=self.metrics,
            catalogue=self.catalogue,
            plans=self.plans,
            settings=self.settings.log,
            observe=self.observe,
            log=log,
        )
        return Operations(
            reporting=reporting,
            metering=self._metering,
            settings=self.settings,
            directory=self.directory,
            pool=self.pool,
            observe=self.observe,
            waits=self.waits,
        )

    def _request_identity(self) -> RequestIdentity:
        """What every request passes through. Whoever comes over an operators' listener of this machine may do all."""
        server, auth = self.settings.server, self.settings.auth
        roles = OPERATORS.union(server.rollback_roles, *(query.roles for query in self.catalogue.queries.values()))
        sent = SessionSettings(auth.settings, auth.database_roles)
        everybody = Caller(roles=roles, settings=sent.of({}, is_known=False))
        authentication = None
        if auth.is_on:
            self.identities = Identities(auth, directory=self.directory, observe=self.observe)
            local = not server.admin_bind or is_local(server.admin_bind)
            authentication = Authentication(
                self.identities,
                operator=everybody if local else None,
                identity_header=auth.trusted_identity_header,
                proxies=Proxies(server.trusted_proxies),
                limits=self.limits,
                metrics=self.metrics,
            )
        browsers = Browsers(
            cors_origins=server.cors_origins,
            allowed_hosts=server.allowed_hosts,
            bind=server.bind,
            any_host=auth.is_on,
        )
        if authentication is not None:
            return RequestIdentity(browsers, authentication=authentication)
        return RequestIdentity(browsers, everybody=everybody)

    def start(self) -> None:
        """Begin what runs beside requests."""
        ledger, settings, observe = self.ledger, self.settings, self.observe
        if self.identities is not None:
            self._start(self.identities)
        self.operations.start()
        # Before the first request: who drains an endpoint must know of all who may be at work on it.
        self.snapshots.publish()
        self.rotation.subscribe(self._beat.wake)
        self.rotation.subscribe(self._follow_poolers)
        self._follow_poolers()  # what the workers before a reload have found out
        self._beat.add(self.snapshots.tend, *self.operations.duties(), self.pool.clean_idle, self.recent.tend)
        if ledger:
            self._beat.add(ledger.tend)
        self._start(self._beat)
        is_told = self._news is None or self._news.is_listening
        polling = Polling(rotation=self.rotation, waits=self.waits, observe=observe, is_told=is_told)
        self._start(polling)
        driver = self.driver(read_only=True)
        prober = Prober(
            driver=ledger.for_probes(driver, _told_apart(settings)) if ledger else driver,
            resolve=driver.resolve,
            rotation=self.rotation,
            election=self._election,
            polling=polling,
            settings=settings.probe,
            observe=observe,
            after_look=ledger.ask if ledger else None,
        )
        if ledger:
            ledger.on_due(prober.look_soon)
        if self._news is not None:
            self._news.on(BOARD, polling.notice)
            self._news.on(LEARNT, self.learner.notice)
            self._news.on(PLACES, self._beat.wake)
            self._news.on(QUESTION, self._beat.wake)
            for listener in (prober.notice_end, self.learner.notice, self._beat.wake):
                self._news.on(WORKERS, listener)
            self._start(self._news)
        self._beat.add(lambda: self.samples.take() if prober.is_elected() else None)
        self._start(prober)
        self._start(self.learner)
        if settings.sources and self.directory is not None:
            self._start(self._discovery(settings, self.directory))
        retention = settings.idempotency.retention
        self._start(Sweeper(pool=self.pool, retention=retention, is_wanted=prober.is_elected, observe=observe))

    def _discovery(self, settings: Settings, directory: Path) -> Discovery:
        return Discovery(
            settings,
            directory,
            objection=self._objection,
            reload=partial(Reloads(directory, master=os.getppid()).ask, whole=False),
            is_draining=self.is_draining,
            observe=self.observe,
        )

    def _objection(self, endpoint: EndpointSettings) -> str | None:
        """Why a server that is to become an endpoint cannot serve; None if it can be connected to."""
        try:
            self.driver(read_only=True, endpoints={"new": endpoint}).connect(
                "new", monotonic() + CONNECTED_WITHIN
            ).close()
        except ConnectError as error:
            return error.message
        return None

    def _start(self, activity: "_Activity") -> None:
        activity.start()
        self._activities.append(activity)

    def _follow_poolers(self) -> None:
        """Prepare nothing any more where a pooler loses it; connections from before are replaced."""
        for view in self.rotation.views():
            if view.unprepared and self._addresses[view.name].prepare:
                self._addresses[view.name] = replace(self._addresses[view.name], prepare=False)
                for group in self.pool.groups.values():
                    if view.name in group.endpoints:
                        group.retire_all()

    def close(self) -> None:
        """End what ``start`` began, the last first, and give every connection back."""
        self.pool.close()
        while self._activities:
            self._activities.pop().close()
        if self.ledger is not None:
            self.ledger.close()
        self.recent.publish()
        self.samples.close()
        self.operations.close()
        if self.spans is not None:
            self.spans.close()

    def _group(self, name: str, group: GroupSettings) -> Group[Session]:
        ledger, server = self.ledger, self.settings.server
        write = group.access == "write"
        queries = self.catalogue.queries.values()
        timeouts = [query.timeout for query in queries if query.group == name]
        driver = self.driver(read_only=not write, longest=max([server.timeout, *timeouts]))
        made = Group(
            GroupConfig(
                name=name,
                access_write=write,
                endpoints=tuple(group.endpoints),
                size=ledger.slots(group.size) if ledger else max(1, group.size // server.workers),
                queue_limit=-(-group.queue // server.workers),
                fallback=group.fallback,
                balance=group.balance,
            ),
            driver=ReportingDriver(
                ledger.for_group(name, driver, size=group.size, endpoints=group.endpoints) if ledger else driver,
                group=name,
                rotation=self.rotation,
                observe=self.observe,
            ),
            rotation=self.rotation,
            waits=self.waits,
            backoffs=self._backoffs,
        )
        if ledger is not None:
            ledger.enlist(name, made)
        return made

    def driver(
        self,
        *,
        read_only: bool,
        longest: float | None = None,
        endpoints: Mapping[str, EndpointSettings] | None = None,
    ) -> Driver:
        """Return what connects to the servers (``endpoints``: to these); ``longest``: seconds a statement may take."""
        return Driver(
            self._addresses if endpoints is None else addresses(endpoints),
            read_only=read_only,
            time_zone=self.settings.server.time_zone,
            longest=longest,
            prepared=self.settings.server.prepared,
            resolver=self._resolver,
            passwords=self._passwords,
            application=f"{APPLICATION} {gethostname()[:LONGEST_HOST]}/{self._metering.slot}",
        )


def _all_of(*observers: Observer) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe


def _shared(
    settings: Settings, directory: Path | None, observe: Observer, *, tell: Callable[[], None]
) -> tuple[Views, Election]:
    """What the workers of the node know together, and who of them looks; each for itself where nothing is shared."""
    stale = stale_after(settings.probe.interval, settings.probe.timeout)
    if directory is not None:
        try:
            board = Board(directory, endpoints=_told_apart(settings), observe=observe, tell=tell)
            return board, Election(directory, name=f"prober-{board.layout}", stale_after=stale)
        except OSError as error:
            observe(NodeNotShared(what="this worker knows only what it learns itself of endpoints", detail=str(error)))
    return LocalViews(settings.endpoints), Election(None, name="", stale_after=stale)


def _spans(settings: Settings, observe: Observer) -> "Spans | None":
    """What makes spans of calls, where somebody collects them. OpenTelemetry is loaded here, after the fork."""
    if not settings.traces.endpoint:
        return None
    from gateway.web.spans import Spans

    servers = {name: place_of(endpoint.dsn) for name, endpoint in settings.endpoints.items()}
    agents = settings.mcp.path if settings.mcp.enabled else None
    return Spans(settings.traces, servers, agents=agents, observe=observe)


def _told_apart(settings: Settings) -> dict[str, str]:
    """What tells one server from another by the same name. Never a secret: settings do not show theirs."""
    return {name: repr(endpoint) for name, endpoint in settings.endpoints.items()}
