import itertools
import threading
import time
from contextlib import ExitStack

from gateway.errors import NoEndpoint
from gateway.pool.connecting import start_thread
from gateway.pool.connectors import CONNECTORS
from gateway.pool.driver import CapReached, ConnectError
from gateway.rotation.endpoint import Reason, Role
from tests.pool.borrowers import PATIENCE, Borrower, queue_up
from tests.pool.fake import FakeServer, Rig

REFUSED = ConnectError(Reason.REFUSED, "connection refused")
FULL = ConnectError(None, "too many connections")


def primary(name: str = "p") -> FakeServer:
    return FakeServer(name, Role.PRIMARY)


def replica(name: str = "r") -> FakeServer:
    return FakeServer(name, Role.REPLICA)


def test_no_more_than_four_connections_are_opened_at_once_and_no_more_than_requests_wait() -> None:
    rig = Rig(replica(), inline=False)
    group = rig.group(size=20)
    with ExitStack() as stack:
        for waiting in range(1, 10):
            stack.enter_context(queue_up(group, rig.soon()))
            assert len(rig.jobs) == min(waiting, CONNECTORS)
        rig.run_jobs()
        assert rig.driver.opened == 9


def test_whichever_comes_first_goes_to_the_first_in_the_queue() -> None:
    rig = Rig(replica(), inline=False)
    group = rig.group(size=2)
    with queue_up(group, rig.soon()) as first:
        rig.run_jobs()
        first.succeed()
        with queue_up(group, rig.soon()) as second:
            assert len(rig.jobs) == 1
            first.leave()
            second.succeed()
            assert rig.driver.opened == 1
            rig.run_jobs()
            assert repr(group) == "<Group read [2 slots: 1 leased, 1 idle, 0 empty | 0 waiting]>"


def test_while_an_endpoints_connects_fail_only_one_is_in_flight() -> None:
    rig = Rig(replica("r"), replica("s"), inline=False)
    rig.withdraw("s")
    rig.servers["r"].refusal = REFUSED
    group = rig.group(size=20, fallback=False)
    with queue_up(group, rig.soon()) as unlucky:
        rig.run_jobs()
        assert isinstance(unlucky.wait().error, NoEndpoint)
    rig.servers["r"].refusal = None
    rig.probe("r")
    with ExitStack() as stack:
        borrowers = [stack.enter_context(queue_up(group, rig.soon())) for _ in range(6)]
        others: list[int] = []
        rig.servers["r"].on_connect = lambda: others.append(len(rig.jobs))
        assert len(rig.jobs) == 1
        rig.run_jobs()
        assert others[:2] == [0, 1]  # none beside the first connect, two at once when it had succeeded
        for borrower in borrowers:
            borrower.succeed()


def test_a_server_without_free_connections_stays_and_returned_ones_go_on_serving() -> None:
    rig = Rig(replica(), inline=True, clock=time.monotonic, spawn=start_thread)
    group = rig.group(size=3)
    with Borrower(group, rig.soon()).succeed() as holder:
        refused = threading.Event()
        rig.servers["r"].on_connect = refused.set
        rig.servers["r"].refusal = FULL
        with queue_up(group, rig.soon()) as waiting:
            assert refused.wait(PATIENCE)
            holder.leave()
            waiting.succeed()
            assert rig.rotation.view("r").reason is None
            assert group.serving == ("r",)
    assert rig.driver.opened == 1


def test_after_a_backoff_the_connect_is_tried_again_while_somebody_waits() -> None:
    rig = Rig(replica(), clock=time.monotonic, spawn=start_thread)
    server = rig.servers["r"]
    server.refusal = FULL

    def relent() -> None:
        if server.attempts == 2:
            server.refusal = None

    server.on_connect = relent
    group = rig.group(size=3)
    began = time.monotonic()
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"
        assert lease.queued >= 0.05
    assert time.monotonic() - began < 1
    assert server.attempts == 2


def test_while_an_endpoint_fails_only_one_connect_is_in_flight_from_all_groups_of_a_process() -> None:
    rig = Rig(replica(), clock=time.monotonic, spawn=start_thread)
    server = rig.servers["r"]
    server.refusal = FULL
    at_once = [0]
    most = [0]
    tried = threading.Semaphore(0)
    never = threading.Event()

    def connect() -> None:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        never.wait(0.02)
        at_once[0] -= 1
        tried.release()

    server.on_connect = connect
    groups = [rig.group(name) for name in ("one", "two", "three")]
    with Borrower(groups[0], rig.soon()) as first:
        assert tried.acquire(timeout=PATIENCE)  # since then it fails
        most[0] = 0
        with Borrower(groups[1], rig.soon()) as second, Borrower(groups[2], rig.soon()) as third:
            for _ in range(2):
                assert tried.acquire(timeout=PATIENCE)
            assert most[0] == 1
            server.refusal = None
            for borrower in (first, second, third):
                borrower.succeed()
    assert most[0] >= 1


def test_where_the_node_has_no_place_left_the_next_try_is_made_soon_every_time() -> None:
    rig = Rig(replica(), clock=time.monotonic, spawn=start_thread)
    server = rig.servers["r"]
    server.refusal = CapReached("all its connections on this node are in use")
    tries: list[float] = []

    def note() -> None:
        tries.append(time.monotonic())
        if len(tries) == 8:
            server.refusal = None

    server.on_connect = note
    group = rig.group(size=3)
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "r"
    assert sorted(later - sooner for sooner, later in itertools.pairwise(tries))[3] < 0.1
    assert rig.rotation.view("r").reason is None


def test_a_connect_to_an_endpoint_that_was_withdrawn_meanwhile_is_not_counted_on() -> None:
    rig = Rig(replica("r"), replica("s"), inline=False)
    rig.withdraw("s")
    group = rig.group(size=2)
    with queue_up(group, rig.soon()) as borrower:
        assert len(rig.jobs) == 1  # it hangs on r
        rig.probe("s")
        assert len(rig.jobs) == 1
        rig.withdraw("r")
        assert len(rig.jobs) == 2
        rig.jobs.pop()()
        borrower.succeed()
        assert borrower.endpoint == "s"
        rig.run_jobs()
    assert rig.servers["r"].open == []
    assert repr(group) == "<Group read [2 slots: 0 leased, 1 idle, 1 empty | 0 waiting]>"


def test_a_bug_in_a_driver_costs_no_slot() -> None:
    def fail() -> None:
        raise KeyError("password")

    rig = Rig(replica("r"), replica("s"))
    rig.servers["r"].on_connect = fail
    group = rig.group(size=1)
    with group.lease(rig.soon()) as lease:
        assert lease.endpoint == "s"
    assert str(rig.rotation.view("r")) == "r: in, replica"
    assert rig.rotation.view("r").wanted_at == rig.clock()
    assert repr(group) == "<Group read [1 slots: 0 leased, 1 idle, 0 empty | 0 waiting]>"


def test_without_a_thread_to_connect_in_returned_connections_go_on_serving() -> None:
    rig = Rig(replica())
    group = rig.group(size=2)
    with queue_up(group, rig.soon()).succeed() as holder:

        def refuse(_work: object) -> None:
            raise RuntimeError("can't start new thread")

        rig.spawn = refuse
        with queue_up(group, rig.soon()) as waiting:
            holder.leave()
            waiting.succeed()
    assert repr(group) == "<Group read [2 slots: 0 leased, 1 idle, 1 empty | 0 waiting]>"


def test_a_spike_of_fifty_with_slow_connects_and_quick_queries_opens_at_most_six_connections() -> None:
    server = replica()
    never = threading.Event()

    def slowly() -> None:
        never.wait(0.15)

    server.on_connect = slowly
    rig = Rig(server, clock=time.monotonic, spawn=start_thread)
    group = rig.group(size=50)
    deadline = rig.soon(PATIENCE)
    errors: list[Exception] = []

    def request() -> None:
        try:
            with group.lease(deadline):
                never.wait(0.002)
        except Exception as error:  # noqa: BLE001 -- the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=request) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert rig.driver.opened <= 6


def test_slow_queries_get_all_the_connections_they_need() -> None:
    rig = Rig(replica(), clock=time.monotonic, spawn=start_thread)
    group = rig.group(size=12)
    with ExitStack() as stack:
        borrowers = [stack.enter_context(Borrower(group, rig.soon())) for _ in range(12)]
        for borrower in borrowers:
            borrower.succeed()
        assert repr(group) == "<Group read [12 slots: 12 leased, 0 idle, 0 empty | 0 waiting]>"
