import os
import sys
import traceback

import pytest

from gateway.errors import Draining
from gateway.pool.pool import Pool
from gateway.rotation.endpoint import Role
from tests.pool.borrowers import queue_up
from tests.pool.fake import FakeServer, Rig


def one() -> FakeServer:
    return FakeServer("a", Role.PRIMARY)


def test_a_closed_group_refuses_wakes_who_waits_and_closes_what_is_idle_now_and_what_is_leased_on_return() -> None:
    rig = Rig(one())
    group = rig.group(size=1)
    with queue_up(group, rig.soon()).succeed() as holder, queue_up(group, rig.soon()) as waiting:
        group.close()
        group.close()
        assert isinstance(waiting.wait().error, Draining)
        assert len(rig.driver.open) == 1
        holder.leave()
    assert rig.driver.open == []
    with pytest.raises(Draining), group.lease(rig.soon()):
        pytest.fail("it is closed")
    rig.probe("a")
    assert group.serving == ()
    assert repr(group) == "<Group read [1 slots: 0 leased, 0 idle, 1 empty | 0 waiting]>"


def test_a_connection_that_was_being_opened_when_the_group_closed_is_closed_too() -> None:
    rig = Rig(one(), inline=False)
    group = rig.group()
    with queue_up(group, rig.soon()):
        group.close()
        rig.run_jobs()
    assert rig.driver.opened == 1
    assert rig.driver.open == []
    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"


def test_closing_a_pool_closes_every_group_of_it() -> None:
    rig = Rig(one())
    read, write = rig.group("read"), rig.group("write", write=True)
    pool = Pool(rotation=rig.rotation, groups=[read, write])
    assert pool["write"] is write
    assert set(pool.stats()) == {"read", "write"}
    with queue_up(write, rig.soon()).succeed() as holder:
        pool.close()
        assert repr(pool) == (
            "<Pool <Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"
            " <Group write [4 slots: 1 leased, 0 idle, 3 empty | 0 waiting]>>"
        )
        for group in (read, write):
            with pytest.raises(Draining), group.lease(rig.soon()):
                pytest.fail("it is closed")
        holder.leave()
    assert rig.driver.open == []


# the child runs one thread and leaves by os._exit: what Python 3.12 warns of does not concern it
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_forgets_its_parents_connections_queue_and_lock_and_opens_its_own() -> None:
    rig = Rig(one())
    group = rig.group()
    with group.lease(rig.soon()) as lease, group.lease(rig.soon()):
        pass
    with group.lease(rig.soon()) as lease:
        parents = list(rig.driver.open)
        with group.exchange._lock:
            child = os.fork()
            if child == 0:
                try:
                    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"
                    lease.__exit__(None, None, None)
                    with group.lease(rig.soon()) as own:
                        assert own.connection not in parents
                    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"
                    assert not any(connection.closed for connection in parents)
                    assert [connection.settled for connection in parents] == [1, 1]
                except BaseException:  # noqa: BLE001 -- a child must not run on in its parent's tests
                    traceback.print_exc(file=sys.__stderr__)
                    os._exit(1)
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    assert repr(group) == "<Group read [4 slots: 0 leased, 2 idle, 2 empty | 0 waiting]>"
