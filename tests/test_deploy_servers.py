"""The PostgreSQL half of deploy/compose.yaml, run for real: roles, access rules, and the replica's script."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from gateway.demo.accounts import choose_account, choose_place
from gateway.demo.binaries import find_binaries
from gateway.demo.cluster import Cluster
from gateway.demo.launching import Launcher, tail
from gateway.demo.ports import find_port
from gateway.demo.server import Server

DEPLOY = Path(__file__).parents[1] / "deploy" / "postgres"
PATIENCE = 30
PASSWORDS = {"replication_password": r"with:colon\and backslash", "gateway_password": "it's quoted"}


def connect(port: int, user: str, password: str | None) -> Any:
    """Connect to the database of compose.yaml over TCP."""
    connection = psycopg2.connect(
        host="127.0.0.1",
        port=port,
        dbname="app",
        user=user,
        password=password,
        sslmode="disable",
        connect_timeout=PATIENCE,
    )
    connection.autocommit = True
    return connection


def ask(port: int, sql: str) -> list[tuple[Any, ...]]:
    """Run SQL as the gateway would, with its password."""
    connection = connect(port, "gateway", PASSWORDS["gateway_password"])
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows
    finally:
        connection.close()


def write(primary: Server, text: str) -> None:
    """Add a note; the commit returns when replica1 shows it."""
    settings = f"SET statement_timeout = '{PATIENCE}s'; SET synchronous_commit = remote_apply"
    ask(primary.port, f"{settings}; INSERT INTO notes (text) VALUES ('{text}') RETURNING id")


@pytest.fixture(scope="module")
def primary() -> Iterator[Server]:
    """A primary that was set up with the files compose.yaml mounts, and commits with replica1 only."""
    with Cluster(replicas=0) as cluster:
        server, directory = cluster.primary, cluster.make_directory()
        server.sql("CREATE DATABASE app")
        for name, password in PASSWORDS.items():
            (directory / name).write_text(f"{password}\n")
        for name in ("roles.sql", "notes.sql"):
            (directory / name).write_text((DEPLOY / name).read_text().replace("/run/secrets", str(directory)))
            server.run_file(directory / name, dbname="app")
        (server.data / "pg_hba.conf").write_text((DEPLOY / "pg_hba.conf").read_text())
        server.configure({"synchronous_standby_names": "replica1"})
        server.stop()
        server.start()
        yield server


class Replica:
    """replica.sh, run as compose.yaml does: as another user than root, with the server's programs in the path."""

    def __init__(self, launcher: Launcher, primary: Server) -> None:
        self.port = find_port()
        self._launcher = launcher
        self._account = choose_account()
        self._directory = launcher.make_directory(choose_place(self._account), account=self._account)
        self._binaries = find_binaries().within_reach(self._account, self._directory)
        self._log = self._directory / "replica.log"
        self.data = self._directory / "volume" / "18" / "docker"
        password = self._directory / "replication_password"
        password.write_text(PASSWORDS["replication_password"] + "\n")
        self._environment = {
            "PATH": f"{self._binaries.directory}:/usr/bin:/bin",
            "PGDATA": str(self.data),
            "PRIMARY_HOST": "127.0.0.1",
            "PRIMARY_PORT": str(primary.port),
            "REPLICA_NAME": "replica1",
            "REPLICATION_PASSWORD_FILE": str(password),
            "SOCKET_DIRECTORY": str(self._directory),
        }

    def start(self) -> None:
        """Run the script; its text is handed over, for another user may not be able to read the checkout."""
        command = ["/bin/bash", "-c", (DEPLOY / "replica.sh").read_text(), "replica.sh", "-p", str(self.port)]
        command += ["-c", "unix_socket_directories="]
        self._program = self._launcher.launch(
            command, log=self._log, cwd=self._directory, environment=self._environment, account=self._account
        )

    def stop(self) -> None:
        """End it with the signal of the image; it ends in order."""
        self._program.send_signal(signal.SIGINT)
        assert self._program.wait(PATIENCE) == 0

    def wait_until_accepting(self) -> None:
        """Until it accepts connections; fails with its log if it ends instead."""
        command = [self._binaries["pg_isready"], "-q", "-t", "1", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(command, check=False, timeout=PATIENCE).returncode:  # noqa: S603 -- our own words
            assert self._program.poll() is None, tail(self._log)


@pytest.fixture
def replica(primary: Server) -> Iterator[Replica]:
    launcher = Launcher()
    try:
        yield Replica(launcher, primary)
    finally:
        launcher.close()


def test_a_replica_copies_the_primary_once_and_streams_from_it(primary: Server, replica: Replica) -> None:
    replica.start()
    replica.wait_until_accepting()
    write(primary, "first")
    assert ask(replica.port, "SELECT text, pg_is_in_recovery() FROM notes") == [("first", True)]
    assert ask(replica.port, "SELECT slot_name, received_tli FROM pg_stat_wal_receiver") == [("replica1", 1)]

    replica.stop()
    copied = (replica.data / "PG_VERSION").stat()
    replica.start()
    replica.wait_until_accepting()
    write(primary, "second")
    assert ask(replica.port, "SELECT text FROM notes ORDER BY id") == [("first",), ("second",)]
    assert (replica.data / "PG_VERSION").stat().st_ino == copied.st_ino


@pytest.mark.parametrize(
    ("user", "password"), [("gateway", "wrong"), ("gateway", None), ("postgres", "wrong"), ("replicator", "wrong")]
)
def test_nobody_comes_in_over_the_network_without_a_password(primary: Server, user: str, password: str | None) -> None:
    with pytest.raises(
        psycopg2.OperationalError, match=r"no password supplied|password authentication failed|pg_hba\.conf"
    ):
        connect(primary.port, user, password)
