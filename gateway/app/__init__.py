"""The composition root: settings and a compiled catalogue become a Falcon app. Nothing but ``server`` imports it.

Foreign WSGI servers find ``gateway.app:application``, which compiles ``gateway.toml`` for itself.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.app.front import front
from gateway.app.worker import Worker
from gateway.app.wsgi import GatewayApp
from gateway.auth.checking import faults_of
from gateway.catalogue.query import Catalogue
from gateway.events import Event, LogLevelChanged, Observer
from gateway.faults import FaultsFound
from gateway.settings import Settings
from gateway.waiting import ThreadWaits, Waits


def log_event(event: Event) -> None:
    """Write an event to the log."""
    if isinstance(event, LogLevelChanged):
        logging.getLogger("gateway").setLevel(event.to.upper())
    logging.getLogger("gateway").log(event.level, "%s", event, exc_info=getattr(event, "error", None))


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
    worker = Worker(settings, catalogue, directory, is_draining, waits or ThreadWaits(), observe or log_event)
    app = front(worker)
    worker.start()
    return app


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
