"""The routes of one worker: what answers requests, made of what the worker has."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, ParamSpec

from gateway.app.worker import Worker
from gateway.app.wsgi import GatewayApp
from gateway.catalogue.query import Query
from gateway.execution.bulking import Bulks
from gateway.execution.call import BulkCall, PageCall, StreamCall
from gateway.execution.committing import Committer
from gateway.execution.concurrency import Concurrency
from gateway.execution.cursors import Cursors
from gateway.execution.execution import Execution
from gateway.execution.joining import sharing
from gateway.execution.judging import Joined
from gateway.execution.keeping import Keeping, may_be_kept
from gateway.execution.outcomes import Outcomes
from gateway.execution.paging import Pages
from gateway.execution.running import Runner
from gateway.execution.streaming import Streams
from gateway.execution.transactions import Transactions
from gateway.metrics import STREAMS
from gateway.node.news import QUESTION
from gateway.node.occupancy import Occupancy
from gateway.node.reloads import Reloads
from gateway.node.secret import signing_secret
from gateway.postgres.cancelling import cancel
from gateway.settings import Settings
from gateway.waiting import Turns
from gateway.web.admin import EndpointAdminResource, LearningAdminResource, ReloadAdminResource
from gateway.web.calls import Calls
from gateway.web.catalogue import CatalogueResource
from gateway.web.compression import Compression
from gateway.web.deprecations import Deprecations
from gateway.web.document import DocumentResource
from gateway.web.failures import Failures
from gateway.web.health import HealthResource, membership
from gateway.web.mcp.protected import ProtectedResource
from gateway.web.mcp.resource import McpResource
from gateway.web.mcp.tools import Tools
from gateway.web.outcomes import OutcomeResource
from gateway.web.queries import QueryResource, TransactionResource
from gateway.web.readiness import Readiness
from gateway.web.routes import QUERY, Routes
from gateway.web.static import StaticResource
from gateway.web.status import StatusResource

P = ParamSpec("P")

LONGEST_WAIT = 3600.0
LONGEST_WAIT_OF_SYNC = 30.0
"""Seconds an operator's request may wait for what it asked for; a sync worker shows no other sign of life meanwhile."""

STATUS_PARTS = (
    *("status.js", "rotation.js", "charts.js", "tables.js", "troubles.js", "rates.js", "words.js", "elements.js"),
    *("status.css", "uPlot.iife.min.js", "uPlot.min.css"),
)
"""Files that the page of the node's state is made of."""


def front(worker: Worker) -> GatewayApp:
    """What answers requests."""
    reporting, spans = worker.operations.reporting, worker.spans
    protected = ProtectedResource(worker.settings)
    failures = Failures(
        verbose=worker.settings.server.verbose_errors,
        observe=worker.observe,
        failed=_both(reporting.failed, spans.failed) if spans else reporting.failed,
        broke_off=reporting.broke_off,
        challenge=protected.challenge,
    )
    app = GatewayApp(
        routes=Routes(knows_callers=worker.settings.auth.is_on),
        identity=worker.identity,
        failures=failures,
        others=[worker.spans] if worker.spans else [],
        close=worker.close,
        observe=worker.observe,
    )
    for path in protected.paths:
        app.add_route(path, protected)
    _serve_queries(app, worker, failures)
    _serve_operators(app, worker)
    return app


class _Executing(NamedTuple):
    """What runs calls, and what of it is asked by others."""

    execution: Execution | Keeping
    outcomes: Outcomes
    cursors: Cursors
    joins: Callable[[Query], Joined]
    """Whether a query's calls are answered together."""


def _serve_queries(app: GatewayApp, worker: Worker, failures: Failures) -> None:
    reporting, spans = worker.operations.reporting, worker.spans
    server, catalogue, plans = worker.settings.server, worker.catalogue, worker.plans
    executing = _executing(worker)
    calls = Calls(
        catalogue=catalogue,
        plans=plans,
        transactions=Transactions(catalogue=catalogue, plans=plans, pool=worker.pool, max_batch=server.max_batch),
        server=server,
        asking=[name for name, group in worker.settings.groups.items() if group.settings],
        limits=worker.limits,
        cursors=executing.cursors,
    )
    calling: dict[str, Any] = {
        "calls": calls,
        "execution": executing.execution,
        "answered": _both(reporting.answered, spans.answered) if spans else reporting.answered,
        "failures": failures,
        "deprecations": Deprecations(catalogue, worker.metrics),
        "compression": Compression(Turns(worker.waits)),
    }
    app.add_route(QUERY, QueryResource(**calling))
    app.add_route("/transaction", TransactionResource(**calling))
    if worker.settings.mcp.enabled:
        tools = Tools(catalogue=catalogue, plans=plans, turns=Turns(worker.waits))
        app.add_route(worker.settings.mcp.path, McpResource(**calling, tools=tools, settings=worker.settings))
    app.add_route("/outcome/{mark}", OutcomeResource(outcomes=executing.outcomes, timeout=server.timeout))
    _serve_descriptions(app, worker, executing.joins)
    worker.operations.serve(
        app,
        calls=calls,
        requests=worker.identity.requests,
        workers=worker.snapshots.all,
        cancel=partial(cancel, worker.driver(read_only=True)),
        tell=worker.telling(QUESTION),
    )


def _executing(worker: Worker) -> _Executing:
    server, pool, plans, catalogue = worker.settings.server, worker.pool, worker.plans, worker.catalogue
    runner = Runner(
        pool=pool,
        waits=worker.waits,
        retry_budget=server.retry_budget,
        probe_interval=worker.settings.probe.interval,
        observe=worker.observe,
    )
    outcomes = Outcomes(pool=pool, waits=worker.waits)
    rooms = _rooms(worker)
    committer = Committer(
        runner=runner, outcomes=outcomes, max_result_bytes=server.max_result_bytes, waits=worker.waits
    )
    share, joins = sharing(
        server, plans=plans, runner=runner, waits=worker.waits, observe=worker.observe, metrics=worker.metrics
    )
    streams = Streams(pool=pool, runner=runner, waits=worker.waits, most=_streams(worker.settings))
    worker.metrics.gauge(STREAMS, streams.running)
    has_pages = any(query.page for query in catalogue.queries.values())
    cursors = Cursors(signing_secret(server.secret_file, worker.directory if has_pages else None))
    pages = Pages(runner=runner, rotation=worker.rotation, cursors=cursors, max_result_bytes=server.max_result_bytes)
    execution = Execution(
        plans=plans,
        runner=runner,
        committer=committer,
        others={
            StreamCall: streams.run,
            BulkCall: Bulks(runner=runner, committer=committer, waits=worker.waits).run,
            PageCall: pages.run,
        },
        max_result_bytes=server.max_result_bytes,
        concurrency=Concurrency(rooms) if rooms else None,
        share=share,
    )
    if not any(map(may_be_kept, catalogue.queries.values())):
        return _Executing(execution, outcomes, cursors, joins)
    keeping = Keeping(
        execution.run,
        catalogue=catalogue,
        plans=plans,
        view=worker.rotation.view,
        waits=worker.waits,
        most_bytes=worker.settings.cache.size,
        metrics=worker.metrics,
    )
    return _Executing(keeping, outcomes, cursors, joins)


def _serve_descriptions(app: GatewayApp, worker: Worker, joins: Callable[[Query], Joined]) -> None:
    server, catalogue, plans = worker.settings.server, worker.catalogue, worker.plans
    described = CatalogueResource(catalogue=catalogue, plans=plans, verbose=server.verbose_errors, joins=joins)
    typed = DocumentResource(
        catalogue=catalogue,
        plans=plans,
        big_as_text=server.bigint == "string",
        knows_callers=worker.settings.auth.is_on,
        turns=Turns(worker.waits),
    )
    shown = StaticResource("docs.html", ("docs.js", "docs.css", "swagger-ui-bundle.js", "swagger-ui.css"))
    app.add_route("/queries", described)
    app.add_route("/queries/{name}", described, suffix="one")
    app.add_route("/openapi.json", typed)
    app.add_route("/docs", shown)
    app.add_route("/docs/{file}", shown, suffix="part")


def _both(first: Callable[P, None], second: Callable[P, None]) -> Callable[P, None]:
    """Return what calls one after the other."""

    def call(*arguments: P.args, **named: P.kwargs) -> None:
        first(*arguments, **named)
        second(*arguments, **named)

    return call


def _rooms(worker: Worker) -> dict[str, Occupancy]:
    """What counts the running calls of each query that has a limit to them."""
    return {
        query.name: Occupancy(
            query.name,
            query.concurrency,
            directory=worker.directory,
            workers=worker.settings.server.workers,
            observe=worker.observe,
        )
        for query in worker.catalogue.queries.values()
        if query.concurrency is not None
    }


def _serve_operators(app: GatewayApp, worker: Worker) -> None:
    reloads = Reloads(worker.directory, master=os.getppid())
    health = HealthResource(
        catalogue=worker.catalogue,
        pool=worker.pool,
        sizes={name: group.size for name, group in worker.settings.groups.items()},
        snapshots=worker.snapshots,
        closing=worker.ledger.closing if worker.ledger else lambda _endpoint: 0,
        authentication=worker.identities.status if worker.identities else dict,
        readiness=Readiness(
            catalogue=worker.catalogue, plans=worker.plans, pool=worker.pool, is_draining=worker.is_draining
        ),
        reloads=reloads,
    )
    longest_wait = LONGEST_WAIT_OF_SYNC if worker.settings.server.worker == "sync" else LONGEST_WAIT
    endpoints = EndpointAdminResource(
        rotation=worker.rotation,
        snapshots=worker.snapshots,
        membership=partial(membership, pool=worker.pool),
        waits=worker.waits,
        observe=worker.observe,
        longest_wait=longest_wait,
    )
    learning = LearningAdminResource(learn_now=worker.learner.learn_now, plans=worker.plans, longest_wait=longest_wait)
    status = StatusResource(
        health=health,
        pool=worker.pool,
        merged=worker.operations.counted,
        samples=worker.samples,
        recent=worker.recent,
        compression=Compression(Turns(worker.waits)),
    )
    page = StaticResource("status.html", STATUS_PARTS)
    app.add_route("/", page)
    app.add_route("/status/{file}", page, suffix="part")
    app.add_route("/status.json", status)
    app.add_route("/health", health)
    app.add_route("/health/live", health, suffix="live")
    app.add_route("/health/ready", health, suffix="ready")
    app.add_route("/admin/endpoints/{name}/drain", endpoints, suffix="drain")
    app.add_route("/admin/endpoints/{name}/resume", endpoints, suffix="resume")
    app.add_route("/admin/learn", learning)
    reload = ReloadAdminResource(reloads=reloads, waits=worker.waits, longest_wait=longest_wait)
    app.add_route("/admin/reload", reload)


def _streams(settings: Settings) -> dict[str, int]:
    """How many streams each group may have at a time in one worker."""
    workers = settings.server.workers
    return {name: max(1, (group.max_streams or group.size // 2) // workers) for name, group in settings.groups.items()}
