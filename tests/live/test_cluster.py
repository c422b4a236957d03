"""The embedded cluster: what can be done to its servers, and that nothing is left of it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import gateway
from gateway.demo import janitor, shop
from gateway.demo.accounts import Account
from gateway.demo.binaries import find_binaries
from gateway.demo.cluster import Cluster
from gateway.demo.failures import ClusterError
from gateway.demo.ports import port_of, reserve_port
from gateway.demo.server import Server, Stop
from tests.live.traces import traced

PACKAGE = Path(gateway.__file__).parents[1]
OWNER = """
import signal
from gateway.demo.cluster import Cluster
with Cluster(replicas=1) as cluster:
    print("up", flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """A cluster that the tests of this module may do anything to, as long as they mend it."""
    with Cluster(replicas=1, settings={"restart_after_crash": "off"}) as cluster:
        yield cluster


@contextmanager
def owner() -> Iterator["subprocess.Popen[str]"]:
    """A process with a cluster."""
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and text
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


def accepts(server: Server) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", server.port)) == 0


def test_replicas_have_what_the_primary_has(cluster: Cluster) -> None:
    counts = "SELECT (SELECT count(*) FROM customers) >= 10000, (SELECT count(*) FROM orders) >= 50000"
    assert [server.sql(counts, shop.DATABASE, shop.ROLE) for server in cluster.servers] == ["t|t\n"] * 3
    assert [server.sql("SELECT pg_is_in_recovery()").strip() for server in cluster.servers] == ["f", "t", "t"]


def test_ports_are_below_those_of_outgoing_connections(cluster: Cluster) -> None:
    assert all(server.port < 32768 for server in cluster.servers)


def test_the_role_of_the_gateway_may_look_at_replication_and_owns_nothing(cluster: Cluster) -> None:
    owned = "SELECT count(*) FROM pg_class WHERE relowner = 'gateway'::regrole"
    assert cluster.primary.sql(f"SELECT pg_has_role('gateway', 'pg_monitor', 'member'), ({owned})") == "t|0\n"


def test_the_shop_is_the_same_at_every_load(cluster: Cluster) -> None:
    tables = "customers", "products", "orders", "order_lines", "reviews"
    checksum = " || ".join(f"(SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t)" for table in tables)
    found = []
    for name in ("shop_once", "shop_again"):
        cluster.primary.sql(f"CREATE DATABASE {name}")
        cluster.primary.run_file(shop.SCRIPT, name)
        found.append(cluster.primary.sql(f"SELECT {checksum}", name))
        cluster.primary.sql(f"DROP DATABASE {name} WITH (FORCE)")
    assert found[0] == found[1]
    assert len(found[0].strip()) == 5 * 32


def test_a_killed_server_starts_again_on_its_port(own: Cluster) -> None:
    replica = own.replicas[0]
    port, pid = replica.port, replica.pid
    replica.kill()
    assert replica.pid is None
    assert not accepts(replica)
    replica.start()
    own.wait_until_streaming()
    assert replica.port == port
    assert replica.pid != pid
    assert replica.sql("SELECT 1") == "1\n"


@pytest.mark.parametrize("mode", list(Stop))
def test_a_stopped_server_starts_again(own: Cluster, mode: Stop) -> None:
    replica = own.replicas[0]
    replica.stop(mode)
    assert replica.pid is None
    replica.start()
    own.primary.sql(f"DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT '{mode.name}'")
    own.wait_until_caught_up()
    assert replica.sql("TABLE t") == f"{mode.name}\n"


def test_a_frozen_server_is_deaf_until_it_is_thawed(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.freeze()
    try:
        assert accepts(replica)
        with pytest.raises(ClusterError, match="did not accept connections within 0 s"):
            replica.wait_until_accepting(0)
    finally:
        replica.thaw()
    assert replica.sql("SELECT 1") == "1\n"


def test_a_frozen_server_can_be_stopped(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.freeze()
    replica.stop()
    assert replica.pid is None
    replica.start()


def test_a_frozen_server_can_be_killed_with_all_its_processes(own: Cluster) -> None:
    replica = own.replicas[0]
    assert replica.pid is not None
    replica.freeze()
    with traced(replica.pid) as trace:
        assert trace.commands
        replica.kill()
        assert trace.living() == []
    replica.start()


def test_settings_are_added_to_the_ones_before(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.configure({"log_line_prefix": "it's %p ", "work_mem": "1MB"})
    replica.configure({"work_mem": "2MB"})
    replica.stop()
    replica.start()
    assert replica.sql("SHOW work_mem") == "2MB\n"
    assert replica.sql("SHOW log_line_prefix") == "it's %p \n"
    assert replica.sql("SHOW cluster_name") == "replica1\n"


def test_settings_that_cannot_be_are_told_with_the_words_of_the_server(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.stop()
    replica.configure({"work_mem": "nonsense"})
    with pytest.raises(ClusterError, match=r'(?s)ended instead.*invalid value for parameter "work_mem": "nonsense"'):
        replica.start()
    replica.configure({"work_mem": "4MB"})
    replica.start()


def test_a_server_outlives_the_thread_that_started_it(own: Cluster) -> None:
    replica = own.replicas[0]
    replica.stop()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(replica.start).result()
    assert replica.sql("SELECT 1") == "1\n"


def test_a_promoted_replica_is_writable() -> None:
    with Cluster(replicas=1) as cluster:
        cluster.primary.kill()
        cluster.replicas[0].promote()
        assert cluster.replicas[0].sql("CREATE TABLE t (); SELECT pg_is_in_recovery()") == "f\n"


def test_sql_that_fails_raises_with_the_words_of_the_server(own: Cluster) -> None:
    with pytest.raises(ClusterError, match=r'primary: .*relation "nothing" does not exist'):
        own.primary.sql("TABLE nothing")


def test_a_reserved_port_is_not_given_away_while_its_server_is_down() -> None:
    with reserve_port() as reservation, socket.socket() as other:
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port_of(reservation)))
        assert other.connect_ex(("127.0.0.1", port_of(reservation))) != 0


def test_a_copy_of_the_binaries_runs_where_it_is(tmp_path: Path) -> None:
    copy = find_binaries().copy(tmp_path, Account(os.getuid(), os.getgid()))
    for program in ("postgres", "psql", "initdb"):
        said = subprocess.check_output([copy[program], "--version"], text=True)  # noqa: S603 -- our own copy
        assert f"(PostgreSQL) {copy.version}" in said
    assert tmp_path in copy.directory.parents


def test_nothing_is_left_of_a_stopped_cluster() -> None:
    cluster = Cluster(replicas=1)
    with cluster:
        directory = cluster.primary.data.parent
        private = cluster.make_directory()
        with traced(os.getpid()) as trace:
            ours = {pid for pid in trace.commands if any(str(directory) in word for word in trace.commands[pid])}
            assert len(ours) == 2
    left = [pid for pid in ours if (process := janitor.identify(pid)) and janitor.is_living(process)]
    assert left == []
    assert not directory.exists()
    assert not private.exists()
    cluster.stop()


def test_a_server_that_was_killed_leaves_no_shared_memory() -> None:
    with Cluster(replicas=0) as cluster:
        lines = (cluster.primary.data / "postmaster.pid").read_text().splitlines()
        segment = lines[6].split()[1]
        assert segment in segments()
        cluster.primary.kill()
        assert segment in segments()
    assert segment not in segments()


def segments() -> list[str]:
    return [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]


def test_a_start_that_fails_leaves_nothing() -> None:
    cluster = Cluster(replicas=1, settings={"shared_buffers": "nonsense"})
    with pytest.raises(ClusterError, match="shared_buffers"):
        cluster.start()
    assert not cluster.primary.data.parent.exists()


def test_nothing_is_left_of_a_cluster_whose_owner_is_killed() -> None:
    with owner() as process, traced(process.pid) as trace:
        assert len(trace.directories) == 1
        process.kill()
        assert trace.living() == []
        assert not any(directory.exists() for directory in trace.directories)


def test_frozen_servers_of_a_killed_owner_go_too() -> None:
    with owner() as process, traced(process.pid) as trace:
        for pid in trace.pids("postgres"):
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        assert trace.living() == []
        assert not any(directory.exists() for directory in trace.directories)


def test_servers_end_with_their_owner_even_without_the_janitor() -> None:
    with owner() as process, traced(process.pid) as trace:
        (warden,) = trace.pids("janitor.py")
        os.kill(warden, signal.SIGKILL)
        process.kill()
        assert trace.living() == []
        assert janitor.clean(trace.directories, [])


def test_an_owner_without_janitor_cleans_up_itself() -> None:
    with owner() as process, traced(process.pid) as trace:
        (warden,) = trace.pids("janitor.py")
        os.kill(warden, signal.SIGKILL)
        process.send_signal(signal.SIGINT)
        assert trace.living() == []
        process.wait(10)
        assert not any(directory.exists() for directory in trace.directories)
