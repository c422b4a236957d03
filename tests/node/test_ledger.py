import gc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from gateway.errors import ConnectionLost
from gateway.events import Event, NodeNotShared
from gateway.node.counting import CountedDriver, Quota
from gateway.node.ledger import ASK_EVERY, Ledger
from gateway.node.places import AFTER_CLOSE, AFTER_CUT, Places
from gateway.node.sessions import Sessions
from gateway.pool.driver import CapReached, ConnectError, Driver
from gateway.postgres.backends import Backend
from gateway.rotation.endpoint import Reason
from tests.node.clock import Clock
from tests.pool.fake import FakeConnection, FakeServer


class Server(FakeServer):
    """Has sessions, which may outlive their connections."""

    def __init__(self, name: str = "primary") -> None:
        super().__init__(name)
        self.sessions: set[Backend] = set()
        self.is_answering = True
        self._started = 0

    def begin(self) -> Backend:
        self._started += 1
        session = Backend(100 + self._started % 4, self._started)
        self.sessions.add(session)
        return session


class Connection(FakeConnection):
    """Tells when it is closed. ``keeps`` has its session go on after that."""

    on_close: Callable[[bool], None] | None = None
    in_good_order = True
    keeps = False

    def __init__(self, server: Server, clock: Clock, *, prepares: bool = True) -> None:
        super().__init__(server, clock)
        self.prepares = prepares
        self.home = server
        self.session = server.begin()

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if not self.keeps:
            self.home.sessions.discard(self.session)
        if on_close is not None:
            on_close(self.in_good_order)

    def get_backend_pid(self) -> int:
        return self.session.pid

    def ask(self, sql: str, _deadline: float) -> list[tuple[str | None, ...]]:
        if not self.home.is_answering:
            self.close()
            raise ConnectionLost("no answer")
        sessions: Iterable[Backend] = self.home.sessions if "ANY" in sql else [self.session]
        return [(str(pid), f"{started / 1e6:.6f}") for pid, started in sessions]


class FakeDriver:
    """Connects, or raises what it is told."""

    def __init__(self, clock: Clock, server: Server | None = None) -> None:
        self._clock = clock
        self.server = server or Server()
        self.error: Exception | None = None
        self.began: list[float] = []
        self.prepares = True

    def connect(self, endpoint: str, deadline: float) -> Connection:  # noqa: ARG002 -- there is one server
        assert self._clock() < deadline
        self.began.append(self._clock())
        if self.error is not None:
            raise self.error
        return Connection(self.server, self._clock, prepares=self.prepares)


class Rig:
    """A driver over two places and sessions, and one more place to borrow."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.inner = FakeDriver(self.clock)
        self.places = Places(folder / "own", size=2, share=2, clock=self.clock)
        self.sessions = Sessions(folder / "sessions", size=2, clock=self.clock)
        self.others = Places(folder / "others", size=1, share=1, clock=self.clock)

    def driver(self, *quotas: Quota) -> "Driver[Connection]":
        return CountedDriver(
            self.inner,
            purpose="group read",
            quotas={"primary": quotas or (Quota(self.places, self.sessions),)},
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def connect(self) -> Connection:
        return self.driver().connect("primary", self.clock() + 2)

    def freed_after(self) -> float:
        """Seconds until a place is free."""
        began = self.clock()
        while not self.places.free():
            self.clock.sleep(0.001)
        return self.clock() - began


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    for counted in (rig.places, rig.sessions, rig.others):
        counted.close()


def test_no_more_connections_are_opened_than_there_are_places(rig: Rig) -> None:
    kept = [rig.connect() for _ in range(2)]
    with pytest.raises(CapReached, match="group read: all its connections on this node are in use") as refused:
        rig.connect()
    assert refused.value.reason is None
    assert (len(kept), len(rig.inner.began)) == (2, 2)


def test_waiting_for_a_place_leaves_time_to_connect(rig: Rig) -> None:
    kept = [rig.connect() for _ in range(2)]
    began = rig.clock()
    with pytest.raises(CapReached):
        rig.connect()
    assert kept
    assert 1.4 < rig.clock() - began <= 1.5


@pytest.mark.parametrize(("in_good_order", "after"), [(True, AFTER_CLOSE), (False, AFTER_CUT)])
def test_a_place_is_free_some_time_after_a_close_and_longer_after_a_cut(
    in_good_order: bool, after: float, rig: Rig
) -> None:
    kept, cut = (rig.connect() for _ in range(2))
    cut.in_good_order = in_good_order
    cut.close()
    cut.close()
    assert rig.freed_after() == pytest.approx(after, abs=0.002)
    assert kept.on_close is not None


@pytest.mark.parametrize("in_good_order", [True, False])
def test_a_session_counts_until_the_server_says_that_it_is_gone(in_good_order: bool, rig: Rig) -> None:
    kept, cut = (rig.connect() for _ in range(2))
    cut.in_good_order = in_good_order
    cut.close()
    rig.clock.sleep(3600)
    with pytest.raises(CapReached, match="group read: the server has not ended the sessions that were given up"):
        rig.connect()
    assert [row.backend for row in rig.sessions.closing().values()] == [cut.session]
    rig.sessions.resolve(rig.sessions.closing(), frozenset([cut.session]))
    with pytest.raises(CapReached):
        rig.connect()
    rig.sessions.resolve(rig.sessions.closing(), frozenset())
    assert rig.connect()
    assert kept.on_close is not None


def test_a_session_that_cannot_begin_gives_its_place_back_at_once(rig: Rig) -> None:
    connections = [rig.connect() for _ in range(2)]
    for connection in connections:
        connection.close()
    rig.clock.sleep(AFTER_CUT)
    with pytest.raises(CapReached):
        rig.connect()
    assert rig.places.free() == 2


def test_one_that_was_forgotten_without_a_close_is_counted_off_too(rig: Rig) -> None:
    kept = rig.connect()
    rig.connect()
    gc.collect()
    assert rig.freed_after() == pytest.approx(AFTER_CUT, abs=0.002)
    assert len(rig.sessions.closing()) == 1
    assert kept.on_close is not None


@pytest.mark.parametrize(
    ("error", "is_cut"),
    [
        (ConnectError(Reason.REFUSED, "refused"), False),
        (ConnectError(Reason.AUTH, "password"), False),
        (ConnectError(None, "too many clients"), False),
        (ConnectError(Reason.TIMEOUT, "no connection in time"), True),
        (ConnectError(Reason.LOST, "reset"), True),
        (ZeroDivisionError("a bug"), True),
    ],
)
def test_a_connect_that_fails_gives_its_place_back_and_a_cut_one_counts_as_a_session(
    error: Exception, is_cut: bool, rig: Rig
) -> None:
    kept = rig.connect()
    rig.inner.error = error
    with pytest.raises(type(error)) as raised:
        rig.connect()
    assert raised.value is error
    assert rig.freed_after() == pytest.approx(AFTER_CUT if is_cut else AFTER_CLOSE, abs=0.002)
    assert [row.backend for row in rig.sessions.closing().values()] == [None] * is_cut
    assert kept.on_close is not None


def test_behind_a_pooler_nobody_can_be_asked_and_time_decides(rig: Rig) -> None:
    rig.inner.prepares = False
    connections = [rig.connect() for _ in range(2)]
    for connection in connections:
        connection.in_good_order = False
        connection.close()
    assert rig.sessions.closing() == {}
    rig.clock.sleep(AFTER_CUT)
    assert rig.connect()


def test_a_connection_that_is_lost_before_its_session_is_known_counts_as_one_that_is_not_known(rig: Rig) -> None:
    rig.inner.server.is_answering = False
    with pytest.raises(ConnectError, match="connected, but no answer") as lost:
        rig.connect()
    assert lost.value.reason is Reason.LOST
    assert [row.backend for row in rig.sessions.closing().values()] == [None]


def test_a_probe_without_a_place_of_its_own_soon_borrows_where_most_are_free(rig: Rig) -> None:
    assert rig.others.take() is not None
    began = rig.clock()
    probe = rig.driver(Quota(rig.others, None), Quota(rig.others, None), Quota(rig.places, rig.sessions)).connect(
        "primary", began + 0.5
    )
    assert rig.clock() - began < 0.06
    assert rig.places.free() == 1
    probe.close()
    rig.clock.sleep(AFTER_CLOSE)
    assert rig.places.free() == 2


class FakeLender:
    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        self.asked.append((count, or_leased))


class Worker:
    """One worker's ledger over a group of connections for four workers."""

    def __init__(self, folder: Path, clock: Clock, server: Server, *, size: int = 5) -> None:
        self.is_draining = False
        self.events: list[Event] = []
        self.ledger = Ledger(
            folder,
            workers=4,
            is_draining=lambda: self.is_draining,
            observe=self.events.append,
            clock=clock,
            sleep=clock.sleep,
        )
        self.inner = FakeDriver(clock, server)
        self.driver = self.ledger.for_group("read", self.inner, size=size, endpoints=["primary"])
        self.probes = self.ledger.for_probes(self.inner, {"primary": "here"})
        self.lender = FakeLender()
        self.ledger.enlist("read", self.lender)
        self.clock = clock
        self.connections: list[Connection] = []

    def connect(self) -> bool:
        """Whether there is a place at once."""
        try:
            self.connections.append(self.driver.connect("primary", self.clock() + 0.001))
        except ConnectError:
            return False
        return True

    def probe(self) -> Connection:
        return self.probes.connect("primary", self.clock() + 0.5)

    def gives(self) -> list[tuple[int, bool]]:
        self.lender.asked.clear()
        self.ledger.tend()
        return self.lender.asked


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def workers(tmp_path: Path, server: Server) -> Iterator[list[Worker]]:
    clock = Clock()
    workers = [Worker(tmp_path, clock, server) for _ in range(4)]
    yield workers
    for worker in workers:
        worker.ledger.close()


@pytest.fixture
def alone(tmp_path: Path, server: Server) -> Iterator[Worker]:
    """The only worker of a group of one connection."""
    worker = Worker(tmp_path, Clock(), server, size=1)
    yield worker
    worker.ledger.close()


def test_no_place_is_lost_to_rounding(workers: list[Worker]) -> None:
    assert workers[0].ledger.slots(5) == 2
    assert [worker.connect() for worker in workers] == [True] * 4
    assert [worker.connect() for worker in workers] == [True, False, False, False]


def test_who_has_more_than_its_share_gives_to_a_worker_that_has_nothing(workers: list[Worker]) -> None:
    first, second, third, fourth = workers
    assert [worker.connect() for worker in (first, first, second, second, third, fourth)] == [True] * 5 + [False]
    assert first.gives() == [(1, True)]
    assert third.gives() == [(1, False)]
    assert fourth.gives() == []


def test_nobody_gives_what_nobody_wants(workers: list[Worker]) -> None:
    first, second, *_ = workers
    assert all([first.connect(), first.connect(), second.connect()])
    assert first.gives() == second.gives() == []


def test_who_is_about_to_end_gives_all_that_is_idle(workers: list[Worker]) -> None:
    first, second, third, fourth = workers
    assert [worker.connect() for worker in (first, first, second, second, third)] == [True] * 5
    first.is_draining = True
    assert first.gives() == []
    assert not fourth.connect()
    assert first.gives() == [(2, False)]


def test_a_probe_has_a_place_beside_those_of_the_groups(workers: list[Worker]) -> None:
    first, second, *_ = workers
    assert [worker.connect() for worker in (first, first, second, second, first)] == [True] * 5
    probe = first.probe()
    with pytest.raises(ConnectError, match="probe: all its connections"):
        second.probes.connect("primary", second.clock() + 0.001)
    assert probe.on_close is not None


def test_a_probe_that_borrowed_gives_back_as_soon_as_its_own_place_is_free(alone: Worker) -> None:
    worker = alone
    worker.probe().close()
    probe = worker.probe()
    assert not worker.connect()
    worker.ledger.tend()
    assert not worker.connect()
    worker.clock.sleep(AFTER_CLOSE)
    worker.ledger.tend()
    assert worker.connect()
    worker.ledger.tend()
    assert not probe.closed
    with pytest.raises(CapReached):
        worker.probe()
    probe.close()
    worker.clock.sleep(AFTER_CLOSE)
    assert worker.probe()


def test_a_probe_that_was_closed_gives_back_what_it_borrowed_once(alone: Worker) -> None:
    worker = alone
    worker.probe().close()
    asking = worker.probe()
    asking.close()
    worker.clock.sleep(AFTER_CUT)
    worker.ledger.tend()
    probe = worker.probe()
    worker.ledger.ask("primary", probe)
    assert worker.connect()


def test_a_server_is_asked_at_once_about_what_was_given_up_and_then_from_time_to_time(
    workers: list[Worker], server: Server
) -> None:
    first, second, *_ = workers
    due: list[str] = []
    second.ledger.on_due(due.append)
    probe = second.probe()
    assert first.connect()
    first.connections[0].keeps = True
    second.ledger.tend()
    assert due == []
    first.connections[0].close()
    for seconds, expected in ((0.0, 1), (0.05, 1), (ASK_EVERY, 2)):
        first.clock.sleep(seconds)
        second.ledger.tend()
        assert len(due) == expected
        if len(due) == expected:
            second.ledger.ask("primary", probe)
        assert first.ledger.closing("primary") == 1
    server.sessions.clear()
    second.ledger.ask("primary", probe)
    assert first.ledger.closing("primary") == 0


def test_a_question_that_is_not_answered_is_asked_again(workers: list[Worker], server: Server) -> None:
    first, second, *_ = workers
    probe = second.probe()
    assert first.connect()
    first.connections[0].close()
    server.is_answering = False
    second.ledger.ask("primary", probe)
    assert first.ledger.closing("primary") == 1
    server.is_answering = True
    probe = second.probe()
    second.ledger.ask("primary", probe)
    assert first.ledger.closing("primary") == 0


def test_what_a_closed_ledger_had_counts_as_closing_until_the_server_has_ended_it(
    workers: list[Worker], server: Server
) -> None:
    first, second, *_ = workers
    assert first.connect()
    first.ledger.close()
    first.connections[0].keeps = True
    first.connections[0].close()
    assert not first.connect()
    first.ledger.tend()
    assert first.ledger.closing("primary") == 0
    for _ in range(10):
        second.ledger.tend()
    assert second.ledger.closing("primary") == 1
    server.sessions.clear()
    second.ledger.ask("primary", second.probe())
    assert second.ledger.closing("primary") == 0


def test_without_the_directory_a_worker_serves_uncounted_and_says_so(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "gone", Clock(), Server())
    assert worker.driver is worker.probes is worker.inner
    worker.ledger.tend()
    assert worker.ledger.closing("primary") == 0
    assert [type(event) for event in worker.events] == [NodeNotShared, NodeNotShared]
    assert "connections of this worker for group read are not counted with the node's" in str(worker.events[0])


def test_names_of_groups_may_be_anything(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, workers=1, is_draining=lambda: False, observe=lambda _: None)
    driver = ledger.for_group("../../Übel\n" * 99, FakeDriver(Clock()), size=1, endpoints=["primary"])
    assert driver.connect("primary", 1e12)
    assert len(list(tmp_path.iterdir())) == 2
    ledger.close()
