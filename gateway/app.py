"""The composition root: settings and a compiled catalogue become a Falcon app. Nothing but ``server`` imports it.

Foreign WSGI servers find ``gateway.app:application``, which compiles ``gateway.toml`` for itself.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol

import falcon

from gateway.auth.checking import faults_of
from gateway.auth.claims import SessionSettings
from gateway.auth.identities import Identities
from gateway.auth.limits import Limits
from gateway.auth.proxies import Proxies
from gateway.catalogue.query import Catalogue
from gateway.errors import FaultsFound
from gateway.events import Event, LogLevelChanged, NodeNotShared, Observer
from gateway.execution.bulking import Bulks
from gateway.execution.call import Caller
from gateway.execution.committing import Committer
from gateway.execution.concurrency import Concurrency
from gateway.execution.execution import Execution
from gateway.execution.joining import sharing
from gateway.execution.outcomes import Outcomes
from gateway.execution.plans import Plans
from gateway.execution.running import Runner
from gateway.execution.streaming import Streams
from gateway.execution.transactions import Transactions
from gateway.metrics import STREAMS, Metrics
from gateway.node.announcing import Announced
from gateway.node.beat import Beat
from gateway.node.board import Board
from gateway.node.cells import Cells
from gateway.node.connects import ReportingDriver
from gateway.node.election import Election
from gateway.node.learner import Learner
from gateway.node.ledger import Ledger
from gateway.node.metering import Metering
from gateway.node.news import BOARD, LEARNT, PLACES, QUESTION, WORKERS, News
from gateway.node.occupancy import Occupancy
from gateway.node.polling import Polling
from gateway.node.prober import Prober, stale_after
from gateway.node.reloads import Reloads
from gateway.node.snapshots import Snapshots
from gateway.node.sweeper import Sweeper
from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.cancelling import cancel
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.dsn import APPLICATION
from gateway.postgres.passwords import Passwords
from gateway.postgres.resolving import Resolver
from gateway.postgres.session import Session
from gateway.rotation.rotation import LocalViews, Rotation, Views
from gateway.settings import GroupSettings, Settings, is_local
from gateway.waiting import ThreadWaits, Turns, Waits
from gateway.web.admin import EndpointAdminResource, LearningAdminResource, ReloadAdminResource
from gateway.web.authentication import OPERATORS, Authentication
from gateway.web.browsers import Browsers
from gateway.web.calls import Calls
from gateway.web.catalogue import CatalogueResource
from gateway.web.compression import Compression
from gateway.web.deprecations import Deprecations
from gateway.web.document import DocumentResource
from gateway.web.failures import Failures
from gateway.web.health import HealthResource, membership
from gateway.web.messages import Request, Response
from gateway.web.middleware import RequestIdentity
from gateway.web.operations import Operations
from gateway.web.outcomes import OutcomeResource
from gateway.web.queries import QueryResource, TransactionResource
from gateway.web.readiness import Readiness
from gateway.web.routes import Routes
from gateway.web.static import StaticResource

LONGEST_HOST = 32
"""Characters of the machine's name in ``application_name``, of which PostgreSQL keeps 63 bytes."""
LONGEST_WAIT = 3600.0
LONGEST_WAIT_OF_SYNC = 30.0
"""Seconds an operator's request may wait for what it asked for; a sync worker shows no other sign of life meanwhile."""


def log_event(event: Event) -> None:
    """Write an event to the log."""
    if isinstance(event, LogLevelChanged):
        logging.getLogger("gateway").setLevel(event.to.upper())
    logging.getLogger("gateway").log(event.level, "%s", event, exc_info=getattr(event, "error", None))


class GatewayApp(falcon.App[Any, Any]):
    """The WSGI application of one worker, with all that it runs beside requests."""

    def __init__(self, *, close: Callable[[], None], observe: Observer, **options: Any) -> None:
        super().__init__(**options)
        self._close = close
        self.observe = observe
        """Takes the events of the server that it runs under."""

    def close(self) -> None:
        """End what runs beside requests, and refuse what still waits for a connection (``draining``).

        Idle connections are closed; one that a request has is closed when the request returns it.
        """
        self._close()


def create_app(
    settings: Settings,
    catalogue: Catalogue,
    directory: Path | None,
    is_draining: Callable[[], bool] = lambda: False,
    waits: Waits | None = None,
    observe: Observer | None = None,
) -> GatewayApp:
    """Make the app of one worker and start looking at its servers, until it is closed.

    ``directory`` is the node's runtime directory, None where nothing is shared; ``is_draining`` tells whether the
    worker was told to end; ``waits`` is how it waits, as threads do if left out; ``observe`` is told what happens,
    which is logged if left out.
    Cannot fail on user input: settings and catalogue were checked when they were compiled.
    """
    worker = _Worker(settings, catalogue, directory, is_draining, waits or ThreadWaits(), observe or log_event)
    app = worker.front()
    worker.start()
    return app


class _Activity(Protocol):
    """Something that runs beside requests."""

    def start(self) -> object:
        """Begin."""

    def close(self) -> object:
        """End."""


class _Worker:
    """All that one worker is made of."""

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
        self._waits = waits
        self._metrics = metrics = Metrics()
        self._observe = observe = _all_of(metrics.observe, observe)
        self._beat = Beat(waits=waits, observe=observe)
        self._metering = Metering(metrics, directory=directory, beat=self._beat, observe=observe)
        self._settings = settings
        self._catalogue = catalogue
        self._directory = directory
        self._is_draining = is_draining
        self._news = None if directory is None else News(directory, observe=observe)
        views, self._election = _shared(settings, directory, observe, tell=self._telling(BOARD))
        self._rotation = Rotation(
            views=Announced(views, observe),
            max_lags={name: group.max_lag for name, group in settings.groups.items() if group.access == "read"},
            observe=observe,
        )
        self._plans = Plans(catalogue, Turns(waits), max_bytes=settings.server.max_result_bytes)
        self._resolver, self._passwords, self._backoffs = Resolver(), Passwords(), ConnectBackoffs()
        self._ledger = None
        if directory is not None:
            self._ledger = Ledger(
                directory,
                workers=settings.server.workers,
                is_draining=is_draining,
                observe=observe,
                tell=self._telling(PLACES),
            )
        self._pool = Pool(
            rotation=self._rotation, groups=[self._group(name, group) for name, group in settings.groups.items()]
        )
        self._limits: Limits | None = None
        if settings.auth.is_on or any(query.rate for query in catalogue.queries.values()):
            cells = Cells(directory, observe=observe)
            self._limits = Limits(cells, catalogue=catalogue, failure_rate=settings.auth.failure_rate)
        self._identities: Identities | None = None
        self._identity = self._request_identity()
        self._snapshots = Snapshots(
            directory=directory,
            pool=self._pool,
            catalogue=catalogue,
            plans=self._plans,
            learning=lambda: self._learner.status,
            in_flight=self._identity.in_flight,
            is_draining=is_draining,
            observe=observe,
        )
        self._learner = Learner(
            plans=self._plans,
            pool=self._pool,
            catalogue=catalogue,
            directory=directory,
            workers=self._snapshots.all,
            tell=self._telling(LEARNT),
            publish=self._beat.wake,
            observe=observe,
        )

        self._operations = Operations(
            metrics,
            self._metering,
            settings=settings,
            directory=directory,
            catalogue=catalogue,
            plans=self._plans,
            pool=self._pool,
            observe=observe,
            waits=waits,
        )

    def _telling(self, topic: bytes) -> Callable[[], None]:
        """Return what tells the other workers that this has changed."""
        return partial(self._news.tell, topic) if self._news is not None else lambda: None

    def _request_identity(self) -> RequestIdentity:
        """What every request passes through. Whoever comes over an operators' listener of this machine may do all."""
        server, auth = self._settings.server, self._settings.auth
        roles = OPERATORS.union(*(query.roles for query in self._catalogue.queries.values()))
        sent = SessionSettings(auth.settings, auth.database_roles)
        everybody = Caller(roles=roles, settings=sent.of({}, is_known=False))
        authentication = None
        if auth.is_on:
            self._identities = Identities(auth, directory=self._directory, observe=self._observe)
            local = not server.admin_bind or is_local(server.admin_bind)
            authentication = Authentication(
                self._identities,
                operator=everybody if local else None,
                identity_header=auth.trusted_identity_header,
                proxies=Proxies(server.trusted_proxies),
                limits=self._limits,
                metrics=self._metrics,
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

    def front(self) -> GatewayApp:
        """What answers requests."""
        router = Routes(knows_callers=self._settings.auth.is_on)
        app = GatewayApp(
            close=self.close,
            observe=self._observe,
            middleware=[self._identity],
            router=router,
            request_type=Request,
            response_type=Response,
        )
        app.req_options.strip_url_path_trailing_slash = False
        verbose, failed = self._settings.server.verbose_errors, self._operations.reporting.failed
        failures = Failures(verbose=verbose, observe=self._observe, failed=failed)
        failures.register(app)
        self._serve_queries(app, failures)
        self._serve_operators(app)
        return app

    def _serve_queries(self, app: "falcon.App[Any, Any]", failures: Failures) -> None:
        server, pool, plans, catalogue = self._settings.server, self._pool, self._plans, self._catalogue
        runner = Runner(
            pool=pool,
            waits=self._waits,
            retry_budget=server.retry_budget,
            probe_interval=self._settings.probe.interval,
            observe=self._observe,
        )
        outcomes = Outcomes(pool=pool, waits=self._waits)
        rooms = self._rooms()
        committer = Committer(
            runner=runner, outcomes=outcomes, max_result_bytes=server.max_result_bytes, waits=self._waits
        )
        share, joins = sharing(
            server, plans=plans, runner=runner, waits=self._waits, observe=self._observe, metrics=self._metrics
        )
        streams = Streams(pool=pool, runner=runner, waits=self._waits, most=_streams(self._settings))
        self._metrics.gauge(STREAMS, streams.running)
        execution = Execution(
            plans=plans,
            runner=runner,
            committer=committer,
            streams=streams,
            bulks=Bulks(runner=runner, committer=committer, waits=self._waits),
            max_result_bytes=server.max_result_bytes,
            concurrency=Concurrency(rooms) if rooms else None,
            share=share,
        )
        calls = Calls(
            catalogue=catalogue,
            plans=plans,
            transactions=Transactions(catalogue=catalogue, plans=plans, pool=pool, max_batch=server.max_batch),
            server=server,
            asking=[name for name, group in self._settings.groups.items() if group.settings],
            limits=self._limits,
        )
        described = CatalogueResource(catalogue=catalogue, plans=plans, verbose=server.verbose_errors, joins=joins)
        calling: dict[str, Any] = {
            "calls": calls,
            "execution": execution,
            "answered": self._operations.reporting.answered,
            "failures": failures,
            "deprecations": Deprecations(catalogue, self._metrics),
            "compression": Compression(Turns(self._waits)),
        }
        app.add_route("/query/{name}", QueryResource(**calling))
        app.add_route("/transaction", TransactionResource(**calling))
        app.add_route("/outcome/{mark}", OutcomeResource(outcomes=outcomes, timeout=server.timeout))
        typed = DocumentResource(
            catalogue=catalogue,
            plans=plans,
            big_as_text=server.bigint == "string",
            knows_callers=self._settings.auth.is_on,
            turns=Turns(self._waits),
        )
        app.add_route("/openapi.json", typed)
        pages = StaticResource("docs.html", ("docs.js", "docs.css", "swagger-ui-bundle.js", "swagger-ui.css"))
        app.add_route("/docs", pages)
        app.add_route("/docs/{file}", pages, suffix="part")
        app.add_route("/queries", described)
        app.add_route("/queries/{name}", described, suffix="one")
        self._operations.serve(
            app,
            calls=calls,
            requests=self._identity.requests,
            workers=self._snapshots.all,
            cancel=partial(cancel, self._driver(read_only=True)),
            tell=self._telling(QUESTION),
        )

    def _rooms(self) -> dict[str, Occupancy]:
        """What counts the running calls of each query that has a limit to them."""
        return {
            query.name: Occupancy(
                query.name,
                query.concurrency,
                directory=self._directory,
                workers=self._settings.server.workers,
                observe=self._observe,
            )
            for query in self._catalogue.queries.values()
            if query.concurrency is not None
        }

    def _serve_operators(self, app: "falcon.App[Any, Any]") -> None:
        reloads = Reloads(self._directory, master=os.getppid())
        health = HealthResource(
            catalogue=self._catalogue,
            pool=self._pool,
            sizes={name: group.size for name, group in self._settings.groups.items()},
            snapshots=self._snapshots,
            closing=self._ledger.closing if self._ledger else lambda _endpoint: 0,
            authentication=self._identities.status if self._identities else dict,
            readiness=Readiness(
                catalogue=self._catalogue, plans=self._plans, pool=self._pool, is_draining=self._is_draining
            ),
            reloads=reloads,
        )
        longest_wait = LONGEST_WAIT_OF_SYNC if self._settings.server.worker == "sync" else LONGEST_WAIT
        endpoints = EndpointAdminResource(
            rotation=self._rotation,
            snapshots=self._snapshots,
            membership=partial(membership, pool=self._pool),
            waits=self._waits,
            observe=self._observe,
            longest_wait=longest_wait,
        )
        learning = LearningAdminResource(
            learn_now=self._learner.learn_now, plans=self._plans, longest_wait=longest_wait
        )
        app.add_route("/health", health)
        app.add_route("/health/live", health, suffix="live")
        app.add_route("/health/ready", health, suffix="ready")
        app.add_route("/admin/endpoints/{name}/drain", endpoints, suffix="drain")
        app.add_route("/admin/endpoints/{name}/resume", endpoints, suffix="resume")
        app.add_route("/admin/learn", learning)
        reload = ReloadAdminResource(reloads=reloads, waits=self._waits, longest_wait=longest_wait)
        app.add_route("/admin/reload", reload)

    def start(self) -> None:
        """Begin what runs beside requests."""
        ledger, settings, observe = self._ledger, self._settings, self._observe
        if self._identities is not None:
            self._start(self._identities)
        self._operations.start()
        # Before the first request: who drains an endpoint must know of all who may be at work on it.
        self._snapshots.publish()
        self._rotation.subscribe(self._beat.wake)
        self._beat.add(self._snapshots.tend, *self._operations.duties(), self._pool.clean_idle)
        if ledger:
            self._beat.add(ledger.tend)
        self._start(self._beat)
        is_told = self._news is None or self._news.is_listening
        polling = Polling(rotation=self._rotation, waits=self._waits, observe=observe, is_told=is_told)
        self._start(polling)
        driver = self._driver(read_only=True)
        prober = Prober(
            driver=ledger.for_probes(driver, _told_apart(settings)) if ledger else driver,
            resolve=driver.resolve,
            rotation=self._rotation,
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
            self._news.on(LEARNT, self._learner.notice)
            self._news.on(PLACES, self._beat.wake)
            self._news.on(QUESTION, self._beat.wake)
            for listener in (prober.notice_end, self._learner.notice, self._beat.wake):
                self._news.on(WORKERS, listener)
            self._start(self._news)
        self._start(prober)
        self._start(self._learner)
        retention = settings.idempotency.retention
        self._start(Sweeper(pool=self._pool, retention=retention, is_wanted=prober.is_elected, observe=observe))

    def _start(self, activity: "_Activity") -> None:
        activity.start()
        self._activities.append(activity)

    def close(self) -> None:
        """End what ``start`` began, the last first, and give every connection back."""
        self._pool.close()
        while self._activities:
            self._activities.pop().close()
        if self._ledger is not None:
            self._ledger.close()
        self._operations.close()

    def _group(self, name: str, group: GroupSettings) -> Group[Session]:
        ledger, server = self._ledger, self._settings.server
        write = group.access == "write"
        queries = self._catalogue.queries.values()
        timeouts = [query.timeout for query in queries if query.group == name]
        driver = self._driver(read_only=not write, longest=max([server.timeout, *timeouts]))
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
                observe=self._observe,
            ),
            rotation=self._rotation,
            waits=self._waits,
            backoffs=self._backoffs,
        )
        if ledger is not None:
            ledger.enlist(name, made)
        return made

    def _driver(self, *, read_only: bool, longest: float | None = None) -> Driver:
        return Driver(
            addresses(self._settings.endpoints),
            read_only=read_only,
            time_zone=self._settings.server.time_zone,
            longest=longest,
            prepared=self._settings.server.prepared,
            resolver=self._resolver,
            passwords=self._passwords,
            application=f"{APPLICATION} {gethostname()[:LONGEST_HOST]}/{self._metering.slot}",
        )


def _all_of(*observers: Observer) -> Observer:
    def observe(event: Event) -> None:
        for each in observers:
            each(event)

    return observe


def _streams(settings: Settings) -> dict[str, int]:
    """How many streams each group may have at a time in one worker."""
    workers = settings.server.workers
    return {name: max(1, (group.max_streams or group.size // 2) // workers) for name, group in settings.groups.items()}


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


def _told_apart(settings: Settings) -> dict[str, str]:
    """What tells one server from another by the same name. Never a secret: settings do not show theirs."""
    return {name: repr(endpoint) for name, endpoint in settings.endpoints.items()}


def __getattr__(name: str) -> Any:
    """Make ``application`` when a foreign server asks for it, and not when our own imports ``create_app``."""
    if name != "application":
        raise AttributeError(name)
    from gateway.catalogue.compiling import compile_project
    from gateway.settings import load_settings

    settings = load_settings()
    if faults := list(faults_of(settings.auth)):
        raise FaultsFound(faults)
    return create_app(settings, compile_project(settings), None)
