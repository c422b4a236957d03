"""Connections are opened within the places there are, and each place is held until its session is gone."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.node.counting import CountedDriver, Quota
from gateway.node.places import AFTER_CLOSE, AFTER_CUT, Places
from gateway.node.sessions import Sessions
from gateway.pool.driver import CapReached, ConnectError, Driver
from gateway.rotation.endpoint import Reason
from tests.node.clock import Clock
from tests.node.counted import Connection, FakeDriver


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
