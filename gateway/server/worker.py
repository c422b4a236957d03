"""A gunicorn worker on gevent's loop: hundreds of requests at once in one process, without a thread.

The loop's own callbacks read, parse and send (``client``); a green thread exists only while a request is in flight.
"""

import _socket
import gc
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
import gevent.event
import gevent.monkey
from gunicorn.workers.base import Worker

from gateway.auth.proxies import Proxies
from gateway.events import CannotAccept, Observer, WorkerEnds
from gateway.server.accepting import Acceptor
from gateway.server.client import Client
from gateway.server.green_threads import GreenThreads
from gateway.server.intake import Heads
from gateway.server.process import descriptors_for_clients, keep_freed_memory, raise_descriptor_limit
from gateway.server.readiness import Question
from gateway.server.response import Clock, refusal, report_of
from gateway.server.service import READ, Phase
from gateway.server.transport import Plain, Tls
from gateway.server.watchdog import Watchdog
from gateway.settings import Settings

GLANCE = 0.02
"""Seconds between two looks at whether a worker that starts is ready, or one that ends has answered all."""
CLIENT_SWEEP = 0.25
"""Seconds between two looks at clients that are slow or idle."""
STANDSTILL = 1.0
"""Seconds between two turns of the loop from which on the process stood still, and no client is to blame."""
LAST_ANSWERS = 1.0
"""Seconds before its time to drain is over in which a worker refuses what still waits: better 503 than a cut."""
DRAIN_IDLE = 1.0
"""Seconds after SIGTERM in which idle connections may still send a request: a close would cross it on its way."""
REPLACED_IDLE = 5.0
"""Seconds in which idle connections may still send a request where others serve on after a reload, so that nobody waits
for the end of this worker."""
BOOT = 2.0
"""Seconds for which a new worker leaves connections in the backlog while it cannot serve yet."""
CLIENTS_FIRST = 1
"""Priority of a watcher in the loop; others have 0."""
HEARTBEAT = 1.0
STUCK = 0.2
"""Seconds without a turn of the loop after which the watchdog says what held it."""

_READY = b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n"


class GatewayWorker(Worker):  # type: ignore[misc] # gunicorn has no types
    """Serves HTTP/1.1 for the gateway's app. Satisfies ``service.Service``."""

    alive: bool
    begin: Callable[[Callable[[], None]], None]
    """Begin the work in a green thread."""
    date: Callable[[], str]
    """The Date header's line."""

    def init_process(self) -> None:
        """Become cooperative before the app is made: its locks and events are then the loop's."""
        gevent.monkey.patch_all(ssl=False, signal=False)
        raise_descriptor_limit()
        keep_freed_memory()
        self._hub = gevent.get_hub()
        self._loop = self._hub.loop
        self._wake = gevent.event.Event()
        super().init_process()

    def load_wsgi(self) -> None:
        """Make the app, with psycopg2 waiting in the loop."""
        # Imported by each worker: nothing of the data path is in the master.
        from gateway.postgres import looping

        self._waits = self.app.waits = looping.install()
        super().load_wsgi()
        # PERF: modules, settings and catalogue are never garbage. To look through them takes 50 ms, and 0.2 s with
        # 10,000 queries, in which no request has its turn.
        gc.freeze()

    def run(self) -> None:
        """Serve until told to stop, then answer everything accepted and everything in the backlog."""
        server = self.app.settings.server
        self.max_body = server.max_body
        self.head_timeout = server.head_timeout
        self.body_timeout = server.body_timeout
        self.idle_timeout = server.idle_timeout
        self._drains = False
        self._stopping = self.app.tally.stopping
        self.proxies = Proxies(server.trusted_proxies)
        self.observe: Observer = self.app.observe
        self._heads = {listener: Heads(self._base_of(listener)) for listener in self.sockets}
        self._heads[self.app.admin] = Heads(
            self._base_of(self.app.admin) | {"gateway.admin": True, "wsgi.url_scheme": "http"}
        )
        self._clients: set[Client] = set()
        self._readers: set[Client] = set()
        """Of those, who may still be taking an answer."""
        self._held = 0
        """Bytes of requests that are arriving or being answered."""
        self._body_budget: int = server.body_budget
        self._acceptor = Acceptor(
            listeners=self.sockets,
            admin=self.app.admin,
            take=self._take,
            clients=self._clients.__len__,
            tally=self.app.tally,
            worker=self.age,
            observe=self.observe,
        )
        self._most_clients = descriptors_for_clients(_connections_of(self.app.settings))
        self._is_full = False
        self.begin = GreenThreads(self._waits, self.observe).run
        self.date = Clock().line
        self._watchdog = Watchdog(self._waits, stuck_after=STUCK, observe=self.observe)
        self._turned_at = monotonic()
        """When the worker looked at its clients last, all or some."""
        self._certificates = self.app.certificates
        self._start_watching()
        self._await_readiness()
        if self.app.tally.is_waiting(self.age):
            self.app.end()  # its turn never came: those that serve have the backlog, too
            return
        self._acceptor.start()
        while self.alive:
            self.notify()
            self.app.log.report()
            self._check_parent()
            self._wake.wait(HEARTBEAT)
        self._drain()

    # -- what a client asks for -----------------------------------------------------------------------------------

    def watch(self, fd: int, events: int) -> Any:
        """A watcher of the loop, not started.

        PERF: in each turn of the loop requests are read and sent to servers first, then come the servers' answers: code
        and data of each half stay warm for as many as are ready.
        """
        return self._loop.io(fd, events, True, CLIENTS_FIRST if events == READ else None)

    def soon(self, work: Callable[[], None]) -> None:
        """Do the work in the loop's next turn."""
        self._loop.run_callback(work)

    def sleep(self) -> None:
        """Wait until somebody switches to this green thread."""
        self._hub.switch()

    def sending(self, client: Client) -> None:
        """Look often whether the client's time to take its answer is over."""
        self._readers.add(client)
        self._waits.start_sweeping()

    def closed(self, client: object) -> None:
        """Forget a connection."""
        self._clients.discard(client)
        self._acceptor.note()

    def hold(self, size: int) -> bool:
        """Count so many bytes more of requests in progress, or fewer; False if the node has more than it may."""
        self._held += size
        held: int = self.app.tally.note_bytes(self.age, self._held)
        return held <= self._body_budget

    def answered(self) -> None:
        """Count a request; after ``max_requests`` the worker makes room for a fresh one."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.observe(WorkerEnds(reason="it served as many requests as it may"))
            self.alive = False
            self._wake.set()

    # -- life -----------------------------------------------------------------------------------------------------

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: drain."""
        super().handle_exit(sig, frame)
        self._loop.run_callback_threadsafe(self._wake.set)

    def handle_quit(self, _sig: int, _frame: Any) -> None:
        """SIGQUIT, SIGINT: end at once."""
        self.alive = False
        self.cfg.worker_int(self)
        os._exit(0)

    def _start_watching(self) -> None:
        # Python runs signal handlers between two of its instructions: a byte in the pipe makes the loop run some.
        signals = self._loop.io(self.PIPE[0], READ)
        signals.start(lambda: os.read(self.PIPE[0], 4096))
        self._waits.on_sweep(self._sweep_readers)
        self._client_sweeper = self._loop.timer(CLIENT_SWEEP, CLIENT_SWEEP)
        self._watchers = (signals, self._client_sweeper)

    def _await_readiness(self) -> None:
        """Know a server before the first request.

        One of a reload serves when all of its generation are ready. Until then others serve, and go on if it never is.
        """
        tally, began = self.app.tally, monotonic()
        question = Question(self.wsgi, self.observe)
        environ = self._heads[self.sockets[0]].read(_READY).environ
        is_ready = False
        while self.alive:
            if not is_ready and question.is_answered(environ | {"wsgi.input": io.BytesIO()}):
                is_ready = True
                tally.note_ready(self.age)
            if not tally.is_waiting(self.age) and (is_ready or monotonic() >= began + BOOT):
                return
            self.notify()
            self._wake.wait(GLANCE)

    @property
    def is_draining(self) -> bool:
        """Whether it was told to end, or the node is to: looked at for each answer, as a loop at rest notes nothing."""
        return self._drains or self._stopping[0] == 1

    def _note_turn(self, now: float) -> None:
        """The loop turns. If it has not for long, nobody is late: what arrived meanwhile has not been read."""
        late, self._turned_at = now - self._turned_at, now
        if late > STANDSTILL:
            for client in self._clients:
                client.postpone(late)

    def _sweep_readers(self, now: float) -> bool:
        """End answers that are taken too slowly; whether any is still being taken."""
        self._note_turn(now)
        for reader in tuple(self._readers):
            reader.sweep(now)
            if reader.phase is not Phase.SENDING:
                self._readers.discard(reader)
        return bool(self._readers)

    def _sweep_clients(self) -> None:
        if not self._clients:
            self._client_sweeper.stop()
            return
        now = monotonic()
        self._note_turn(now)
        for client in tuple(self._clients):
            client.sweep(now)

    def _is_replaced(self) -> bool:
        """Whether other workers serve on when this one has ended."""
        return self.ppid == os.getppid() and not self.app.tally.is_stopping

    def _check_parent(self) -> None:
        if self.ppid != os.getppid():
            self.observe(WorkerEnds(reason="its master is gone"))
            self.alive = False

    def _take(self, listener: Any, sock: _socket.socket, address: Any) -> None:
        """Serve a connection that was accepted, or refuse it: descriptors are kept for servers and for files."""
        if len(self._clients) >= self._most_clients and listener is not self.app.admin:
            self._refuse(sock)
            return
        if self._is_full and len(self._clients) < self._most_clients - self._most_clients // 10:
            self._is_full = False
        remote = {}
        if listener.sock.family != _socket.AF_UNIX:
            remote = {"REMOTE_ADDR": address[0], "REMOTE_PORT": str(address[1])}
        certificates = None if listener is self.app.admin else self._certificates
        transport = Plain(sock) if certificates is None else Tls(sock, certificates.context())
        if not self._client_sweeper.active:
            self._turned_at = monotonic()
            self._note_turn(self._turned_at)
            self._client_sweeper.again(self._sweep_clients)
        self._clients.add(Client(sock.fileno(), transport, service=self, heads=self._heads[listener], remote=remote))

    def _refuse(self, sock: _socket.socket) -> None:
        """Answer a client that there is no room for before it has asked; one that speaks TLS sees a plain end."""
        if not self._is_full:
            self._is_full = True
            self.observe(
                CannotAccept(detail=f"{self._most_clients} are connected; what is left is for servers and files")
            )
        with suppress(OSError):
            if self._certificates is None:
                sock.send(refusal(503, "too many clients are connected", date=self.date()))
            sock.shutdown(_socket.SHUT_WR)
            self.observe(report_of(503, "too many clients are connected"))
            sock.recv(65536)  # a close with unread bytes would reset the connection under the answer
        sock.close()

    def _base_of(self, listener: Any) -> dict[str, Any]:
        """What the environ of every request over this listener begins with."""
        name = listener.getsockname()
        host, port = (name[0], str(name[1])) if isinstance(name, tuple) else ("", "")
        return {
            "SERVER_NAME": host,
            "SERVER_PORT": port,
            "REMOTE_ADDR": "",
            "SERVER_SOFTWARE": "gateway",
            "wsgi.url_scheme": "https" if self.cfg.is_ssl else "http",
            "wsgi.errors": sys.stderr,
        }

    def _drain(self) -> None:
        """Answer everything accepted and everything in the backlog, then close."""
        self._drains = True
        self._acceptor.drain()
        began = monotonic()
        ends = began + self.cfg.graceful_timeout
        idle = REPLACED_IDLE if self._is_replaced() else DRAIN_IDLE
        self._await_clients(began + idle, ends - LAST_ANSWERS)
        self.app.end()
        self._await_clients(began, ends)
        for client in tuple(self._clients):
            client.close()

    def _await_clients(self, idle: float, ends: float) -> None:
        """Wait until all have their answers; from ``idle`` on those are disconnected that ask for nothing."""
        while self._clients and (now := monotonic()) < ends:
            self.notify()
            if now >= idle:
                # By the loop: a request that has just arrived begins in a green thread, which only the loop can leave.
                for client in tuple(self._clients):
                    self.soon(client.close_if_idle)
            gevent.sleep(GLANCE)


def _connections_of(settings: Settings) -> int:
    """How many connections to servers one worker may have: all of the node's, and two for each probe."""
    return sum(group.size for group in settings.groups.values()) + 2 * len(settings.endpoints)
