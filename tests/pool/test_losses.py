"""What a group tells the rotation of servers that go, and what it does with work in flight there."""

import time
from contextlib import ExitStack

import pytest

from gateway.pool.connecting import start_thread
from gateway.pool.group import PING_AFTER, PING_TIMEOUT
from gateway.pool.lease import LeaseRequest
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Drain, Event, Lost, ProbeFailed, Resolved
from tests.pool.fake import FakeServer, Rig, WatchedGroup

ONLY_S = LeaseRequest(only=frozenset({"s"}))


def replica(name: str = "r") -> FakeServer:
    return FakeServer(name, Role.REPLICA)


def two(*, size: int = 4) -> tuple[Rig, WatchedGroup]:
    """Two replicas that nobody looks at unless told to."""
    rig = Rig(replica("r"), replica("s"))
    rig.is_probing = False
    return rig, rig.group(size=size)


def state(rig: Rig, name: str) -> EndpointState:
    return rig.rotation.view(name).state


def test_a_connection_that_the_server_broke_makes_its_endpoint_suspect() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease:
        lease.connection.begin()
        lease.connection.sever()
    view = rig.rotation.view("s")
    assert (view.state, view.reason) == (EndpointState.SUSPECT, Reason.LOST)
    assert view.message == "s closed the connection"
    assert view.wanted_at == rig.clock()
    assert group.serving == ("r",)


def test_a_connection_that_we_closed_says_nothing_against_its_endpoint() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease:
        lease.connection.begin()
        lease.connection.close()  # as at a deadline, or with its client
    assert rig.driver.open == []
    assert state(rig, "s") is EndpointState.IN
    assert rig.rotation.view("s").wanted_at == 0.0


def test_the_dead_connections_of_before_a_restart_say_nothing_against_the_restarted_server() -> None:
    rig, group = two()
    first, second = group.lease(rig.soon(), ONLY_S), group.lease(rig.soon(), ONLY_S)
    for lease in (first, second):
        lease.__enter__()
        lease.connection.begin()
    rig.time.advance(1)
    for lease in (first, second):
        lease.connection.sever()
    first.__exit__(None, None, None)
    before = state(rig, "s")
    rig.time.advance(1)
    rig.probe("s")
    second.__exit__(None, None, None)
    assert (before, state(rig, "s")) == (EndpointState.SUSPECT, EndpointState.IN)
    assert rig.servers["s"].open == []


def test_an_idle_connection_that_dies_is_discarded_at_once_and_its_endpoint_suspect() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease, group.lease(rig.soon(), ONLY_S):
        dying = lease.connection
    dying.die()
    assert dying.closed
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"
    assert state(rig, "s") is EndpointState.SUSPECT
    assert rig.rotation.view("s").message == "the server closed an idle connection"


def test_a_leased_connection_that_is_seen_to_die_stays_its_leasers_until_it_comes_home() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease:
        lease.connection.die()
        assert not lease.connection.closed
        assert repr(group) == "<Group read [4 slots: 1 leased, 0 idle, 3 empty | 0 waiting]>"
        assert state(rig, "s") is EndpointState.SUSPECT
    assert rig.driver.open == []


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.TIMEOUT, Reason.LOST, Reason.STARTING_UP, Reason.UNKNOWN])
def test_reads_in_flight_on_an_endpoint_that_is_gone_are_called_back(reason: Reason) -> None:
    rig, group = two()
    with ExitStack() as stack:
        leases = [stack.enter_context(group.lease(rig.soon())) for _ in range(4)]
        rig.rotation.apply("s", ProbeFailed(reason, "gone"))
        rig.rotation.apply("s", ProbeFailed(reason, "gone"))
        assert [lease.connection.abandoned for lease in leases] == [lease.endpoint == "s" for lease in leases]
        assert any(lease.endpoint == "s" for lease in leases)
        rig.probe("s")
    assert all(connection.closed for connection in rig.servers["s"].connections)
    assert not any(connection.closed for connection in rig.servers["r"].connections)
    with group.lease(rig.soon(), ONLY_S) as lease:
        assert not lease.connection.abandoned


@pytest.mark.parametrize(
    "event",
    [Drain(), ProbeFailed(Reason.AUTH, "password"), Lost("gone", opened_at=1000.0)],
    ids=["drain", "auth", "lost"],
)
def test_work_in_flight_goes_on_where_an_answer_may_still_come(event: Event) -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease:
        rig.rotation.apply("s", event)
        assert group.serving == ("r",)
        assert not lease.connection.abandoned


def test_a_drained_endpoints_connections_close_when_their_work_is_done() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S), group.lease(rig.soon(), ONLY_S):
        with group.lease(rig.soon(), ONLY_S):
            assert group.leases() == {"r": 0, "s": 3}
        rig.rotation.apply("s", Drain())
        assert len(rig.servers["s"].open) == 2
        assert group.leases() == {"r": 0, "s": 2}
    assert rig.servers["s"].open == []


def test_a_read_without_an_answer_has_its_endpoint_probed() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S) as lease:
        assert rig.rotation.view("s").wanted_at == 0.0
        assert lease.connection.on_silent is not None
        lease.connection.on_silent()
    assert rig.rotation.view("s").wanted_at == rig.clock()
    assert state(rig, "s") is EndpointState.IN


def test_a_ping_that_is_not_answered_has_the_endpoint_probed() -> None:
    rig, group = two()
    with group.lease(rig.soon(), ONLY_S):
        pass
    rig.time.advance(PING_AFTER + 1)
    rig.servers["s"].on_ping = lambda: rig.time.advance(PING_TIMEOUT)
    with group.lease(rig.soon(), ONLY_S):
        pass
    assert rig.rotation.view("s").wanted_at == rig.clock()


def test_connections_to_an_address_that_the_name_has_left_are_closed_when_idle_and_on_return() -> None:
    rig, group = two()
    server = rig.servers["s"]
    server.address = "10.0.0.1"
    with group.lease(rig.soon(), ONLY_S):
        with group.lease(rig.soon(), ONLY_S):
            pass
        rig.rotation.apply("s", Resolved(("10.0.0.1", "10.0.0.2")))
        assert len(server.open) == 2
        server.address = "10.0.0.2"
        rig.rotation.apply("s", Resolved(("10.0.0.2",)))
        assert len(server.open) == 1  # the one at work
        with group.lease(rig.soon(), ONLY_S) as moved:
            assert moved.connection.address == "10.0.0.2"
    assert server.open == [moved.connection]


def test_a_connection_that_was_under_way_when_the_name_moved_is_not_used() -> None:
    server = replica("s")
    server.address = "10.0.0.1"
    rig = Rig(server, clock=time.monotonic, spawn=start_thread)
    group = rig.group()

    def move() -> None:
        rig.rotation.apply("s", Resolved(("10.0.0.2",)))
        server.on_connect = arrive

    def arrive() -> None:
        server.address = "10.0.0.2"

    server.on_connect = move
    with group.lease(rig.soon()) as lease:
        assert lease.connection.address == "10.0.0.2"
    assert [connection.closed for connection in server.connections] == [True, False]
