import pytest

from gateway.errors import PoolTimeout
from gateway.pool.connectors import RETIRE_AFTER
from gateway.pool.exchange import GroupStats
from gateway.pool.group import PING_AFTER, PING_TIMEOUT
from gateway.rotation.endpoint import Role
from tests.pool.fake import FakeServer, Rig


def one() -> FakeServer:
    return FakeServer("a", Role.PRIMARY)


def test_a_lease_opens_a_connection_when_there_is_none_and_the_next_lease_uses_it_again() -> None:
    rig = Rig(one())
    group = rig.group()
    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"
    with group.lease(rig.soon()) as lease:
        first = lease.connection
        assert lease.endpoint == "a"
        assert lease.queued == 0.0
        assert repr(group) == "<Group read [4 slots: 1 leased, 0 idle, 3 empty | 0 waiting]>"
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"
    with group.lease(rig.soon()) as lease:
        assert lease.connection is first
    assert rig.driver.opened == 1
    assert first.settled == 2


def test_what_was_used_last_is_used_next() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as early, group.lease(rig.soon()) as late:
        last_home = early.connection
        assert late.connection is not last_home
    with group.lease(rig.soon()) as lease:
        assert lease.connection is last_home


def test_an_exception_inside_a_lease_passes_and_the_driver_settles_the_connection() -> None:
    rig = Rig(one())
    group = rig.group()

    def fail() -> None:
        with group.lease(rig.soon()) as lease:
            lease.connection.begin()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    (connection,) = rig.driver.open
    assert not connection.in_transaction
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"


def test_a_connection_that_does_not_settle_is_closed() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        lease.connection.begin()
        lease.connection.sever()
    assert rig.driver.open == []
    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"


def test_a_connection_gets_a_moment_to_settle_though_the_deadline_is_over() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon(1.0)) as lease:
        lease.connection.begin()
        rig.time.advance(2.0)
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"


def test_a_deadline_that_is_over_is_refused_even_when_a_connection_is_idle() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()):
        pass
    with pytest.raises(PoolTimeout) as caught, group.lease(rig.clock()):
        pytest.fail("no lease without time")
    assert caught.value.detail == "group read: 0 leased, 1 idle, 3 empty, 0 waiting"


def test_a_dead_idle_connection_is_replaced_and_its_endpoint_is_not_blamed() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        dead = lease.connection
    dead.sever()
    with group.lease(rig.soon()) as lease:
        assert lease.connection is not dead
    assert dead.closed
    assert group.serving == ("a",)
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"


def test_a_long_idle_connection_is_pinged_within_the_deadline_and_a_fresh_one_is_not() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        connection = lease.connection
    rig.time.advance(PING_AFTER)
    with group.lease(rig.soon()):
        assert connection.pinged_until == []
    rig.time.advance(PING_AFTER + 1)
    with group.lease(rig.soon()):
        assert connection.pinged_until == [rig.clock() + PING_TIMEOUT]
    rig.time.advance(PING_AFTER + 1)
    with group.lease(rig.soon(0.25)):
        assert connection.pinged_until[1:] == [rig.clock() + 0.25]


def test_a_long_idle_connection_that_does_not_answer_is_replaced() -> None:
    server = one()
    rig = Rig(server)
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        silent = lease.connection
    rig.time.advance(PING_AFTER + 1)
    server.on_ping = lambda: rig.time.advance(PING_TIMEOUT)
    with group.lease(rig.soon()) as lease:
        assert lease.connection is not silent
    assert silent.closed


@pytest.mark.parametrize(("jitter", "life"), [(0.0, 0.9), (0.5, 1.0), (0.999, 1.0998)])
def test_a_connection_retires_after_an_hour_give_or_take_a_tenth(jitter: float, life: float) -> None:
    rig = Rig(one(), jitter=lambda: jitter)
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        connection = lease.connection
    rig.time.advance(RETIRE_AFTER * life - 1)
    with group.lease(rig.soon()):
        pass
    assert not connection.closed
    with group.lease(rig.soon()):
        rig.time.advance(1.01)
    assert connection.closed


def test_an_idle_connection_that_grew_old_is_closed_when_the_rotation_is_looked_at() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        connection = lease.connection
    rig.time.advance(RETIRE_AFTER + 1)
    rig.probe("a")
    assert connection.closed
    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"


def test_a_long_idle_connection_that_finds_its_server_demoted_is_replaced_and_reported() -> None:
    old, new = FakeServer("a", Role.PRIMARY), FakeServer("b")
    rig = Rig(old, new)
    group = rig.group("write", write=True)
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "a"
    rig.time.advance(PING_AFTER + 1)
    old.role, new.role = new.role, old.role
    rig.probe("b")
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "b"
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "b"
    assert old.open == []
    assert rig.rotation.view("a").role is Role.REPLICA


def test_stats_tell_the_counts() -> None:
    rig = Rig(one())
    group = rig.group(size=3)
    with group.lease(rig.soon()), group.lease(rig.soon()):
        pass
    with group.lease(rig.soon()):
        assert group.stats() == GroupStats(size=3, leased=1, idle=1, empty=1, waiting=0, max_wait=0.0)


@pytest.mark.parametrize(("size", "queue"), [(0, 1), (1, -1)])
def test_a_group_needs_a_size_and_no_negative_queue(size: int, queue: int) -> None:
    rig = Rig(one())
    with pytest.raises(ValueError, match="group read"):
        rig.group(size=size, queue=queue)
