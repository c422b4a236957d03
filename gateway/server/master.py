"""The master process: gunicorn's arbiter, but for the sockets, which it opens and closes by our rules.

gunicorn creates every unix socket with one umask, removes the file of a server that lives, and knows no listener for
operators.
"""

import logging
import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.sock import TCP6Socket, TCPSocket, UnixSocket
from gunicorn.util import parse_address

from gateway.events import Event
from gateway.node.recent import RecentEvents
from gateway.server.artefact import Compiled
from gateway.server.listening import sentence_of, unix_fault
from gateway.server.log import ServerLog
from gateway.server.reloading import Reloading
from gateway.server.watching import Watch
from gateway.settings import ServerSettings, inherits_sockets

ADMIN = "admin.sock"
"""The operators' socket in the runtime directory, where ``[server] admin_bind`` names no other."""
ADMIN_MODE = 0o600
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that end a process."""
SOON = 0.05
"""Seconds between two looks at what is due, while something is."""


def admin_address(server: ServerSettings, directory: Path) -> str:
    """Where operators are listened to, in the form of ``[server] bind``."""
    return server.admin_bind or f"unix:{directory / ADMIN}"


class Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    """Runs the workers of an ``application.Application``. Satisfies ``reloading.Generations``.

    Workers have numbers (``age``) that grow. Those from ``_next`` on are of the generation that a reload starts.
    """

    def __init__(self, application: Any) -> None:
        super().__init__(application)
        self._listeners = Listeners(self.cfg, self.log)
        self._next: int | None = None
        """None: all workers are of one generation, but for those that were told to end."""
        self._ending: set[int] = set()
        """Processes that were told to end."""
        self._stop_at: float | None = None
        """When the node stops, after it was told to with a delay."""
        self._recent = RecentEvents(application.directory)
        self._recent.take_over("master")
        # Such as that a worker was killed. Workers inherit this, and publish nothing of it.
        logging.getLogger("gunicorn.error").addHandler(ServerLog(self._recent.observe, level=logging.WARNING))
        self._reloading = Reloading(
            generations=self,
            command=application.origin.command,
            directory=application.directory,
            observe=self._observe,
        )
        self._watch = Watch(application) if application.origin.is_watched else None

    def start(self) -> None:
        """Listen, then start as gunicorn does. Raises RuntimeError where an address cannot be listened on."""
        settings = self.app.settings.server
        try:
            if not self.cfg.reuse_port and not inherits_sockets():
                mode = int(settings.socket_mode, 8)
                self.LISTENERS = [
                    self._listeners.open(bind, mode=mode, group=settings.socket_group) for bind in self.cfg.bind
                ]
            self.app.admin = self._listeners.open(self.app.admin_address, mode=ADMIN_MODE)
        except ListeningFailed as error:
            self._listeners.close()
            raise RuntimeError(str(error)) from None
        super().start()
        self.log.info("Listening to operators at: %s", self.app.admin_address)
        self.app.register(self.log)

    def stop(self, graceful: bool = True) -> None:
        """Close the listeners, so that nobody new comes, and end the workers."""
        self._reloading.close()
        self.app.tally.stop()
        self._listeners.close()
        self.LISTENERS = []
        super().stop(graceful)

    def handle_hup(self) -> None:
        """SIGHUP: reload."""
        self._reloading.ask()

    def handle_usr1(self) -> None:
        """SIGUSR1, of a worker: servers were found, or left. Files may be half edited now: they are not read."""
        self._reloading.ask(whole=False)

    def handle_term(self) -> None:
        """SIGTERM: stop; with ``[server] shutdown_delay`` only after it, unless the signal is repeated.

        While it still accepts, whoever sends requests here learns that it is going, from ``/health/ready`` and from
        ``Connection: close``.
        """
        delay = self.app.settings.server.shutdown_delay
        if not delay or self._stop_at is not None:
            super().handle_term()
        self._stop_at = time.monotonic() + delay
        self.app.tally.stop()
        self.log.info("Not ready from now on; stopping in %g s", delay)

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """Wait for signals, for a moment only while there is something else to do."""
        soon = self._reloading.is_busy or self._stop_at is not None or self._watch is not None
        signals: list[int] = super().wait_for_signals(SOON if soon else timeout)
        return signals

    def manage_workers(self) -> None:
        """Do what is due, and have as many workers as there should be."""
        if self._stop_at is not None:
            if time.monotonic() >= self._stop_at:
                raise StopIteration  # as for SIGTERM
        else:
            if self._watch is not None and self._watch.has_changed():
                self._reloading.ask()
            self._reloading.step()
        self._recent.tend()
        self._ending &= self.WORKERS.keys()
        serving = self._serving(self._next or 0)
        for _ in range(self.num_workers - len(serving)):
            self.spawn_worker()
        for pid in serving[: max(0, len(serving) - self.num_workers)]:
            self._end(pid)

    def spawn_worker(self) -> Any:
        """Start a worker; what tells it to end while it is forked waits until it no longer has our handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def reap_workers(self) -> None:
        """Take note of workers that have ended. One that a reload has started does not end the node."""
        try:
            super().reap_workers()
        except HaltServer:
            if not self._reloading.is_starting:
                raise
            self._reloading.refuse("a new worker ended while it was starting; the log says why")

    # -- generations ------------------------------------------------------------------------------------------------

    @property
    def compiled(self) -> Compiled:
        """What is served."""
        compiled: Compiled = self.app.compiled
        return compiled

    def start_next(self, compiled: Compiled) -> None:
        """Start workers that serve this, beside those that serve now."""
        self._take(compiled)
        self._next = self.worker_age + 1
        self.app.tally.let_wait(self._next)

    def is_next_ready(self) -> bool:
        """Whether all of them are ready."""
        ages = [self.WORKERS[pid].age for pid in self._serving(self._next or 0)]
        return len(ages) == self.num_workers and all(map(self.app.tally.is_ready, ages))

    def hand_over(self) -> None:
        """Let them serve alone: the others are told to end."""
        new = self._serving(self._next or 0)
        self._next = None
        self.app.tally.let_serve()
        for pid in self._serving():
            if pid not in new:
                self._end(pid)

    def is_handed_over(self) -> bool:
        """Whether none of the others accepts connections any more."""
        return not any(self.app.tally.accepts(self.WORKERS[pid].age) for pid in self._ending & self.WORKERS.keys())

    def give_up_next(self, compiled: Compiled) -> None:
        """Tell them to end; ``compiled`` is served as before."""
        self.app.tally.let_wait(self._next or 0, self.worker_age)
        for pid in self._serving(self._next or 0):
            self._end(pid)
        self._next = None
        self._take(compiled)

    def _observe(self, event: Event) -> None:
        self._recent.observe(event)
        self.app.log.observe(event)

    def _take(self, compiled: Compiled) -> None:
        self.app.take(compiled)
        self.setup(self.app)

    def _serving(self, since: int = 0) -> list[int]:
        """The processes of workers from this number on that were not told to end, the oldest first."""
        workers = sorted(self.WORKERS.items(), key=lambda item: item[1].age)
        return [pid for pid, worker in workers if worker.age >= since and pid not in self._ending]

    def _end(self, pid: int) -> None:
        self._ending.add(pid)
        self.kill_worker(pid, signal.SIGTERM)

    def handle_usr2(self) -> None:
        """SIGUSR2: refused, for a runtime directory has one master. A reload is SIGHUP."""
        self.log.warning("SIGUSR2 is ignored: a second master cannot share the runtime directory; use SIGHUP")


class ListeningFailed(Exception):
    """An address cannot be listened on; the message names it and says why."""


class Listeners:
    """Makes listening sockets as gunicorn knows them, and removes the files of those that are unix sockets."""

    def __init__(self, cfg: Any, log: Any) -> None:
        """``cfg``, ``log``: gunicorn's."""
        # Nothing here is shared by port: newer kernels refuse SO_REUSEPORT for unix sockets.
        self._cfg = SimpleNamespace(reuse_port=False, backlog=cfg.backlog, is_ssl=cfg.is_ssl)
        self._log = log
        self._open: list[Any] = []
        self._files: dict[Path, tuple[int, int]] = {}
        """Paths of unix sockets, with device and inode of the files that were made there."""

    def open(self, bind: str, *, mode: int, group: str = "") -> Any:
        """Listen on an address in the form of ``[server] bind``; ``mode`` and ``group`` are a unix socket's.

        Raises ListeningFailed.
        """
        address = parse_address(bind)
        try:
            if isinstance(address, str):
                listener = self._open_unix(Path(address), mode, group)
            elif ":" in address[0]:
                listener = TCP6Socket(address, self._cfg, self._log)
            else:
                listener = TCPSocket(address, self._cfg, self._log)
        except OSError as error:
            raise ListeningFailed(f"{bind}: {sentence_of(error)}") from None
        self._open.append(listener)
        return listener

    def close(self) -> None:
        """Close all of them. A file that another server has put in the place of ours stays."""
        for listener in self._open:
            listener.close()
        self._open.clear()
        for path, made in self._files.items():
            with suppress(OSError):
                if _identity(path) == made:
                    path.unlink()
        self._files.clear()

    def _open_unix(self, path: Path, mode: int, group: str) -> Any:
        """Bind a unix socket whose file has its mode and group before anybody can connect.

        Until listen(2) every connect(2) is refused, so the group may be changed after the file is there.
        """
        if message := unix_fault(str(path)):
            raise ListeningFailed(f"unix:{path}: {message}")
        path.unlink(missing_ok=True)  # a socket on which nobody listens
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            umask = os.umask(0o777 & ~mode)
            try:
                sock.bind(str(path))
            finally:
                os.umask(umask)
            self._files[path] = _identity(path)
            try:
                if group:
                    shutil.chown(path, group=int(group) if group.isdecimal() else group)
            except (OSError, LookupError) as error:
                raise ListeningFailed(f"unix:{path}: cannot be given to the group {group}: {error}") from None
            return UnixSocket(str(path), self._cfg, self._log, fd=sock.detach())


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
