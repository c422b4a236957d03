"""The real driver: what it connects to, what every session is set to, and what becomes of idle ones."""

import gc
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psycopg2.extensions
import pytest

from gateway import errors
from gateway.demo.cluster import Cluster
from gateway.pool.driver import ConnectError
from gateway.postgres import single
from gateway.postgres.driver import Address, Driver
from gateway.postgres.session import LARGEST, Session
from gateway.rotation.endpoint import Reason, Role
from tests.live.databases import Desk, connect, database, driver, soon
from tests.live.sessions import (
    INSERT,
    pid_of,
    small_database,
    terminate,
    wait_until,
)
from tests.pool.conformance import Deed, DriverConformance


@pytest.fixture(scope="module")
def dsn(cluster: Cluster) -> Iterator[str]:
    with small_database(cluster, "live_connection") as dsn:
        yield dsn


# The pool's promises, kept by the real driver.


class TestRealDriver(DriverConformance):
    @pytest.fixture
    def driver(self, dsn: str) -> Driver:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            down = Address(f"host=127.0.0.1 port={unused.getsockname()[1]} dbname=x user=postgres")
        return Driver({"up": Address(dsn), "down": down}, read_only=False)

    @pytest.fixture
    def endpoint(self) -> str:
        return "up"

    @pytest.fixture
    def unreachable(self) -> str:
        return "down"

    @pytest.fixture
    def role(self) -> Role:
        return Role.PRIMARY

    @pytest.fixture
    def deadline(self) -> float:
        return soon()

    @pytest.fixture
    def sever(self, oracle: psycopg2.extensions.cursor) -> Deed:
        def sever(connection: Session) -> None:
            terminate(oracle, pid_of(connection))

        return sever

    @pytest.fixture
    def begin(self) -> Deed:
        def begin(connection: Session) -> None:
            connection.ask("BEGIN; SELECT 1", soon())

        return begin


# Connecting.


def refusal(dsn: str) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        driver(dsn).connect("here", soon())
    assert "\n" not in caught.value.message
    return caught.value


def test_a_database_that_is_not_there_is_named(fragile: Cluster) -> None:
    error = refusal(fragile.primary.dsn("nowhere"))
    assert error.reason is Reason.UNKNOWN
    assert '"nowhere" does not exist' in error.message


def test_a_role_that_is_not_there_cannot_get_in(fragile: Cluster) -> None:
    assert refusal(fragile.primary.dsn(user="nobody_we_know")).reason is Reason.AUTH


def test_a_wrong_password_and_no_hba_entry_are_about_getting_in_and_show_no_password(fragile: Cluster) -> None:
    server = fragile.primary
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    server.sql("CREATE ROLE secretive LOGIN PASSWORD 'right'; CREATE ROLE shut_out LOGIN")
    rules = "host all secretive 127.0.0.1/32 scram-sha-256\nhost all shut_out 127.0.0.1/32 reject\n"
    hba.write_text(rules + before)
    try:
        server.reload()
        shut_out = server.dsn(user="shut_out")
        wait_until(lambda: _refuses(shut_out))
        assert refusal(shut_out).reason is Reason.AUTH
        wrong = refusal(server.dsn(user="secretive") + " password=canary")
        assert wrong.reason is Reason.AUTH
        assert "canary" not in wrong.message + repr(wrong.__cause__)
        assert refusal(server.dsn(user="secretive")).reason is Reason.AUTH
        address = Address(server.dsn(user="secretive"), password="right")  # noqa: S106 - made here, for here
        opened = Driver({"here": address}, read_only=True).connect("here", soon())
        assert opened.is_usable()
        opened.close()
    finally:
        hba.write_text(before)
        server.reload()


def _refuses(dsn: str) -> bool:
    try:
        connect(dsn).close()
    except ConnectError:
        return True
    return False


def test_a_password_file_is_read_anew_at_every_connect(fragile: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    address = Address(fragile.primary.dsn(), password_file=str(file))
    here = Driver({"here": address}, read_only=True)
    here.connect("here", soon()).close()
    file.unlink()
    with pytest.raises(ConnectError) as caught:
        here.connect("here", soon())
    assert caught.value.reason is Reason.AUTH


def test_a_server_without_free_slots_says_nothing_against_itself(fragile: Cluster) -> None:
    dsn = fragile.primary.dsn(user="member")
    opened: list[Session] = []
    try:
        with pytest.raises(ConnectError) as caught:
            opened.extend(connect(dsn) for _ in range(12))
        assert caught.value.reason is None
        assert all(connection.is_usable() for connection in opened)
    finally:
        for connection in opened:
            connection.close()


def test_a_server_that_is_starting_up_says_so() -> None:
    with Cluster(replicas=0) as cluster:
        server = cluster.primary
        server.stop()
        server.configure({"restore_command": "sleep 5; false"})
        (server.data / "recovery.signal").touch()
        server.launch()
        wait_until(lambda: refusal(server.dsn()).reason is Reason.STARTING_UP)


def test_a_setting_the_server_does_not_know_is_told(fragile: Cluster) -> None:
    error = refusal(fragile.primary.dsn() + " options='-c no_such_setting=1'")
    assert error.reason is Reason.UNKNOWN
    assert "no_such_setting" in error.message


# Settings.


def test_every_setting_holds_whatever_role_and_database_would_have(cluster: Cluster, tmp_path: Path) -> None:
    others = {
        "datestyle": "'SQL, DMY'",
        "intervalstyle": "'iso_8601'",
        "bytea_output": "'escape'",
        "extra_float_digits": "-3",
        "timezone": "'Asia/Tokyo'",
        "standard_conforming_strings": "off",
        "array_nulls": "off",
        "quote_all_identifiers": "on",
        "default_transaction_isolation": "'serializable'",
        "default_transaction_read_only": "on",
        "client_connection_check_interval": "0",
    }
    server = cluster.primary
    with database(server, "live_settings"):
        server.sql("CREATE ROLE particular LOGIN")
        try:
            for name, value in others.items():
                server.sql(f"ALTER ROLE particular SET {name} = {value}")
                server.sql(f"ALTER DATABASE live_settings SET {name} = {value}")
            connection = connect(server.dsn("live_settings", "particular"), time_zone="Europe/Berlin")
            desk = Desk(connection, tmp_path / "queries")
            text = """SELECT '2026-03-04'::date d, '1 day -2 hours'::interval i, '\\x00ff'::bytea b, 0.1::float8 f,
                '2026-03-04 12:00+00'::timestamptz t, :a::text[] a, :s::text s, 'pg_class'::regclass c,
                current_setting('transaction_isolation') iso, current_setting('transaction_read_only') ro"""
            arguments = '{"a": [null, "NULL"], "s": "a\\\\b\'c"}'
            expected = (
                '{"d":"2026-03-04","i":"1 day -02:00:00","b":"\\\\x00ff","f":0.1,"t":"2026-03-04T13:00:00+01:00",'
                '"a":[null,"NULL"],"s":"a\\\\b\'c","c":"pg_class","iso":"read committed","ro":"off"}'
            )
            assert desk.value(text, arguments) == expected
            connection.run.leaves_state = True
            assert connection.settle(soon())
            assert desk.value(text, arguments) == expected
            connection.close()
        finally:
            server.sql("DROP OWNED BY particular; DROP ROLE particular")


def test_settings_that_a_pooler_dropped_are_set_for_the_session_or_for_every_message(dsn: str, tmp_path: Path) -> None:
    zone = "SELECT current_setting('TimeZone') AS z, current_setting('DateStyle') AS d"
    for prepare in (True, False):
        connection = Session(dsn + " options='-c TimeZone=Asia/Tokyo'", deadline=soon(), prepare=prepare)
        connection.establish({"TimeZone": "Europe/Berlin", "DateStyle": "ISO, MDY"}, soon())
        desk = Desk(connection, tmp_path / str(prepare))
        for _ in range(2):
            assert desk.value(zone) == '{"z":"Europe/Berlin","d":"ISO, MDY"}'
            connection.run.leaves_state = True
            assert connection.settle(soon())
        left = connection.ask("SELECT current_setting('TimeZone')", soon())
        assert left == [("Europe/Berlin" if prepare else "Asia/Tokyo",)]
        connection.close()


def test_the_longest_timeout_of_a_read_group_is_a_net_on_the_server(dsn: str) -> None:
    reader = connect(dsn, read_only=True, longest=1.5)
    assert reader.ask("SELECT current_setting('statement_timeout')", soon()) == [("2500ms",)]
    assert reader.ask("SELECT current_setting('transaction_read_only')", soon()) == [("on",)]
    assert not reader.left.pinned
    reader.close()


def test_role_and_version_are_the_servers_own_words(cluster: Cluster) -> None:
    for server, role in ((cluster.primary, Role.PRIMARY), (cluster.replicas[0], Role.REPLICA)):
        for prepare in (True, False):
            connection = connect(server.dsn(), prepare=prepare)
            assert connection.role is role
            assert connection.server_version_text == cluster.version
            connection.close()


# Idle connections, forks.


def test_an_idle_connection_that_is_told_something_unasked_is_not_used_again(
    desk: Desk, oracle: psycopg2.extensions.cursor
) -> None:
    assert desk.connection.is_usable()
    desk.connection.ask("LISTEN news", soon())
    oracle.execute("NOTIFY news")
    wait_until(lambda: not desk.connection.is_usable())


def test_a_forked_child_that_drops_a_connection_sends_nothing(desk: Desk) -> None:
    pid = os.fork()
    if pid == 0:  # the child: whatever happens here must end in _exit
        try:
            desk.connection = None  # type: ignore[assignment]  # what the pool's forget does
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert desk.connection.is_usable()
    desk.connection.ping(soon())


def test_a_connection_of_a_read_group_takes_no_writes(dsn: str, desk: Desk) -> None:
    plan = desk.plan(INSERT)
    reader = connect(dsn, read_only=True)
    with pytest.raises(errors.BackendUnavailable):
        single.run(reader, plan, ["'1'"], deadline=soon())
    reader.close()


def test_a_connection_is_not_kept_after_a_large_result(dsn: str, desk: Desk) -> None:
    """The buffer of libpq never shrinks: each connection would have room for the largest result it has seen."""
    connection = connect(dsn)
    text = "-- name: q$\nSELECT repeat('x', :n::int)"
    plan = desk.plan(text)
    single.run(connection, plan, [str(LARGEST // 2)], deadline=soon())
    assert connection.settle(soon())
    with pytest.raises(errors.ResultTooLarge):
        single.run(connection, plan, [str(LARGEST + 1)], deadline=soon(), max_bytes=LARGEST)
    assert not connection.settle(soon())
    connection.close()


def test_an_idle_connection_holds_on_to_small_results_only(desk: Desk) -> None:
    def held() -> int:
        """Results that a cursor of the connection still has."""
        cursors = [each for each in gc.get_objects() if isinstance(each, psycopg2.extensions.cursor)]
        return sum(cursor.rowcount for cursor in cursors if cursor.connection is desk.connection)

    text = "SELECT repeat('x', 1000) AS x FROM generate_series(1, :rows::int)"
    for rows, left in ((2, 1), (1000, 0), (2, 1)):
        assert len(desk.rows(text, f'{{"rows": {rows}}}')) == rows
        assert held() == left
