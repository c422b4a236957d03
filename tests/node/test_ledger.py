"""One worker's ledger: its share of the places, and how workers give them to one another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.events import Event, NodeNotShared
from gateway.node.ledger import ASK_EVERY, Ledger
from gateway.node.places import AFTER_CLOSE, AFTER_CUT
from gateway.pool.driver import CapReached, ConnectError
from tests.node.clock import Clock
from tests.node.counted import Connection, FakeDriver, Server


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
