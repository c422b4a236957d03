"""What befalls servers, beyond what a ``Server`` can do to itself."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg2
import psycopg2.extensions

from gateway.demo.server import Server
from gateway.postgres.positions import TIMELINE
from tests.live.databases import plain

DATABASE = "chaos"
ROLE = "gateway"
"""Whom the gateway connects as."""
_LOOK_EVERY = 0.004
_OURS = f"usename = '{ROLE}'"
_SESSIONS = f"SELECT pid FROM pg_stat_activity WHERE {_OURS} AND backend_type = 'client backend'"


class RigError(Exception):
    """The rig did not do what it was told: says nothing of the gateway."""


def ask(server: Server, sql: str) -> list[tuple[object, ...]]:
    """The rows of a query, as superuser."""
    with plain(server.dsn(DATABASE)) as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def wait_for(server: Server, condition: str, timeout: float = 20.0) -> float:
    """Wait until this holds on the server, which may still be on its way up; when it was seen to."""
    give_up = time.monotonic() + timeout
    while time.monotonic() < give_up:
        with suppress(psycopg2.OperationalError), plain(f"{server.dsn()} connect_timeout=2") as cursor:
            while time.monotonic() < give_up:
                cursor.execute(f"SELECT {condition}")
                if cursor.fetchall() == [(True,)]:
                    return time.monotonic()
                time.sleep(_LOOK_EVERY)
        time.sleep(_LOOK_EVERY)
    raise RigError(f"{server.name}: not within {timeout:g} s: {condition}")


def accepts(server: Server, timeout: float = 20.0) -> float:
    """Wait until it accepts connections; when it was seen to."""
    return wait_for(server, "true", timeout)


def streams(server: Server, timeout: float = 20.0) -> float:
    """Wait until it accepts as a replica that receives and has replayed what it received; when it was seen to."""
    condition = (
        "pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')"
        " AND pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn()"
    )
    return wait_for(server, condition, timeout)


def timeline(primary: Server) -> int:
    """The timeline that a primary writes."""
    return int(str(ask(primary, f"SELECT {TIMELINE}")[0][0]))


def sessions(server: Server) -> list[int]:
    """The processes of the gateway's sessions."""
    return [int(str(pid)) for (pid,) in ask(server, _SESSIONS)]


def terminate_backends(servers: Sequence[Server], *, patience: float = 0.0) -> int:
    """End all of the gateway's sessions on all of these servers at the same moment; how many there were.

    Waits ``patience`` seconds for them to be gone: what reaches one after its signal still breaks with it.

    NOTE: with the signal that ``pg_terminate_backend`` sends, but all within a millisecond: calls of that function on
    several servers are further apart than a read takes to be run again.
    """
    pids = [pid for server in servers for pid in sessions(server)]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.001)
    return len(pids)


@contextmanager
def replay_paused(server: Server) -> Iterator[None]:
    """It receives, but replays nothing."""
    ask(server, "SELECT pg_wal_replay_pause()")
    wait_for(server, "pg_get_wal_replay_pause_state() = 'paused'")
    try:
        yield
    finally:
        ask(server, "SELECT pg_wal_replay_resume()")


@contextmanager
def configured(server: Server, **settings: str) -> Iterator[None]:
    """With these settings, which a reload suffices for, for a while."""
    try:
        for name, value in settings.items():
            ask(server, f"ALTER SYSTEM SET {name} = '{value.replace(chr(39), chr(39) * 2)}'")
        ask(server, "SELECT pg_reload_conf()")
        yield
    finally:
        for name in settings:
            ask(server, f"ALTER SYSTEM RESET {name}")
        ask(server, "SELECT pg_reload_conf()")


@contextmanager
def cut_off(server: Server) -> Iterator[None]:
    """A replica whose WAL receiver finds no primary."""
    ((conninfo,),) = ask(server, "SELECT current_setting('primary_conninfo')")
    try:
        ask(server, "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        ask(server, "SELECT pg_reload_conf()")
        wait_for(server, "NOT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
        yield
    finally:
        value = str(conninfo).replace("'", "''")
        ask(server, f"ALTER SYSTEM SET primary_conninfo = '{value}'")
        ask(server, "SELECT pg_reload_conf()")


def follow(server: Server, primary: Server) -> None:
    """Make a replica stream from a server that has become primary."""
    slot = f"SELECT pg_create_physical_replication_slot('{server.name}')"
    exists = f"SELECT FROM pg_replication_slots WHERE slot_name = '{server.name}'"
    if not ask(primary, exists):
        ask(primary, slot)
    ask(server, f"ALTER SYSTEM SET primary_conninfo = '{primary.dsn()}'")
    ask(server, "SELECT pg_reload_conf()")


class Sampler:
    """Counts the gateway's sessions on these servers every 20 ms, as the servers themselves see them."""

    def __init__(self, servers: Sequence[Server], every: float = 0.02) -> None:
        self._servers = servers
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.counts: list[tuple[float, int]] = []
        """The time of each sample (``time.monotonic``), and the sessions on all servers together."""

    @property
    def most(self) -> int:
        """The most sessions at any sample."""
        return max((count for _, count in self.counts), default=0)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        cursors: dict[str, psycopg2.extensions.cursor] = {}
        while not self._over.wait(self._every):
            count = 0
            for server in self._servers:
                try:
                    if server.name not in cursors:
                        connection = psycopg2.connect(f"{server.dsn()} connect_timeout=2")
                        connection.autocommit = True
                        cursors[server.name] = connection.cursor()
                    cursor = cursors[server.name]
                    cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {_OURS}")
                    count += sum(found for (found,) in cursor.fetchall())
                except psycopg2.Error:
                    cursors.pop(server.name, None)
            self.counts.append((time.monotonic(), count))
        for cursor in cursors.values():
            cursor.connection.close()
