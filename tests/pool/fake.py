"""A driver without servers, and a clock that stands still: what the pool's unit tests run on."""

import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace

from gateway.pool.backoff import ConnectBackoffs
from gateway.pool.configuration import GroupConfig
from gateway.pool.driver import ConnectError, ConnectionBroken
from gateway.pool.group import Group
from gateway.pool.lease import ANY, LeaseRequest
from gateway.pool.queue import Queue, Waiter
from gateway.pool.slot import Slot
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import Gate, ThreadGate, ThreadWaits


class FakeClock:
    """Seconds, moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeServer:
    """A server that does as it is told."""

    def __init__(self, name: str, role: Role = Role.REPLICA) -> None:
        self.name = name
        self.role = role
        self.refusal: ConnectError | None = None
        """Raised by every connect while set."""
        self.on_connect: Callable[[], None] = lambda: None
        """Called in every connect, before anything else; may wait or raise."""
        self.on_ping: Callable[[], None] = lambda: None
        self.address = ""
        """Where the next connections go."""
        self.stillborn = 0
        """So many of the next connections are dropped by the server right after they were opened."""
        self.connections: list[FakeConnection] = []
        """Every connection ever opened."""
        self.attempts = 0

    @property
    def open(self) -> list["FakeConnection"]:
        return [connection for connection in self.connections if not connection.closed]


class FakeConnection:
    """One connection; ``sever`` is what the server does to it, ``begin`` what a careless query does."""

    def __init__(self, server: FakeServer, clock: Callable[[], float]) -> None:
        self.server = server
        self.closed = False
        self.severed = False
        self.in_transaction = False
        self.settled = 0
        self.owes_reset = False
        self.pinged_until: list[float] = []
        self.on_lost: Callable[[], None] | None = None
        self.on_silent: Callable[[], None] | None = None
        self.lost: str | None = None
        self.address = server.address
        self.abandoned = False
        self._clock = clock
        self._role = server.role
        self.run = SimpleNamespace(asker=None)
        """What PostgreSQL's sessions have there is for whoever runs something on them."""

    @property
    def role(self) -> Role:
        return self._role

    def answer(self) -> None:
        """Any answer from the server tells its role."""
        self._role = self.server.role

    def is_usable(self) -> bool:
        return not (self.closed or self.severed)

    def ping(self, deadline: float) -> None:
        self.pinged_until.append(deadline)
        self.server.on_ping()
        self.meet()
        if not self.is_usable() or self._clock() >= deadline:
            raise ConnectionBroken(f"no answer from {self.server.name}")
        self.answer()

    def settle(self, deadline: float) -> bool:
        self.settled += 1
        if self.in_transaction or self.abandoned:
            self.meet()
        if self.abandoned:
            return False
        if self.closed or (self.in_transaction and (self.severed or self._clock() >= deadline)):
            return False
        self.in_transaction = False
        return not self.severed

    def clean(self, deadline: float) -> bool:
        if self.severed or self.closed or self._clock() >= deadline:
            self.meet()
            return False
        self.owes_reset = False
        return True

    def close(self) -> None:
        self.closed = True

    def begin(self) -> None:
        self.in_transaction = True

    def sever(self) -> None:
        """The server drops the connection; nobody has noticed yet."""
        self.severed = True

    def meet(self) -> None:
        """Any use of a connection that the server has dropped finds that out."""
        if self.severed and not self.closed:
            self.lost = f"{self.server.name} closed the connection"

    def die(self) -> None:
        """The server drops the idle connection, and a loop sees it."""
        self.sever()
        assert self.on_lost is not None
        self.on_lost()

    def abandon(self) -> None:
        self.abandoned = True

    def __repr__(self) -> str:
        return f"<FakeConnection {self.server.name}{' closed' if self.closed else ''}>"


class FakeDriver:
    """Connects to fake servers by name."""

    def __init__(self, *servers: FakeServer, clock: Callable[[], float]) -> None:
        self.servers = {server.name: server for server in servers}
        self._clock = clock
        self._lock = threading.Lock()

    def connect(self, endpoint: str, deadline: float) -> FakeConnection:
        server = self.servers[endpoint]
        with self._lock:
            server.attempts += 1
        server.on_connect()
        if self._clock() >= deadline:
            raise ConnectError(Reason.TIMEOUT, f"{endpoint} did not answer in time")
        if server.refusal is not None:
            raise server.refusal
        connection = FakeConnection(server, self._clock)
        with self._lock:
            server.connections.append(connection)
            if server.stillborn:
                server.stillborn -= 1
                connection.sever()
        return connection

    @property
    def open(self) -> list[FakeConnection]:
        """Every connection that is open now."""
        return [connection for server in self.servers.values() for connection in server.open]

    @property
    def opened(self) -> int:
        """How many connections were ever opened."""
        return sum(len(server.connections) for server in self.servers.values())


class WatchedQueue(Queue[FakeConnection]):
    """Notes, under the group's lock and so in the true order, every ticket that joins and every one that is served."""

    def __init__(self, gate: Callable[[], Gate]) -> None:
        super().__init__(gate=gate)
        self.joined: list[int] = []
        self.served: list[int] = []
        self.came = threading.Semaphore(0)
        """Released once for every request that begins to wait."""
        self.moments = itertools.count()
        """Numbers in the order of events; tests draw their own from it."""
        self.waits: list[tuple[int, int]] = []
        """Of every wait that ended with a slot: the moments when it began and ended."""
        self._since: dict[int, int] = {}

    def join(self, ticket: int, now: float, request: LeaseRequest = ANY) -> Waiter[FakeConnection]:
        waiter = super().join(ticket, now, request)
        self.joined.append(ticket)
        self._since[ticket] = next(self.moments)
        self.came.release()
        return waiter

    def grant(self, waiter: Waiter[FakeConnection], slot: Slot[FakeConnection]) -> None:
        self.served.append(waiter.ticket)
        self.waits.append((self._since.pop(waiter.ticket), next(self.moments)))
        super().grant(waiter, slot)


class WatchedGroup(Group[FakeConnection]):
    """A group whose queue can be looked at."""

    watched: WatchedQueue


class GateWaits(ThreadWaits):
    """Waits as threads do, at gates of the test's own."""

    def __init__(self, gate: Callable[[], Gate]) -> None:
        self._gate = gate

    def gate(self) -> Gate:
        return self._gate()


class Rig:
    """Servers, a rotation and a group over them; everything by hand unless a test says otherwise.

    ``inline``: connectors run at once, in the thread that needs them, so a test of one thread is deterministic.
    Otherwise they are kept in ``jobs`` until ``run_jobs``.
    """

    def __init__(
        self,
        *servers: FakeServer,
        probed: bool = True,
        inline: bool = True,
        clock: Callable[[], float] | None = None,
        spawn: Callable[[Callable[[], None]], None] | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        gate: Callable[[], Gate] = ThreadGate,
    ) -> None:
        self.time = FakeClock()
        self.clock = clock or self.time
        self.servers = {server.name: server for server in servers}
        self.driver = FakeDriver(*servers, clock=self.clock)
        self.rotation = Rotation(
            views=LocalViews(self.servers, clock=self.clock, wall=lambda: 1.0), clock=self.clock, wall=lambda: 1.0
        )
        self.backoffs = ConnectBackoffs()
        self.gate = gate
        self.is_probing = True
        """Whether suspects are looked at, at once."""
        self.jobs: list[Callable[[], None]] = []
        self.jitter = jitter
        self.spawn = spawn or ((lambda work: work()) if inline else self.jobs.append)
        """Runs connectors."""
        if probed:
            for name in self.servers:
                self.probe(name)
        self.rotation.subscribe(self._judge)

    def group(
        self,
        name: str = "read",
        *,
        write: bool = False,
        size: int = 4,
        queue: int = 100,
        fallback: bool = True,
        round_robin: bool = True,
    ) -> "WatchedGroup":
        group = WatchedGroup(
            GroupConfig(
                name=name,
                access_write=write,
                endpoints=tuple(self.servers),
                size=size,
                queue_limit=queue,
                fallback="primary" if fallback else "none",
                balance="round_robin" if round_robin else "least_busy",
            ),
            driver=self.driver,
            rotation=self.rotation,
            waits=GateWaits(self.gate),
            backoffs=self.backoffs,
            clock=self.clock,
            spawn=lambda work: self.spawn(work),
            jitter=self.jitter,
        )
        group.watched = group.exchange.queue = WatchedQueue(self.gate)
        return group

    def probe(self, name: str) -> None:
        """A good probe of what the server is now."""
        self.rotation.apply(name, Probed(role=self.servers[name].role, ping_ms=0.3))

    def _judge(self) -> None:
        """The probe that a suspect wants: it finds the server as it is."""
        for view in self.rotation.views() if self.is_probing else ():
            if view.state is EndpointState.SUSPECT:
                refusal = self.servers[view.name].refusal
                if refusal is None:
                    self.probe(view.name)
                else:
                    self.rotation.apply(view.name, ProbeFailed(refusal.reason, refusal.message))

    def withdraw(self, name: str) -> None:
        """A probe that found the server silent."""
        self.rotation.apply(name, ProbeFailed(Reason.TIMEOUT, "no answer"))

    def run_jobs(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()

    def soon(self, seconds: float = 5.0) -> float:
        """A deadline."""
        return self.clock() + seconds
