import time
from contextlib import ExitStack

import pytest

from gateway.errors import NoEndpoint, PoolTimeout
from gateway.pool.driver import ConnectError
from gateway.rotation.endpoint import Reason, Role
from gateway.rotation.moves import Lost
from tests.pool.borrowers import queue_up
from tests.pool.fake import FakeServer, Rig

REFUSED = ConnectError(Reason.REFUSED, "connection refused")
FULL = ConnectError(None, "too many connections")


def primary(name: str = "p") -> FakeServer:
    return FakeServer(name, Role.PRIMARY)


def replica(name: str = "r") -> FakeServer:
    return FakeServer(name, Role.REPLICA)


def test_a_refusing_endpoint_is_withdrawn_and_the_next_is_tried() -> None:
    rig = Rig(replica("r"), replica("s"))
    rig.servers["r"].refusal = REFUSED
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "s"
    view = rig.rotation.view("r")
    assert (view.reason, view.message) == (Reason.REFUSED, "connection refused")
    assert group.serving == ("s",)


def test_reads_fail_at_once_when_no_endpoint_may_answer_and_name_every_one_with_its_reason() -> None:
    rig = Rig(primary(), replica())
    for server in rig.servers.values():
        server.refusal = REFUSED
    group = rig.group()
    for _ in range(2):  # the first finds out, the second knows
        with pytest.raises(NoEndpoint) as caught, group.lease(rig.soon()):
            pytest.fail("there is no endpoint")
        assert caught.value.detail == (
            "no endpoint for group read: p: out, refused (connection refused); r: out, refused (connection refused)"
        )
    assert repr(group) == "<Group read [4 slots: 0 leased, 0 idle, 4 empty | 0 waiting]>"
    assert sum(server.attempts for server in rig.servers.values()) == 2


def test_waiting_reads_are_told_when_the_last_endpoint_goes() -> None:
    rig = Rig(primary(), replica())
    group = rig.group(size=1)
    with queue_up(group, rig.soon()).succeed(), queue_up(group, rig.soon()) as waiting:
        rig.withdraw("r")
        assert not waiting.is_served
        rig.withdraw("p")
        assert isinstance(waiting.wait().error, NoEndpoint)


def test_reads_wait_like_writes_for_the_only_server_there_is_if_it_was_there_lately() -> None:
    rig = Rig(primary())
    group = rig.group()
    rig.rotation.apply("p", Lost("gone", opened_at=rig.time()))
    with queue_up(group, rig.soon()) as reader:
        rig.probe("p")
        reader.succeed()
    rig.withdraw("p")
    rig.time.advance(6)
    with pytest.raises(NoEndpoint), group.lease(rig.soon()):
        pytest.fail("it is not back soon")


def test_writes_wait_for_a_primary_until_one_comes() -> None:
    rig = Rig(primary(), replica())
    rig.servers["p"].refusal = REFUSED
    group = rig.group("write", write=True)
    with queue_up(group, rig.soon()) as writer:
        assert repr(group) == "<Group write [4 slots: 0 leased, 0 idle, 4 empty | 1 waiting]>"
        rig.servers["p"].refusal = None
        rig.probe("p")
        writer.succeed()
        assert writer.endpoint == "p"


def test_a_write_that_waited_for_a_primary_in_vain_is_told_of_every_endpoint() -> None:
    rig = Rig(primary(), replica(), clock=time.monotonic)
    rig.withdraw("p")
    group = rig.group("write", write=True)
    with pytest.raises(PoolTimeout) as caught, group.lease(rig.soon(0.01)):
        pytest.fail("there is no primary")
    assert caught.value.detail == (
        "group write: 0 leased, 0 idle, 4 empty, 1 waiting; "
        "no endpoint for group write: p: out, timeout (no answer); r: in, replica"
    )


def test_endpoints_that_were_never_looked_at_are_tried_and_those_of_the_wrong_role_left() -> None:
    rig = Rig(replica(), primary(), probed=False)
    group = rig.group("write", write=True)
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "p"
    assert rig.servers["r"].attempts == 1
    assert rig.servers["r"].open == []
    assert group.serving == ("p",)
    assert rig.rotation.view("r").role is Role.REPLICA


def test_reads_use_the_primary_only_while_no_replica_is_in_the_rotation() -> None:
    rig = Rig(primary(), replica())
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"
    rig.withdraw("r")
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "p"
    rig.probe("r")
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"  # kept in reserve
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"


def test_reads_never_use_the_primary_without_a_fallback() -> None:
    rig = Rig(primary(), replica(), probed=False)
    rig.servers["r"].refusal = REFUSED
    group = rig.group(fallback=False)
    with pytest.raises(NoEndpoint), group.lease(rig.soon()):
        pytest.fail("the primary is not for reads")
    assert rig.driver.open == []


def test_a_withdrawn_endpoints_idle_connections_are_closed_and_leased_ones_on_return() -> None:
    rig = Rig(replica("r"), replica("s"))
    group = rig.group(size=4)
    with ExitStack() as stack:
        leases = [stack.enter_context(group.lease(rig.soon())) for _ in range(4)]
        held = next(lease.connection for lease in leases if lease.endpoint == "r")
        idle_soon = [lease for lease in leases if lease.connection is not held]
        assert [lease.endpoint for lease in idle_soon].count("r") == 1
        stack.pop_all()
        for lease in idle_soon:
            lease.__exit__(None, None, None)
        assert repr(group) == "<Group read [4 slots: 1 leased, 3 idle, 0 empty | 0 waiting]>"
        rig.withdraw("r")
        assert repr(group) == "<Group read [4 slots: 1 leased, 2 idle, 1 empty | 0 waiting]>"
        assert rig.servers["r"].open == [held]
        next(lease for lease in leases if lease.connection is held).__exit__(None, None, None)
    assert rig.servers["r"].open == []
    assert repr(group) == "<Group read [4 slots: 0 leased, 2 idle, 2 empty | 0 waiting]>"


def test_a_write_connection_whose_server_was_demoted_is_thrown_away_and_reported() -> None:
    rig = Rig(primary())
    group = rig.group("write", write=True)
    with group.lease(rig.soon()) as lease:
        rig.servers["p"].role = Role.REPLICA
        lease.connection.answer()
    assert rig.driver.open == []
    assert rig.rotation.view("p").role is Role.REPLICA
    assert group.serving == ()


def test_an_old_connection_that_heard_nothing_since_the_promotion_does_not_undo_the_news() -> None:
    rig = Rig(replica())
    group = rig.group()
    with group.lease(rig.soon()):
        with group.lease(rig.soon()) as lease:
            rig.servers["r"].role = Role.PRIMARY
            lease.connection.answer()
        assert rig.rotation.view("r").role is Role.PRIMARY
    assert rig.rotation.view("r").role is Role.PRIMARY


@pytest.mark.parametrize("round_robin", [True, False])
def test_requests_one_after_the_other_go_round_all_endpoints(round_robin: bool) -> None:
    rig = Rig(replica("r"), replica("s"), replica("t"))
    group = rig.group(size=6, round_robin=round_robin)
    went = []
    for _ in range(34):
        with group.lease(rig.soon()) as lease:
            went.append(lease.endpoint)
    assert [went[4:].count(name) for name in "rst"] == [10, 10, 10]
    assert rig.driver.opened == 3


def test_least_busy_gives_the_next_request_to_the_endpoint_with_the_fewest_leases() -> None:
    rig = Rig(replica("r"), replica("s"))
    group = rig.group(size=8, round_robin=False)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(group.lease(rig.soon()))
    with ExitStack() as stack:
        leases = [stack.enter_context(group.lease(rig.soon())) for _ in range(4)]
        on_r = [lease for lease in leases if lease.endpoint == "r"]
        assert len(on_r) == 2
        slow = [lease for lease in leases if lease.endpoint == "s"]
        stack.pop_all()
        for lease in on_r:
            lease.__exit__(None, None, None)
        for _ in range(4):
            with group.lease(rig.soon()) as lease:
                assert lease.endpoint == "r"
        for lease in slow:
            lease.__exit__(None, None, None)


def test_connections_are_opened_where_there_are_fewest() -> None:
    rig = Rig(replica("r"), replica("s"), replica("t"))
    group = rig.group(size=9)
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(group.lease(rig.soon()))
        assert [len(server.open) for server in rig.servers.values()] == [3, 3, 3]


def test_a_waiting_request_gets_a_new_connection_when_the_only_one_comes_back_broken() -> None:
    rig = Rig(replica())
    group = rig.group(size=1)
    with queue_up(group, rig.soon()).succeed() as holder, queue_up(group, rig.soon()) as waiting:
        broken = holder.connection
        assert broken is not None
        broken.sever()
        holder.leave()
        waiting.succeed()
        assert waiting.connection is not broken
