"""Connections that a use has left unclean: reset by the next use, or soon if there is none."""

from gateway.pool.group import CLEAN_AFTER
from gateway.rotation.endpoint import Role
from tests.pool.fake import FakeConnection, FakeServer, Rig, WatchedGroup


def one() -> Rig:
    return Rig(FakeServer("a", Role.PRIMARY))


def left_unclean(rig: Rig, group: WatchedGroup) -> FakeConnection:
    with group.lease(rig.soon()) as lease:
        lease.connection.owes_reset = True
        return lease.connection


def connections_to_reset(rig: Rig) -> list[FakeConnection]:
    return [connection for connection in rig.driver.open if connection.owes_reset]


def test_an_idle_connection_keeps_what_its_last_use_has_left_for_a_moment_only() -> None:
    rig = one()
    group = rig.group(size=1)
    connection = left_unclean(rig, group)
    group.clean_idle()
    assert connections_to_reset(rig) == [connection]
    rig.time.advance(CLEAN_AFTER)
    group.clean_idle()
    assert connections_to_reset(rig) == []
    with group.lease(rig.soon()) as lease:
        assert lease.connection is connection


def test_a_connection_in_use_is_left_alone() -> None:
    rig = one()
    group = rig.group(size=1)
    with group.lease(rig.soon()) as lease:
        lease.connection.owes_reset = True
        rig.time.advance(1)
        group.clean_idle()
        assert lease.connection.owes_reset


def test_while_a_connection_is_reset_nobody_else_has_it() -> None:
    rig = one()
    group = rig.group(size=1)
    left_unclean(rig, group)
    rig.time.advance(CLEAN_AFTER)
    rig.spawn = rig.jobs.append
    group.clean_idle()
    assert repr(group) == "<Group read [1 slots: 1 leased, 0 idle, 0 empty | 0 waiting]>"
    rig.run_jobs()
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"


def test_a_connection_for_whose_reset_no_thread_can_be_started_is_closed() -> None:
    rig = one()
    group = rig.group(size=1)
    connection = left_unclean(rig, group)
    rig.time.advance(CLEAN_AFTER)

    def fail(_work: object) -> None:
        raise RuntimeError("can't start new thread")

    rig.spawn = fail
    group.clean_idle()
    assert connection.closed
    assert repr(group) == "<Group read [1 slots: 0 leased, 0 idle, 1 empty | 0 waiting]>"


def test_a_connection_that_cannot_be_reset_is_closed_and_its_loss_is_reported() -> None:
    rig = one()
    group = rig.group(size=1)
    connection = left_unclean(rig, group)
    rig.time.advance(CLEAN_AFTER)
    connection.sever()
    rig.is_probing = False
    group.clean_idle()
    assert connection.closed
    assert repr(group) == "<Group read [1 slots: 0 leased, 0 idle, 1 empty | 0 waiting]>"
    assert not group.serving
