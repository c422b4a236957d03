"""Green threads on a clock that jumps from one event to the next: minutes of load in a second, always the same."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

from greenlet import getcurrent, greenlet

from gateway.pool.balancing import Balance
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.rotation.endpoint import Reason, Role
from gateway.rotation.moves import Probed, ProbeFailed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import Client
from tests.pool.fake import FakeConnection, FakeDriver, FakeServer, GateWaits


class Simulation:
    """The clock and who sleeps on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._hub = getcurrent()

    def clock(self) -> float:
        return self.now

    def after(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something in so many seconds; it must not sleep itself."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), work))

    def spawn(self, work: Callable[[], None]) -> None:
        """Run something beside the caller."""
        self.after(0.0, greenlet(work, self._hub).switch)

    def sleep(self, seconds: float) -> None:
        self.after(seconds, getcurrent().switch)
        self._hub.switch()

    def wait(self) -> None:
        """Sleep until somebody has us woken."""
        self._hub.switch()

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self.now, _, work = heapq.heappop(self._events)
            work()
        self.now = until


class SimulatedGate:
    """What a request waits at."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._waiter: greenlet | None = None
        self._is_open = False

    def open(self) -> None:
        self._is_open = True
        self._simulation.after(0.0, self._wake)

    def wait(self, seconds: float, client: Client | None = None) -> None:  # noqa: ARG002 -- nobody hangs up here
        if not self._is_open and seconds > 0:
            self._waiter = getcurrent()
            self._simulation.after(seconds, self._wake)
            self._simulation.wait()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.switch()


class Town:
    """Replicas that take their time, a group over them, and load on it."""

    def __init__(
        self,
        names: str = "abc",
        *,
        size: int,
        balance: Balance,
        service: float = 0.004,
        connect: float = 0.01,
        timeout: float = 5.0,
    ) -> None:
        """``service``, ``connect`` and ``timeout``: seconds, the first on average (exponential)."""
        self.simulation = Simulation()
        self.dice = random.Random(1)  # noqa: S311 -- the dice of a test
        self.service = dict.fromkeys(names, service)
        self._connect = connect
        self.timeout = timeout
        self.servers = {name: FakeServer(name, Role.REPLICA) for name in names}
        for server in self.servers.values():
            server.on_connect = self._take_time
        self.driver = FakeDriver(*self.servers.values(), clock=self.simulation.clock)
        clock = self.simulation.clock
        self.rotation = Rotation(views=LocalViews(names, clock=clock, wall=clock), clock=clock, wall=clock)
        for name in names:
            self.admit(name)
        self.group = Group[FakeConnection](
            GroupConfig(
                name="read",
                access_write=False,
                endpoints=tuple(names),
                size=size,
                queue_limit=4096,
                balance=balance,
            ),
            driver=self.driver,
            rotation=self.rotation,
            waits=GateWaits(lambda: SimulatedGate(self.simulation)),
            clock=clock,
            spawn=self.simulation.spawn,
            jitter=self.dice.random,
        )
        self.errors: list[Exception] = []
        self.failed: list[tuple[Exception, float]] = []
        """The same with the seconds that each took."""
        self.forget()

    def forget(self) -> None:
        """Count from here."""
        self.went: Counter[str] = Counter()
        self.times: dict[str, list[float]] = {name: [] for name in self.servers}
        self.most: Counter[str] = Counter()
        """The most leases in flight at once, by endpoint."""

    def admit(self, name: str) -> None:
        self.rotation.apply(name, Probed(role=Role.REPLICA, ping_ms=0.3))

    def withdraw(self, name: str) -> None:
        self.rotation.apply(name, ProbeFailed(Reason.TIMEOUT, "no answer"))

    def _take_time(self) -> None:
        self.simulation.sleep(self._connect)

    def watch_connects(self, name: str) -> list[int]:
        """Of every connect to this endpoint from now on: how many are in flight as it begins, itself included."""
        seen: list[int] = []
        in_flight = 0

        def connect() -> None:
            nonlocal in_flight
            in_flight += 1
            seen.append(in_flight)
            self._take_time()
            in_flight -= 1

        self.servers[name].on_connect = connect
        return seen

    def request(self) -> None:
        """One request from its coming to its answer."""
        came = self.simulation.now
        try:
            with self.group.lease(came + self.timeout) as lease:
                name = lease.endpoint
                self.most[name] = max(self.most[name], self.group.leases()[name])
                self.simulation.sleep(self.dice.expovariate(1 / self.service[name]))
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            self.errors.append(error)
            self.failed.append((error, self.simulation.now - came))
        else:
            self.went[name] += 1
            self.times[name].append(self.simulation.now - came)

    def load(self, rate: float) -> None:
        """Requests from now on, so many a second, whatever becomes of them."""

        def come() -> None:
            self.simulation.spawn(self.request)
            self.simulation.after(self.dice.expovariate(rate), come)

        come()

    def crowd(self, count: int) -> None:
        """Callers from now on, each with a request at any time."""

        def call() -> None:
            while True:
                self.request()

        for _ in range(count):
            self.simulation.spawn(call)

    def run(self, seconds: float) -> "Town":
        """Let time pass, and count anew."""
        self.forget()
        self.simulation.run(seconds)
        return self

    def shares(self) -> dict[str, float]:
        total = self.went.total()
        return {name: self.went[name] / total for name in self.servers}

    def p95(self, name: str) -> float:
        times = sorted(self.times[name])
        return times[int(len(times) * 0.95)]
