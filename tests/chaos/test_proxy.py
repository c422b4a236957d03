"""The breakable network breaks as it says, between a real client and a real server."""

import re
import socket
import time
from collections.abc import Iterator
from select import select

import psycopg2
import psycopg2.extensions
import pytest

from gateway.demo.cluster import Cluster
from tests.chaos.background import Background
from tests.chaos.proxy import COMMIT, Cut, Mode, Proxy, When
from tests.chaos.servers import wait_for
from tests.live.databases import plain
from tests.live.gateways import wait_until


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    with Background("wires") as background:
        yield background


@pytest.fixture(autouse=True)
def _libpq_waits() -> Iterator[None]:
    """Have libpq keep its own time limits, which it does not where another test has installed the gateway's wait."""
    callback = psycopg2.extensions.get_wait_callback()
    psycopg2.extensions.set_wait_callback(None)
    yield
    psycopg2.extensions.set_wait_callback(callback)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with Cluster(replicas=0) as cluster:
        cluster.primary.sql("CREATE TABLE written (n int)")
        yield cluster


@pytest.fixture
def proxy(server: Cluster, background: Background) -> Iterator[Proxy]:
    server.primary.sql("TRUNCATE written")
    with Proxy(background, server.primary.port) as proxy:
        yield proxy


def connect(proxy: Proxy, seconds: int = 2) -> psycopg2.extensions.connection:
    return psycopg2.connect(f"{proxy.dsn('postgres', 'postgres')} connect_timeout={seconds}")


def written(server: Cluster) -> int:
    return int(server.primary.sql("SELECT count(*) FROM written"))


def test_it_passes_everything_on_and_counts(proxy: Proxy) -> None:
    text = "x" * 300_000
    with plain(proxy.dsn("postgres", "postgres")) as first, plain(proxy.dsn("postgres", "postgres")) as second:
        for cursor in (first, second):
            cursor.execute("SELECT %s", (text,))
            assert cursor.fetchall() == [(text,)]
        assert (proxy.open, proxy.most, proxy.opened) == (2, 2, 2)
    wait_until(lambda: not proxy.open, "it is closed")
    assert (proxy.open, proxy.most, proxy.opened) == (0, 2, 2)


def test_refused_is_refused_by_the_kernel_and_open_connections_live_on(proxy: Proxy) -> None:
    with plain(proxy.dsn("postgres", "postgres")) as cursor:
        with proxy.being(Mode.REFUSE):
            with pytest.raises(psycopg2.OperationalError, match="refused"):
                connect(proxy)
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]
        connect(proxy).close()


@pytest.mark.parametrize("mode", [Mode.STOP, Mode.DEAF])
def test_a_stopped_or_deaf_line_accepts_and_says_nothing(proxy: Proxy, mode: Mode) -> None:
    with proxy.being(mode):
        with socket.create_connection((proxy.address, proxy.port), timeout=2):
            pass
        with pytest.raises(psycopg2.OperationalError, match="timeout"):
            connect(proxy)
    connect(proxy).close()


def test_a_black_hole_does_not_even_accept(proxy: Proxy) -> None:
    with proxy.being(Mode.BLACK_HOLE), pytest.raises(TimeoutError):
        socket.create_connection((proxy.address, proxy.port), timeout=0.5)
    connect(proxy).close()


def test_what_was_held_back_arrives_later(proxy: Proxy) -> None:
    connection = psycopg2.connect(proxy.dsn("postgres", "postgres"), async_=True)
    wait_until(lambda: connection.poll() == psycopg2.extensions.POLL_OK, "it is connected")
    cursor = connection.cursor()
    with proxy.being(Mode.STOP):
        cursor.execute("SELECT 7")
        assert not select([connection], [], [], 0.2)[0]
        assert connection.poll() == psycopg2.extensions.POLL_READ
    wait_until(lambda: connection.poll() == psycopg2.extensions.POLL_OK, "the answer is there")
    assert cursor.fetchall() == [(7,)]
    connection.close()


def test_a_reset_ends_open_connections_and_new_ones(proxy: Proxy) -> None:
    connection = connect(proxy)
    proxy.mode = Mode.RESET
    with pytest.raises(psycopg2.OperationalError):
        connection.cursor().execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        connect(proxy)
    proxy.mode = Mode.PASS
    connect(proxy).close()


def test_a_delay_is_added_to_answers(proxy: Proxy) -> None:
    with plain(proxy.dsn("postgres", "postgres")) as cursor:
        proxy.delay(0.2)
        began = time.monotonic()
        cursor.execute("SELECT 1")
        assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize(("when", "there"), [(When.BEFORE, 0), (When.AFTER, 1)])
def test_a_cut_at_commit_leaves_what_it_says(proxy: Proxy, server: Cluster, when: When, there: int) -> None:
    connection = connect(proxy)
    cut = Cut(COMMIT, when)
    proxy.cut(cut)
    connection.cursor().execute("INSERT INTO written VALUES (1)")
    with pytest.raises(psycopg2.OperationalError):
        connection.commit()
    wait_for(
        server.primary, "NOT EXISTS (SELECT FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid())"
    )
    assert (written(server), cut.made) == (there, 1)
    connect(proxy).close()


def test_a_cut_comes_as_often_as_was_said(proxy: Proxy) -> None:
    proxy.cut(Cut(re.compile(b"SELECT 'me'"), When.AFTER, times=2))
    for _ in range(2):
        with pytest.raises(psycopg2.OperationalError), plain(proxy.dsn("postgres", "postgres")) as cursor:
            cursor.execute("SELECT 'me'")
    with plain(proxy.dsn("postgres", "postgres")) as cursor:
        cursor.execute("SELECT 'me'")


def test_a_line_can_break_in_the_middle_of_an_answer(proxy: Proxy) -> None:
    connection = connect(proxy)
    proxy.cut_after(5000)
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT repeat('x', 100000)")


def test_what_is_watched_is_noted(proxy: Proxy) -> None:
    proxy.watch(re.compile(rb"marked (\d+)"))
    with plain(proxy.dsn("postgres", "postgres")) as cursor:
        for number in (5, 6):
            cursor.execute(f"SELECT 'marked {number}'")
    assert [what for _, what in proxy.seen] == [b"5", b"6"]


def test_a_dead_server_shows_as_a_lost_connection(background: Background) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(background, nobody.getsockname()[1]) as proxy, pytest.raises(psycopg2.OperationalError):
            connect(proxy)
