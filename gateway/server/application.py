"""The artefact as a gunicorn application."""

import atexit
import logging
import os
import signal
import ssl
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET, socket
from typing import Any

import gunicorn.http.wsgi
from gunicorn.app.base import BaseApplication

from gateway.catalogue.query import Catalogue
from gateway.events import LinesOmitted, Observer
from gateway.faults import Fault
from gateway.node.news import WORKERS, tell
from gateway.server import registry
from gateway.server.artefact import NOWHERE, ArtefactUnusable, Compiled, Origin, read
from gateway.server.certificates import Certificates
from gateway.server.log import Log, ServerLog
from gateway.server.master import ENDING, Master, admin_address
from gateway.server.options import options_of
from gateway.server.runtime import Runtime, remove
from gateway.server.standard import await_turn, closing_after_refusals, closing_when, marking_operators
from gateway.server.tally import Tally
from gateway.server.writer import ErrorStream, LineWriter
from gateway.settings import LogSettings, Settings, is_local
from gateway.waiting import ThreadWaits, Waits

CreateApp = Callable[[Settings, Catalogue, Path, Callable[[], bool], Waits, Observer], Any]
"""Makes the WSGI application of one worker, which may ask whether it was told to end, waits as the worker does, and
reports what happens: ``gateway.app.create_app``."""


STANDARD_ERROR = 2


class Application(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """Serves what was compiled, and something else after ``take``."""

    admin: Any
    """The operators' listener, once the master has opened it. It is not among a worker's ``sockets``."""

    def __init__(
        self, *, directory: Path, compiled: Compiled, create_app: CreateApp, log: Log, origin: Origin = NOWHERE
    ) -> None:
        self.directory = directory
        self.compiled = compiled
        """What is served."""
        self.certificates = _certificates(compiled.settings, log)
        """Of TLS to clients; None without it."""
        self._create_app = create_app
        self.log = log
        self.observe: Observer = log.observe
        """Takes events; in a worker that has made the WSGI application they are counted, too."""
        self.origin = origin
        self._bind = compiled.settings.server.bind
        self.admin_address = admin_address(compiled.settings.server, directory)
        self._entry: registry.Entry | None = None
        self.tally = Tally()
        self.waits: Waits = ThreadWaits()
        """How a worker of this process waits; one with an event loop sets its own before the app is made."""
        self._worker: Any = None
        self._end: Callable[[], object] | None = None
        """Closes the WSGI application, in a worker that has made it."""
        super().__init__()

    def load_config(self) -> None:
        """Tell gunicorn what the artefact says. The addresses stay those of the start: sockets are not reopened."""
        for name, value in options_of(self.compiled, self.directory).items():
            self.cfg.set(name, value)
        self.cfg.set("bind", list(self._bind))
        self.cfg.set("when_ready", self._when_ready)
        self.cfg.set("post_fork", self._post_fork)
        self.cfg.set("worker_exit", self._worker_exit)
        self.cfg.set("child_exit", self._child_exit)
        self.cfg.set("ssl_context", self._tls_context)

    @property
    def settings(self) -> Settings:
        """What is served, for the worker."""
        return self.compiled.settings

    def run(self) -> None:
        """Be the master until told to stop; ends in SystemExit."""
        try:
            Master(self).run()
        except RuntimeError as error:
            self.log.configure(LogSettings(format="text"), is_terminal=False)  # what ends a command is no event
            sys.exit(str(Fault("gateway", 0, str(error))))

    def load(self) -> Any:
        """Make the WSGI application; runs in each worker."""
        settings, catalogue = self.compiled.settings, self.compiled.catalogue
        made = self._create_app(settings, catalogue, self.directory, self._is_draining, self.waits, self.log.observe)
        self._end = made.close
        self.observe = made.observe
        if settings.server.worker == "gateway":
            return made
        if self.tally.is_waiting(self._worker.age):
            await_turn(made, self.tally, self._worker.age, self.log.observe)
        return marking_operators(closing_when(lambda: self.tally.is_stopping, closing_after_refusals(made)), self.admin)

    def end(self) -> None:
        """End what the WSGI application runs beside requests, which it refuses from then on; in each worker."""
        if self._end is not None:
            self._end()
            self._end = None

    def register(self, log: Any) -> None:
        """Let the command line find this node; for the master alone."""
        try:
            self._entry = registry.register(registry.Node(self.origin.config, os.getpid(), self.admin_address))
        except OSError as error:
            log.warning("the command line will not find this node by itself: %s", error)

    def close(self) -> None:
        """Let it be found no more; for the master alone."""
        if self._entry is not None:
            registry.unregister(self._entry)

    def _is_draining(self) -> bool:
        """Whether this worker was told to end, for which every class of gunicorn's has a flag, or the node stops."""
        return not self._worker.alive or self.tally.is_stopping

    def take(self, compiled: Compiled) -> None:
        """Serve this in workers that are forked from now on."""
        self.compiled, self.certificates = compiled, _certificates(compiled.settings, self.log)
        self.log.configure(compiled.settings.log, is_terminal=os.isatty(STANDARD_ERROR))
        self.reload()

    def _tls_context(self, _config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """What gunicorn's own workers ask for with each connection."""
        return self.certificates.context() if self.certificates else default()

    def _when_ready(self, arbiter: Any) -> None:
        auth = self.compiled.settings.auth
        if not auth.is_on and not auth.allow_anonymous:
            # SECURITY: sockets that systemd passed are not those of the settings, which were checked when compiled.
            for listener in arbiter.LISTENERS:
                if not is_local(name := _name_of(listener)):
                    raise RuntimeError(f"{name} is not loopback; see [auth] allow_anonymous")

    def _post_fork(self, _arbiter: Any, worker: Any) -> None:
        self._worker = worker
        # Until it has handlers of its own it would only note the master's copies of them, and never go.
        for sig in ENDING:
            signal.signal(sig, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # the master has blocked them for the fork
        # Here and not when ready: with reuse_port each worker has sockets of its own.
        server = self.compiled.settings.server
        if server.worker != "gateway":
            worker.sockets = [*worker.sockets, self.admin]
        _limit_silence(worker.sockets, server.body_timeout)

    def _worker_exit(self, _arbiter: Any, _worker: Any) -> None:
        self.end()

    def _child_exit(self, _arbiter: Any, worker: Any) -> None:
        self.tally.forget(worker.age)
        tell(self.directory, WORKERS)


def serve(runtime: Runtime, create_app: CreateApp, origin: Origin = NOWHERE) -> None:
    """Run gunicorn on the artefact in the runtime directory until it is told to stop; ends in SystemExit.

    A private runtime directory is removed at the end, whatever the end is.
    """
    master = os.getpid()
    application = None
    log = _write_in_background()
    # Gunicorn writes this constant into every answer's Server header and has no setting for it.
    gunicorn.http.wsgi.SERVER = "gateway"
    try:
        compiled = read(runtime.path)
        log.configure(compiled.settings.log, is_terminal=os.isatty(STANDARD_ERROR))
        application = Application(
            directory=runtime.path, compiled=compiled, create_app=create_app, log=log, origin=origin
        )
        application.run()
    except ArtefactUnusable as error:
        sys.exit(str(Fault("gateway", 0, str(error))))
    finally:
        # Workers leave through here too: they are forked inside run().
        if os.getpid() == master:
            if application is not None:
                application.close()
            remove(runtime)


def _certificates(settings: Settings, log: Log) -> Certificates | None:
    """Raises ArtefactUnusable, if the files have become unusable since the settings were checked."""
    if not settings.server.certfile:
        return None
    try:
        return Certificates(settings, observe=log.observe)
    except OSError as error:
        raise ArtefactUnusable(f"server.certfile: certificate and key do not load: {error}") from None


def _write_in_background() -> Log:
    """Have all that goes to standard error, gunicorn's lines too, written by a thread of its own."""
    writer = LineWriter()
    log = Log(writer.write, later=writer.write_later)
    writer.line_of_dropped = lambda count: log.line(LinesOmitted(count=count))
    sys.stderr = stream = ErrorStream(log.text, writer.flush)
    atexit.register(stream.finish)
    logging.getLogger("gunicorn.error").addHandler(ServerLog(log.observe))
    return log


def _name_of(listener: socket) -> str:
    """Return the listener's address in the form of ``[server] bind``."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return f"unix:{name}"


def _limit_silence(listeners: Iterable[socket], seconds: float) -> None:
    """Let every read from and write to a client fail when nothing moved for so long.

    Gunicorn's workers have no limit of their own, so that as many silent clients as there are threads would stop a
    worker for good. On Linux an accepted TCP connection inherits the limits of its listening socket (socket(7)).
    """
    limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
    for listener in listeners:
        listener.setsockopt(SOL_SOCKET, SO_RCVTIMEO, limit)
        listener.setsockopt(SOL_SOCKET, SO_SNDTIMEO, limit)
