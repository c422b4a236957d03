"""An embedded PostgreSQL: a primary and streaming replicas, which leave nothing behind."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.demo.accounts import Account, choose_account, choose_place
from gateway.demo.binaries import Binaries, find_binaries
from gateway.demo.failures import ClusterError
from gateway.demo.launching import Launcher, tail
from gateway.demo.server import ENVIRONMENT, SETTINGS_FILE, SUPERUSER, Server

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "wal_level": "replica",
    "hot_standby": "on",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "wal_keep_size": "128MB",  # two base backups at once: each one's checkpoint could remove what the other needs
    "max_slot_wal_keep_size": "512MB",  # a replica that stays away must not fill the disk
    "wal_retrieve_retry_interval": "100ms",  # how soon a replica finds its primary again
    "wal_receiver_status_interval": "1s",
    "dynamic_shared_memory_type": "mmap",  # in the data directory: nothing is left in /dev/shm after SIGKILL
    "fsync": "off",  # nothing here is meant to survive the machine
    "full_page_writes": "off",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
_SETUP_TIMEOUT = 60.0
_LOOK_EVERY = 0.02


def _silently(_: str) -> None:
    """Say nothing of the progress."""


class Cluster:
    """A primary and ``replicas`` streaming replicas: ``with Cluster() as cluster: cluster.primary.dsn()``.

    Its directory and its processes are gone after ``stop()``; and a moment after the death of this process,
    whatever it dies of. Nothing that existed before is changed, no permissions either: as root, PostgreSQL runs as
    another user, from a copy of its binaries if that user cannot reach them.

    ``settings`` hold for every server, on top of the settings for a cluster that is thrown away. ``progress`` is
    called with a phrase about what has just been done.
    """

    def __init__(
        self,
        *,
        replicas: int = 2,
        settings: Mapping[str, str] | None = None,
        progress: Callable[[str], None] = _silently,
    ) -> None:
        self._replicas = replicas
        self._settings = {**_SETTINGS, **(settings or {})}
        self._progress = progress
        self._launcher: Launcher | None = None
        self.servers: tuple[Server, ...] = ()
        """All servers, the primary first."""
        self.version = ""
        """Of the servers, as ``18.6``; empty before the start."""

    @property
    def primary(self) -> Server:
        """The server that began as primary."""
        return self.servers[0]

    @property
    def replicas(self) -> tuple[Server, ...]:
        """The servers that began as replicas."""
        return self.servers[1:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Bring up every server and wait until the replicas stream; a failure leaves nothing behind either."""
        if self._launcher is not None:
            raise ClusterError("the cluster is running already")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every server and everything launched, at once, and remove all directories; again does nothing."""
        launcher, self._launcher = self._launcher, None
        for server in self.servers:
            server.close()
        if launcher is not None:
            launcher.close()

    def make_directory(self) -> Path:
        """A private directory of this process's user, removed with the cluster."""
        return self._running.make_directory(choose_place(None))

    def launch(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str], cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program as this process's user that ends with the cluster (SIGTERM, two seconds later SIGKILL).

        The caller may end it earlier; its descendants that outlive it then are the caller's too.
        """
        return self._running.launch(command, log=log, environment=environment, cwd=cwd or Path.cwd())

    def wait_until_caught_up(self, timeout: float = 30.0) -> None:
        """Wait until every replica has replayed what the primary has written by now."""
        position = self.primary.sql("SELECT pg_current_wal_lsn()").strip()
        self._wait_for_replicas(f"pg_last_wal_replay_lsn() >= '{position}'", timeout)

    def wait_until_streaming(self, timeout: float = 30.0) -> None:
        """Wait until every replica receives what the primary writes."""
        self._wait_for_replicas("EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')", timeout)

    @property
    def _running(self) -> Launcher:
        if self._launcher is None:
            raise ClusterError("the cluster is not running")
        return self._launcher

    def _start(self) -> None:
        account, binaries = choose_account(), find_binaries()
        self.version = binaries.version
        launcher = self._launcher = Launcher()
        directory = launcher.make_directory(choose_place(account), account=account)
        binaries = binaries.within_reach(account, directory)
        names = ("primary", *(f"replica{number}" for number in range(1, self._replicas + 1)))
        for name in names:
            server = Server(name, directory=directory, binaries=binaries, account=account, launcher=launcher)
            self.servers = (*self.servers, server)
        self._create_primary(directory, binaries, account)
        self._progress(f"PostgreSQL {self.version}: primary on port {self.primary.port}")
        if self.replicas:
            self._create_replicas(directory, binaries, account)
            self._progress("streaming to " + ", ".join(f"{s.name} on port {s.port}" for s in self.replicas))

    def _create_primary(self, directory: Path, binaries: Binaries, account: Account | None) -> None:
        command = [binaries["initdb"], "-D", str(self.primary.data), "--no-sync", "--no-instructions"]
        command += ["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C"]
        self._finish({command[0]: command}, directory, account)
        with (self.primary.data / "postgresql.conf").open("a") as configuration:
            configuration.write(f"include_if_exists = '{SETTINGS_FILE}'\n")
        self.primary.configure(self._settings_of(self.primary, binaries))
        self.primary.start()

    def _create_replicas(self, directory: Path, binaries: Binaries, account: Account | None) -> None:
        commands = {}
        for server in self.replicas:
            command = [binaries["pg_basebackup"], "-D", str(server.data), "-d", self.primary.dsn()]
            command += ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-C", "-S", server.name]
            commands[server.name] = command
        self._finish(commands, directory, account)
        for server in self.replicas:
            server.configure(self._settings_of(server, binaries))
            server.launch()
        for server in self.replicas:
            server.wait_until_accepting()
        self.wait_until_streaming()

    def _settings_of(self, server: Server, binaries: Binaries) -> dict[str, str]:
        settings = {"cluster_name": server.name, **self._settings}
        if binaries.major >= 18:
            settings.setdefault("io_method", "sync")  # three processes fewer for each server
        return settings

    def _finish(self, commands: Mapping[str, Sequence[str]], directory: Path, account: Account | None) -> None:
        """Run short programs side by side to their end."""
        log = directory / "setup.log"
        programs = {
            name: self._running.launch(command, log=log, cwd=directory, environment=ENVIRONMENT, account=account)
            for name, command in commands.items()
        }
        for name, program in programs.items():
            if program.wait(_SETUP_TIMEOUT):
                raise ClusterError(f"{name} failed\n{tail(log)}")

    def _wait_for_replicas(self, condition: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for server in self.replicas:
            while server.sql(f"SELECT {condition}").strip() != "t":
                if time.monotonic() > deadline:
                    raise ClusterError(f"{server.name}: not within {timeout:g} s: {condition}\n{tail(server.log)}")
                time.sleep(_LOOK_EVERY)
