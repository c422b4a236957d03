import signal
import time
from contextlib import ExitStack
from types import FrameType

import pytest

from gateway.errors import PoolTimeout, QueueFull
from gateway.pool.connecting import start_thread
from gateway.pool.driver import ConnectError
from gateway.pool.exchange import GroupStats
from gateway.rotation.endpoint import Role
from tests.pool.borrowers import Borrower, queue_up
from tests.pool.fake import FakeServer, Rig


def one() -> FakeServer:
    return FakeServer("a", Role.PRIMARY)


def test_a_waiting_request_is_served_before_a_later_one_and_wakes_up_holding_its_slot() -> None:
    rig = Rig(one())
    group = rig.group(size=1)
    with ExitStack() as stack:
        holder = queue_up(group, rig.soon()).succeed()
        queue = [stack.enter_context(queue_up(group, rig.soon())) for _ in range(5)]
        assert repr(group) == "<Group read [1 slots: 1 leased, 0 idle, 0 empty | 5 waiting]>"
        holder.leave()
        for place, borrower in enumerate(queue):
            borrower.succeed()
            assert repr(group) == f"<Group read [1 slots: 1 leased, 0 idle, 0 empty | {4 - place} waiting]>"
            assert not any(later.is_served for later in queue[place + 1 :])
            borrower.leave()
    assert group.watched.served == group.watched.joined == [1, 2, 3, 4, 5, 6]
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"
    assert rig.driver.opened == 1


def test_a_request_whose_connection_turns_out_dead_keeps_its_place() -> None:
    rig = Rig(one(), inline=False)
    rig.servers["a"].stillborn = 1
    group = rig.group(size=1)
    with queue_up(group, rig.soon()) as first, queue_up(group, rig.soon()) as second:
        rig.run_jobs()
        assert group.watched.came.acquire(timeout=5)  # the first comes again
        assert group.watched.joined == [1, 2, 1]
        rig.run_jobs()
        first.succeed()
        assert not second.is_served
        first.leave()
        second.succeed()
    assert group.watched.served == [1, 1, 2]


def test_when_as_many_wait_as_may_the_next_is_refused_at_once() -> None:
    rig = Rig(one())
    group = rig.group(size=1, queue=2)
    holder = queue_up(group, rig.soon()).succeed()
    waiting = [queue_up(group, rig.soon()) for _ in range(2)]
    with pytest.raises(QueueFull) as caught, group.lease(rig.soon()):
        pytest.fail("the queue is full")
    assert caught.value.detail == "group read: 1 leased, 0 idle, 0 empty, 2 waiting"
    holder.leave()
    for borrower in waiting:
        borrower.succeed().leave()


def test_without_a_queue_a_request_waits_only_for_a_connection_of_its_own() -> None:
    rig = Rig(one(), inline=False)
    group = rig.group(size=2, queue=0)
    with queue_up(group, rig.soon()) as first, queue_up(group, rig.soon()) as second:
        with pytest.raises(QueueFull), group.lease(rig.soon()):
            pytest.fail("there is no queue")
        rig.run_jobs()
        first.succeed()
        second.succeed()
        with pytest.raises(QueueFull), group.lease(rig.soon()):
            pytest.fail("there is no queue")


def test_a_lease_that_times_out_says_why_with_counts_and_the_last_connect_error() -> None:
    rig = Rig(one(), clock=time.monotonic, spawn=start_thread)
    group = rig.group("write", write=True, size=2)
    with Borrower(group, rig.soon()).succeed():
        rig.servers["a"].refusal = ConnectError(None, "too many connections")
        with pytest.raises(PoolTimeout) as caught, group.lease(rig.soon(0.03)):
            pytest.fail("there is no connection")
    assert caught.value.detail == (
        "group write: 1 leased, 0 idle, 1 empty, 1 waiting; last connect error: a: too many connections"
    )
    assert group.stats().waiting == 0


def test_what_was_given_after_the_deadline_goes_on_to_the_next() -> None:
    rig = Rig(one())
    group = rig.group(size=1)
    with queue_up(group, rig.soon()).succeed() as holder:
        late, patient = queue_up(group, rig.soon(5)), queue_up(group, rig.soon(60))
        rig.time.advance(10)
        holder.leave()
        assert isinstance(late.wait().error, PoolTimeout)
        patient.succeed().leave()
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"


def test_stats_tell_how_long_the_first_has_waited() -> None:
    rig = Rig(one())
    group = rig.group(size=1)
    holder = queue_up(group, rig.soon()).succeed()
    first = queue_up(group, rig.soon())
    rig.time.advance(2)
    second = queue_up(group, rig.soon())
    rig.time.advance(1)
    assert group.stats() == GroupStats(size=1, leased=1, idle=0, empty=0, waiting=2, max_wait=3.0)
    for borrower in (holder, first, second):
        borrower.succeed().leave()


def test_a_request_that_is_interrupted_while_it_waits_leaves_the_queue() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    rig = Rig(one(), clock=time.monotonic)
    group = rig.group(size=1)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with queue_up(group, rig.soon()).succeed():
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(Interrupted), group.lease(rig.soon()):
                pytest.fail("nothing came free")
            assert repr(group) == "<Group read [1 slots: 1 leased, 0 idle, 0 empty | 0 waiting]>"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"
