import gc
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.node.ledger import CountedDriver, Ledger
from gateway.node.places import AFTER_BREAK, AFTER_FAREWELL, Places
from gateway.pool.driver import ConnectError, Driver
from gateway.rotation.endpoint import Reason
from tests.node.clock import Clock
from tests.pool.fake import FakeConnection, FakeServer


class Connection(FakeConnection):
    """Tells when it is closed."""

    on_close: Callable[[bool], None] | None = None
    in_good_order = True

    def close(self) -> None:
        super().close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close(self.in_good_order)


class FakeDriver:
    """Connects, or raises what it is told."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.error: Exception | None = None
        self.began: list[float] = []

    def connect(self, endpoint: str, deadline: float) -> Connection:
        assert self._clock() < deadline
        self.began.append(self._clock())
        if self.error is not None:
            raise self.error
        return Connection(FakeServer(endpoint), self._clock)


class Rig:
    """A driver over two places, and one more place to borrow from."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.inner = FakeDriver(self.clock)
        self.places = Places(folder / "own", size=2, share=2, clock=self.clock)
        self.others = Places(folder / "others", size=1, share=1, clock=self.clock)

    def driver(self, *places: Places) -> "Driver[Connection]":
        return CountedDriver(
            self.inner,
            purpose="group read",
            places={"primary": places or (self.places,)},
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def freed_after(self) -> float:
        """Seconds until a place is free."""
        began = self.clock()
        while self.places.taken() == self.places.size:
            self.clock.sleep(0.001)
        return self.clock() - began


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_no_more_connections_are_opened_than_there_are_places(rig: Rig) -> None:
    driver = rig.driver()
    kept = [driver.connect("primary", rig.clock() + 2) for _ in range(2)]
    with pytest.raises(ConnectError, match="group read: all its connections on this node are in use") as refused:
        driver.connect("primary", rig.clock() + 2)
    assert refused.value.reason is None
    assert (len(kept), len(rig.inner.began)) == (2, 2)


def test_waiting_for_a_place_leaves_time_to_connect(rig: Rig) -> None:
    driver = rig.driver()
    kept = [driver.connect("primary", rig.clock() + 2) for _ in range(2)]
    began = rig.clock()
    with pytest.raises(ConnectError):
        driver.connect("primary", began + 2)
    assert kept
    assert 1.4 < rig.clock() - began <= 1.5


def test_a_closed_connection_makes_room_when_the_server_has_forgotten_it(rig: Rig) -> None:
    driver = rig.driver()
    first, second = (driver.connect("primary", rig.clock() + 2) for _ in range(2))
    first.close()
    closed = rig.clock()
    driver.connect("primary", rig.clock() + 2)
    assert rig.inner.began[-1] - closed == pytest.approx(AFTER_FAREWELL, abs=0.011)
    assert second.on_close is not None


@pytest.mark.parametrize(("in_good_order", "after"), [(True, AFTER_FAREWELL), (False, AFTER_BREAK)])
def test_one_cut_off_takes_longer(in_good_order: bool, after: float, rig: Rig) -> None:
    driver = rig.driver()
    kept, cut = (driver.connect("primary", rig.clock() + 2) for _ in range(2))
    cut.in_good_order = in_good_order
    cut.close()
    cut.close()
    assert rig.freed_after() == pytest.approx(after, abs=0.002)
    assert kept.on_close is not None


def test_one_that_was_forgotten_without_a_close_is_counted_off_too(rig: Rig) -> None:
    driver = rig.driver()
    kept = driver.connect("primary", rig.clock() + 2)
    driver.connect("primary", rig.clock() + 2)
    gc.collect()
    assert rig.freed_after() == pytest.approx(AFTER_BREAK, abs=0.002)
    assert kept.on_close is not None


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (ConnectError(Reason.REFUSED, "refused"), AFTER_FAREWELL),
        (ConnectError(Reason.AUTH, "password"), AFTER_FAREWELL),
        (ConnectError(None, "too many clients"), AFTER_FAREWELL),
        (ConnectError(Reason.TIMEOUT, "no connection in time"), AFTER_BREAK),
        (ConnectError(Reason.LOST, "reset"), AFTER_BREAK),
        (ZeroDivisionError("a bug"), AFTER_BREAK),
    ],
)
def test_a_connect_that_fails_gives_its_place_back(error: Exception, after: float, rig: Rig) -> None:
    driver = rig.driver()
    kept = driver.connect("primary", rig.clock() + 2)
    rig.inner.error = error
    with pytest.raises(type(error)) as raised:
        driver.connect("primary", rig.clock() + 2)
    assert raised.value is error
    assert rig.freed_after() == pytest.approx(after, abs=0.002)
    assert kept.on_close is not None


def test_a_probe_without_a_place_of_its_own_soon_borrows_one(rig: Rig) -> None:
    stopped = [rig.places.take(), rig.places.take()]
    assert None not in stopped
    began = rig.clock()
    probe = rig.driver(rig.places, rig.others).connect("primary", began + 0.5)
    assert rig.clock() - began < 0.06
    assert rig.others.taken() == 1
    probe.close()
    rig.clock.sleep(AFTER_FAREWELL)
    assert rig.others.taken() == 0


class FakeLender:
    def __init__(self) -> None:
        self.asked: list[tuple[int, bool]] = []

    def close_idle(self, count: int, *, or_leased: bool) -> None:
        self.asked.append((count, or_leased))


class Worker:
    """One worker's ledger over a group of five connections for four workers."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.is_draining = False
        self.ledger = Ledger(folder, workers=4, is_draining=lambda: self.is_draining, clock=clock)
        self.driver = self.ledger.for_group("read", FakeDriver(clock), size=5, endpoints=["primary"])
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

    def gives(self) -> list[tuple[int, bool]]:
        self.lender.asked.clear()
        self.ledger.tend()
        return self.lender.asked


@pytest.fixture
def workers(tmp_path: Path) -> list[Worker]:
    clock = Clock()
    return [Worker(tmp_path, clock) for _ in range(4)]


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
    probes = first.ledger.for_probes(FakeDriver(first.clock), ["primary"])
    probe = probes.connect("primary", first.clock() + 0.5)
    with pytest.raises(ConnectError, match="probe: all its connections"):
        second.ledger.for_probes(FakeDriver(first.clock), ["primary"]).connect("primary", first.clock() + 0.001)
    assert probe.on_close is not None


def test_without_the_directory_a_worker_serves_uncounted_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path / "gone", workers=1, is_draining=lambda: False)
    driver = FakeDriver(Clock())
    assert ledger.for_group("read", driver, size=1, endpoints=["primary"]) is driver
    assert ledger.for_probes(driver, ["primary"]) is driver
    ledger.enlist("read", FakeLender())
    ledger.tend()
    assert "group read: connections of this worker are not counted with the node's" in caplog.text


def test_names_of_groups_may_be_anything(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path, workers=1, is_draining=lambda: False)
    driver = ledger.for_group("../../Übel\n" * 99, FakeDriver(Clock()), size=1, endpoints=["primary"])
    assert driver.connect("primary", 1e12)
    assert len(list(tmp_path.iterdir())) == 1
