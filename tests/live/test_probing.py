"""One look at a server: what it tells, to whom, and what is made of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.events import ignore
from gateway.node.election import Election
from gateway.node.history import History
from gateway.node.polling import Polling
from gateway.node.prober import Prober
from gateway.postgres.driver import Address, Driver
from gateway.postgres.probing import Looker, identify
from gateway.postgres.resolving import Resolver
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role
from gateway.rotation.moves import Lost, Silent
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.settings import ProbeSettings
from gateway.waiting import ThreadWaits
from tests.live.databases import connect, soon
from tests.live.sessions import wait_until

INTERVAL, TIMEOUT = 0.2, 0.5


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A cluster that the tests of this module may do anything to, as long as they mend it."""
    with Cluster(replicas=2) as cluster:
        cluster.primary.sql("CREATE ROLE plain LOGIN; CREATE TABLE t (n int)")
        cluster.wait_until_caught_up()
        yield cluster


class Probing:
    """A prober over a cluster."""

    def __init__(self, cluster: Cluster, driver: Driver | None = None) -> None:
        addresses = {server.name: Address(dsn=server.dsn()) for server in cluster.servers}
        self.rotation = Rotation(views=LocalViews(addresses), max_lags={"read": 1.0})
        self.polling = Polling(rotation=self.rotation, waits=ThreadWaits(), observe=ignore)
        driver = driver or Driver(addresses, read_only=True)
        self.prober = Prober(
            driver=driver,
            resolve=driver.resolve,
            rotation=self.rotation,
            election=Election(None, name="", stale_after=1.0),
            polling=self.polling,
            settings=ProbeSettings(interval=INTERVAL, timeout=TIMEOUT),
            observe=ignore,
        )

    def view(self, name: str) -> EndpointView:
        return self.rotation.view(name)

    def until(self, name: str, so: Callable[[EndpointView], bool], seconds: float = 10.0) -> float:
        """Look until the view is so; the seconds it took."""
        return wait_until(lambda: so(self.view(name)), seconds)

    def until_all_in(self) -> None:
        for name in self.rotation.names:
            self.until(name, is_in)


@contextmanager
def probing(cluster: Cluster, driver: Driver | None = None) -> Iterator[Probing]:
    running = Probing(cluster, driver)
    running.polling.start()
    running.prober.start()
    try:
        running.until_all_in()
        yield running
    finally:
        running.prober.close()
        running.polling.close()


def is_in(view: EndpointView) -> bool:
    return view.state is EndpointState.IN


def is_out(reason: Reason) -> Callable[[EndpointView], bool]:
    return lambda view: view.state is EndpointState.OUT and view.reason is reason


def test_a_look_tells_what_a_server_is_and_how_far_it_has_come(cluster: Cluster) -> None:
    primary, replica = connect(cluster.primary.dsn()), connect(cluster.replicas[0].dsn(), read_only=True)
    cluster.wait_until_caught_up()
    there, here = Looker(replica).look(soon()), Looker(primary).look(soon())
    assert (here.role, here.server_version, here.timeline) == (Role.PRIMARY, cluster.version, 1)
    assert (there.role, there.server_version, there.timeline) == (Role.REPLICA, cluster.version, 1)
    assert (here.streaming, here.received, here.replayed_at) == (None, None, None)
    assert there.streaming is True
    assert here.position is not None
    assert there.position is not None
    assert there.received is not None
    assert 0 < there.position <= here.position
    assert there.position <= there.received <= here.position
    assert there.replayed_at is not None
    assert there.replayed_at < there.clock
    assert 0 < here.ping_ms < 1000
    assert identify(primary, soon()) == identify(replica, soon())
    assert (identify(primary, soon()) or "").isdigit()
    primary.close()
    replica.close()


def test_an_ordinary_role_sees_all_but_the_replicas_timeline(own: Cluster) -> None:
    replica = connect(own.replicas[0].dsn(user="plain"), read_only=True)
    seen = Looker(replica).look(soon())
    assert (seen.role, seen.timeline, seen.streaming) == (Role.REPLICA, None, True)
    assert seen.position
    assert seen.received
    assert identify(replica, soon()) == identify(connect(own.primary.dsn()), soon())
    replica.close()


def test_a_role_that_may_not_ask_for_the_system_identifier_goes_without(own: Cluster) -> None:
    own.primary.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    plain = connect(own.primary.dsn(user="plain"))
    assert identify(plain, soon()) is None
    assert Looker(plain).look(soon()).role is Role.PRIMARY
    plain.close()
    own.primary.sql("GRANT EXECUTE ON FUNCTION pg_control_system() TO public")


def test_no_replica_is_measured_against_a_header_that_nobody_replays(own: Cluster) -> None:
    """Wherever the primary stands after a write, an idle replica reaches it."""
    primary, replica = connect(own.primary.dsn()), connect(own.replicas[0].dsn(), read_only=True)
    primary.ask("SELECT pg_switch_wal()", soon())  # leaves the position behind the header of a segment
    at = Looker(primary).look(soon()).position
    assert at is not None
    assert at % 8192 == 0
    wait_until(lambda: (Looker(replica).look(soon()).position or 0) >= at)
    primary.close()
    replica.close()


def test_a_replica_that_does_not_replay_falls_behind_and_catches_up(own: Cluster) -> None:
    replica = own.replicas[0]
    with probing(own) as node:
        replica.sql("SELECT pg_wal_replay_pause()")
        own.primary.sql("INSERT INTO t VALUES (1)")
        node.until(replica.name, lambda view: view.lagging == ("read",))
        view = node.view(replica.name)
        assert (view.lag_ms or 0) > 1000
        assert (view.lag_bytes or 0) > 0
        assert node.view("replica2").lagging == ()
        replica.sql("SELECT pg_wal_replay_resume()")
        took = node.until(replica.name, lambda view: view.lagging == ())
        assert took < 2
        node.until(replica.name, lambda view: view.lag_ms == 0)


def test_one_write_after_a_while_without_any_does_not_look_like_a_long_lag(own: Cluster) -> None:
    """The replica waits 300 ms before it replays: in between it lacks a write, and its last one is old."""
    replica = own.replicas[0]
    with probing(own) as node:
        threading.Event().wait(1.5)
        replica.sql("SELECT pg_wal_replay_pause()")
        own.primary.sql("INSERT INTO t VALUES (1)")
        node.until(replica.name, lambda view: bool(view.lag_bytes))
        assert 0 < (node.view(replica.name).lag_ms or 0) < 1000
        replica.sql("SELECT pg_wal_replay_resume()")
        node.until(replica.name, lambda view: view.lag_ms == 0)


def test_a_dead_receiver_is_noticed(own: Cluster) -> None:
    replica = own.replicas[0]
    conninfo = replica.sql("SHOW primary_conninfo").strip().replace("'", "''")
    with probing(own) as node:
        node.until(replica.name, lambda view: view.streaming is True)
        replica.sql("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        replica.reload()
        assert node.until(replica.name, lambda view: view.streaming is False) < 3
        assert node.view("replica2").streaming is True
        replica.sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        replica.reload()
        node.until(replica.name, lambda view: view.streaming is True)


def test_a_frozen_server_is_out_and_back_and_costs_the_others_nothing(own: Cluster) -> None:
    with probing(own) as node:
        own.replicas[0].freeze()
        try:
            took = node.until("replica1", is_out(Reason.TIMEOUT))
            assert took < INTERVAL + TIMEOUT + 1
            seen = node.view("replica2").ping_at or 0
            node.until("replica2", lambda view: (view.ping_at or 0) > seen)
        finally:
            own.replicas[0].thaw()
        node.until("replica1", is_in)


def test_a_wanted_look_comes_at_once(own: Cluster) -> None:
    with probing(own) as node:
        node.prober._watchers["primary"]._settings = ProbeSettings(interval=60.0, timeout=TIMEOUT)
        node.until("primary", lambda view: (view.ping_at or 0) < monotonic() - 2 * INTERVAL)
        for _ in range(3):
            asked = monotonic()
            node.rotation.apply("primary", Silent())
            assert node.until("primary", lambda view, at=asked: (view.ping_at or 0) > at) < 1  # type: ignore[misc]


def test_the_probers_own_connection_is_no_witness_against_a_server(own: Cluster) -> None:
    others = "pid <> pg_backend_pid() AND application_name LIKE 'pg-query-gateway%'"
    with probing(own) as node:
        states = []
        node.rotation.subscribe(lambda: states.append(node.view("primary").state))
        for _ in range(3):
            at = monotonic()
            own.primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
            node.until("primary", lambda view, at=at: (view.ping_at or 0) > at + INTERVAL)  # type: ignore[misc]
        assert set(states) == {EndpointState.IN}


def test_a_suspect_that_is_good_is_back_within_a_moment(own: Cluster) -> None:
    with probing(own) as node:
        node.rotation.apply("replica1", Lost("cut", opened_at=monotonic()))
        assert node.view("replica1").state is not EndpointState.OUT
        assert node.until("replica1", is_in) < 1


def test_a_killed_server_is_out_at_once_and_back_when_it_accepts(own: Cluster) -> None:
    replica = own.replicas[1]
    with probing(own) as node:
        replica.kill()
        assert node.until(replica.name, lambda view: view.state is EndpointState.OUT) < 2
        node.until(replica.name, is_out(Reason.REFUSED))
        replica.launch()
        replica.wait_until_accepting()
        assert node.until(replica.name, is_in) < 2


def test_a_promotion_is_seen_with_its_timeline() -> None:
    with Cluster(replicas=1) as cluster, probing(cluster) as node:
        assert node.view("replica1").timeline == 1
        cluster.replicas[0].promote()
        took = node.until("replica1", lambda view: view.role is Role.PRIMARY and view.timeline == 2)
        assert took < 2
        assert node.view("primary").timeline == 1
        assert node.view("primary").system == node.view("replica1").system


def test_the_probe_follows_a_name_to_another_address() -> None:
    names = {"db": ("127.0.0.1",)}
    with Cluster(replicas=0, settings={"listen_addresses": "127.0.0.1,127.0.0.2"}) as cluster:
        dsn = f"host=db port={cluster.primary.port} dbname=postgres user=postgres sslmode=disable"
        resolver = Resolver(lambda name: names[name])
        with probing(
            cluster, Driver({"primary": Address(dsn=dsn, allow_insecure=True)}, read_only=True, resolver=resolver)
        ) as node:
            node.until("primary", lambda view: view.addresses == ("127.0.0.1",))
            assert address(node) == "127.0.0.1"
            names["db"] = ("127.0.0.2",)
            took = node.until("primary", lambda view: view.addresses == ("127.0.0.2",))
            took += wait_until(lambda: address(node) == "127.0.0.2")
            assert took < 5
            assert node.view("primary").state is EndpointState.IN


def address(node: Probing) -> str:
    connection = node.prober._watchers["primary"]._connection
    return connection.address if connection is not None else ""


def test_lag_is_measured_between_two_real_servers(own: Cluster) -> None:
    primary, replica = connect(own.primary.dsn()), connect(own.replicas[0].dsn(), read_only=True)
    system = identify(primary, soon())
    known = History()
    own.wait_until_caught_up()
    known.note(system, Looker(primary).look(soon()))
    own.wait_until_caught_up()
    assert known.lag(system, Looker(replica).look(soon())) == (0, 0)
    own.replicas[0].sql("SELECT pg_wal_replay_pause()")
    primary.ask("INSERT INTO t VALUES (2)", soon())
    known.note(system, Looker(primary).look(soon()))
    lag = known.lag(system, Looker(replica).look(soon()))
    assert lag.bytes
    assert lag.ms
    assert lag.ms < 5000
    own.replicas[0].sql("SELECT pg_wal_replay_resume()")
    primary.close()
    replica.close()


def test_the_demos_role_sees_everything(cluster: Cluster) -> None:
    replica = connect(shop.dsn(cluster.replicas[0]), read_only=True)
    seen = Looker(replica).look(soon())
    assert (seen.timeline, seen.streaming) == (1, True)
    replica.close()
