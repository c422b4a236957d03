"""Requests that will not do with any endpoint."""

import time
from contextlib import ExitStack

import pytest

from gateway.errors import ClientGone, NoEndpoint, PoolTimeout
from gateway.pool.connecting import start_thread
from gateway.pool.driver import ConnectError
from gateway.pool.lease import LeaseRequest
from gateway.rotation.endpoint import Reason, Role
from gateway.rotation.moves import Lost
from gateway.waiting import Client, ThreadGate
from tests.pool.borrowers import Borrower, queue_up
from tests.pool.fake import FakeServer, Rig, WatchedGroup

ONLY_P, ONLY_R, ONLY_S = (LeaseRequest(only=frozenset({name})) for name in "prs")
NOT_R = LeaseRequest(avoid=frozenset({"r"}))


def primary(name: str = "p") -> FakeServer:
    return FakeServer(name, Role.PRIMARY)


def replica(name: str = "r") -> FakeServer:
    return FakeServer(name, Role.REPLICA)


def two(*, size: int = 4) -> tuple[Rig, WatchedGroup]:
    rig = Rig(replica("r"), replica("s"))
    return rig, rig.group(size=size)


def warm(rig: Rig, group: WatchedGroup, *requests: LeaseRequest) -> None:
    """Have an idle connection for each of these requests."""
    with ExitStack() as stack:
        for request in requests:
            stack.enter_context(group.lease(rig.soon(), request))


def test_a_request_gets_the_endpoint_that_it_names_and_none_else() -> None:
    rig, group = two()
    for request, name in ((ONLY_R, "r"), (ONLY_S, "s"), (ONLY_S, "s"), (ONLY_R, "r"), (ONLY_R, "r")):
        with group.lease(rig.soon(), request) as lease:
            assert lease.endpoint == name
            assert lease.view.name == name
            assert lease.opened_at == rig.clock()
    assert rig.driver.opened == 2


def test_a_slot_that_comes_free_goes_to_the_first_in_the_queue_whom_it_suits() -> None:
    rig, group = two(size=2)
    with ExitStack() as stack:
        on_r = Borrower(group, rig.soon(), ONLY_R).succeed()
        on_s = Borrower(group, rig.soon(), ONLY_S).succeed()
        picky = stack.enter_context(queue_up(group, rig.soon(), ONLY_S))
        second, third = (stack.enter_context(queue_up(group, rig.soon())) for _ in range(2))
        on_r.leave()
        second.succeed()
        assert not picky.is_served
        assert not third.is_served
        on_s.leave()
        picky.succeed()
        assert picky.endpoint == "s"
        second.leave()
        third.succeed()
    assert rig.driver.opened == 2


def test_a_connection_that_nobody_who_waits_can_use_makes_room_for_one_they_can() -> None:
    rig, group = two(size=2)
    warm(rig, group, ONLY_R, ONLY_R)
    oldest = rig.servers["r"].connections[1]
    with group.lease(rig.soon(), ONLY_S) as lease:
        assert lease.endpoint == "s"
    assert repr(group) == "<Group read [2 slots: 0 leased, 2 idle, 0 empty | 0 waiting]>"
    assert oldest.closed
    assert [len(server.open) for server in rig.servers.values()] == [1, 1]


def test_who_has_no_connection_to_hope_for_is_not_passed_by_for_ever() -> None:
    rig, group = two(size=1)
    with ExitStack() as stack:
        holder = Borrower(group, rig.soon(), ONLY_R).succeed()
        picky = stack.enter_context(queue_up(group, rig.soon(), ONLY_S))
        later = stack.enter_context(queue_up(group, rig.soon()))
        holder.leave()
        picky.succeed()
        assert picky.endpoint == "s"
        assert rig.servers["r"].open == []
        picky.leave()
        later.succeed()


def test_the_primary_of_a_read_group_is_for_those_who_name_it_while_replicas_serve() -> None:
    rig = Rig(primary(), replica())
    group = rig.group(size=2)
    with group.lease(rig.soon(), ONLY_P) as lease:
        assert lease.endpoint == "p"
    for _ in range(3):
        with group.lease(rig.soon()) as lease:
            assert lease.endpoint == "r"
    with group.lease(rig.soon(), ONLY_P) as lease:
        assert lease.endpoint == "p"
    assert rig.driver.opened == 2
    assert group.serving == ("r",)


def test_what_is_in_reserve_makes_room_for_those_who_wait() -> None:
    rig = Rig(primary(), replica())
    group = rig.group(size=2)
    warm(rig, group, ONLY_P)
    with group.lease(rig.soon()), group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"
    assert rig.servers["p"].open == []


def test_who_waits_is_served_from_the_reserve_when_the_last_replica_goes() -> None:
    rig = Rig(primary(), replica())
    group = rig.group(size=2)
    warm(rig, group, ONLY_P)
    rig.spawn = rig.jobs.append
    with queue_up(group, rig.soon()) as waiting:
        assert not waiting.is_served
        rig.withdraw("r")
        assert waiting.succeed().endpoint == "p"
    rig.run_jobs()
    assert rig.servers["r"].open == []


def test_who_names_an_endpoint_that_may_not_answer_is_told_at_once_though_others_may() -> None:
    rig, group = two()
    rig.withdraw("s")
    with pytest.raises(NoEndpoint), group.lease(rig.soon(), ONLY_S):
        pytest.fail("it is withdrawn")
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"


def test_who_waits_for_an_endpoint_is_told_when_it_goes_and_others_wait_on() -> None:
    rig, group = two(size=2)
    with ExitStack() as stack:
        holders = [Borrower(group, rig.soon(), request).succeed() for request in (ONLY_R, ONLY_S)]
        picky = stack.enter_context(queue_up(group, rig.soon(), ONLY_S))
        patient = stack.enter_context(queue_up(group, rig.soon()))
        rig.withdraw("s")
        assert isinstance(picky.wait().error, NoEndpoint)
        assert not patient.is_served
        for holder in holders:
            holder.leave()
        patient.succeed()


def test_a_write_that_names_an_endpoint_waits_for_it_until_its_deadline() -> None:
    rig = Rig(primary("p"), primary("q"), clock=time.monotonic)
    group = rig.group("write", write=True)
    rig.withdraw("p")
    with pytest.raises(PoolTimeout), group.lease(rig.soon(0.02), ONLY_P):
        pytest.fail("it is withdrawn")
    with queue_up(group, rig.soon(), ONLY_P) as writer:
        rig.probe("p")
        assert writer.succeed().endpoint == "p"


def test_an_endpoint_to_be_avoided_is_used_only_where_no_other_may_answer() -> None:
    rig, group = two()
    warm(rig, group, ONLY_R)
    for _ in range(3):
        with group.lease(rig.soon(), NOT_R) as lease:
            assert lease.endpoint == "s"
    rig.withdraw("s")
    with group.lease(rig.soon(), NOT_R) as lease:
        assert lease.endpoint == "r"


def test_who_avoids_an_endpoint_waits_for_another_that_is_busy() -> None:
    rig, group = two(size=2)
    warm(rig, group, ONLY_R, ONLY_S)
    rig.servers["s"].refusal = ConnectError(None, "too many clients")
    with Borrower(group, rig.soon(), ONLY_S).succeed() as holder:
        rig.spawn = rig.jobs.append
        with queue_up(group, rig.soon(), NOT_R) as waiting:
            assert not waiting.is_served
            holder.leave()
            assert waiting.succeed().endpoint == "s"


def test_while_an_endpoint_is_suspect_its_requests_wait_and_its_idle_connections_are_kept() -> None:
    rig, group = two()
    rig.is_probing = False
    warm(rig, group, ONLY_R, ONLY_S)
    rig.rotation.apply("s", Lost("gone", opened_at=rig.clock()))
    assert group.serving == ("r",)
    for _ in range(3):
        with group.lease(rig.soon()) as lease:
            assert lease.endpoint == "r"
    with queue_up(group, rig.soon(), ONLY_S) as waiting:
        assert not waiting.is_served
        rig.probe("s")
        assert waiting.succeed().endpoint == "s"
    assert rig.driver.opened == 2


def test_when_all_are_suspect_reads_wait_and_are_told_if_a_probe_confirms_it() -> None:
    rig, group = two()
    rig.is_probing = False
    for name in "rs":
        rig.rotation.apply(name, Lost("gone", opened_at=rig.clock()))
    with queue_up(group, rig.soon()) as waiting, queue_up(group, rig.soon(), ONLY_S) as picky:
        rig.withdraw("s")
        assert isinstance(picky.wait().error, NoEndpoint)
        assert not waiting.is_served
        rig.probe("r")
        assert waiting.succeed().endpoint == "r"


def test_a_connector_for_one_request_does_not_keep_another_waiting() -> None:
    rig = Rig(replica("r"), replica("s"), inline=False)
    group = rig.group(size=8)
    with ExitStack() as stack:
        for waiting in range(1, 7):
            stack.enter_context(queue_up(group, rig.soon(), ONLY_R))
            assert len(rig.jobs) == min(4, waiting)
        rig.probe("s")
        assert len(rig.jobs) == 4
        rig.run_jobs()
        with queue_up(group, rig.soon(), ONLY_S) as picky:
            assert len(rig.jobs) == 1
            rig.run_jobs()
            assert picky.succeed().endpoint == "s"


def test_during_the_backoff_of_one_endpoint_requests_for_another_are_served() -> None:
    rig = Rig(replica("r"), replica("s"), clock=time.monotonic, spawn=start_thread)
    rig.servers["r"].refusal = ConnectError(None, "too many clients")
    group = rig.group(size=4)
    with Borrower(group, rig.soon(), ONLY_R) as unlucky:
        for _ in range(3):
            with group.lease(rig.soon(), ONLY_S) as lease:
                assert lease.endpoint == "s"
        assert not unlucky.is_served
        rig.servers["r"].refusal = None
        unlucky.succeed()


class ClientsGate(ThreadGate):
    """Whoever waits here with a client is told that it hung up."""

    def wait(self, seconds: float, client: Client | None = None) -> None:
        if client is not None:
            raise ClientGone("it hung up")
        super().wait(seconds)


class Caller:
    gone_at: float | None = None

    def end(self) -> None:
        raise NotImplementedError


def test_a_request_whose_client_hangs_up_leaves_the_queue() -> None:
    rig = Rig(replica(), gate=ClientsGate)
    group = rig.group(size=1)
    with Borrower(group, rig.soon()).succeed():
        with queue_up(group, rig.soon(), client=Caller()) as leaving:
            assert isinstance(leaving.wait().error, ClientGone)
        assert repr(group) == "<Group read [1 slots: 1 leased, 0 idle, 0 empty | 0 waiting]>"
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"


def test_a_replica_that_takes_over_from_the_primary_is_not_put_on_trial() -> None:
    rig = Rig(primary(), replica(), inline=False)
    group = rig.group(size=8)
    rig.withdraw("r")
    with queue_up(group, rig.soon()) as reader:
        rig.run_jobs()
        assert reader.succeed().endpoint == "p"
    rig.probe("r")
    with ExitStack() as stack:
        readers = [stack.enter_context(queue_up(group, rig.soon())) for _ in range(4)]
        assert len(rig.jobs) == 1  # it was down: one connect first, then two, then four
        rig.run_jobs()
        assert [reader.succeed().endpoint for reader in readers] == ["r"] * 4


def test_a_suspect_that_is_cleared_may_be_connected_to_at_once() -> None:
    rig = Rig(replica(), inline=False)
    rig.is_probing = False
    group = rig.group()
    rig.servers["r"].refusal = ConnectError(Reason.REFUSED, "connection refused")
    with queue_up(group, rig.soon()) as reader:
        rig.run_jobs()
        assert rig.rotation.view("r").reason is Reason.REFUSED
        rig.servers["r"].refusal = None
        rig.probe("r")
        rig.run_jobs()
        assert reader.succeed().endpoint == "r"


def test_a_request_for_a_connection_that_has_answered_since_gets_none_that_has_not() -> None:
    rig = Rig(replica("r"))
    group = rig.group()
    with group.lease(rig.soon()) as lease:
        before = lease.connection
    rig.time.advance(1)
    now = rig.clock()
    with group.lease(rig.soon(), LeaseRequest(answered_since=now)) as lease:
        assert lease.connection is before
        assert len(before.pinged_until) == 1
    with group.lease(rig.soon(), LeaseRequest(answered_since=now)) as lease:
        assert len(lease.connection.pinged_until) == 1  # it came home clean since
    rig.time.advance(1)
    rig.servers["r"].on_ping = before.close
    with group.lease(rig.soon(), LeaseRequest(answered_since=rig.clock())) as lease:
        assert lease.connection is not before
