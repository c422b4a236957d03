"""One PostgreSQL server of an embedded cluster, and everything that can be done to it."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from gateway.demo import janitor
from gateway.demo.accounts import Account
from gateway.demo.binaries import Binaries
from gateway.demo.failures import ClusterError
from gateway.demo.launching import Launcher, tail
from gateway.demo.ports import port_of, reserve_port

SUPERUSER = "postgres"
SETTINGS_FILE = "gateway.conf"
"""In a data directory; ``postgresql.conf`` includes it."""
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C",
    "PGPASSFILE": "/nonexistent/pgpass",
    "PGSSLMODE": "disable",
    "PGGSSENCMODE": "disable",
}
"""Of servers and clients: nothing of the user's own PG… variables."""

_LOOK_EVERY = 0.01
_QUERY_TIMEOUT = 60.0


class Stop(Enum):
    """The modes of a shutdown, by the signal that asks for it."""

    SMART = signal.SIGTERM
    """When the last client has left."""
    FAST = signal.SIGINT
    """Clients are disconnected, transactions rolled back."""
    IMMEDIATE = signal.SIGQUIT
    """Without a checkpoint: recovery at the next start."""


class Server:
    """A server with a name, a port of its own for as long as the cluster lives, and a data directory.

    Everything blocks until it has happened; what does not happen in time raises ClusterError with the end of the
    server's log. Not to be used by two threads at once.
    """

    def __init__(
        self, name: str, *, directory: Path, binaries: Binaries, account: Account | None, launcher: Launcher
    ) -> None:
        self.name = name
        self.data = directory / name
        self.log = directory / f"{name}.log"
        self._binaries = binaries
        self._account = account
        self._launcher = launcher
        self._reservation = reserve_port()
        self.port = port_of(self._reservation)
        self._settings: dict[str, str] = {}
        self._program: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        """``<Server replica1 :20101 [pid 4711]>``."""
        return f"<Server {self.name} :{self.port} [{f'pid {self.pid}' if self.pid else 'down'}]>"

    @property
    def pid(self) -> int | None:
        """Of the postmaster; None while the server is down."""
        return self._program.pid if self._program is not None and self._program.poll() is None else None

    def dsn(self, dbname: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """How libpq connects; everybody is trusted."""
        return f"host=127.0.0.1 port={self.port} dbname={dbname} user={user}"

    # Life

    def start(self, timeout: float = 30.0) -> None:
        """Start it and wait until it accepts connections."""
        self.launch()
        self.wait_until_accepting(timeout)

    def launch(self) -> None:
        """Start it without waiting, to see it starting up."""
        if self.pid is not None:
            raise ClusterError(f"{self.name} is running already")
        self._program = self._launcher.launch(
            [self._binaries["postgres"], "-D", str(self.data), "-p", str(self.port)],
            log=self.log,
            cwd=self.data.parent,
            environment=ENVIRONMENT,
            account=self._account,
            ending=signal.SIGQUIT,
        )

    def stop(self, mode: Stop = Stop.FAST, timeout: float = 30.0) -> None:
        """Shut it down; a frozen server is thawed for it, one that is down stays so."""
        if self._program is not None and self.pid is not None:
            self._program.send_signal(mode.value)
            self.thaw()
            try:
                self._program.wait(timeout)
            except subprocess.TimeoutExpired:
                raise self._failure(f"did not stop within {timeout:g} s") from None

    def kill(self) -> float:
        """SIGKILL the postmaster and every process of it, as a machine dies: at once and without a word.

        Returns when the first was killed, of ``time.monotonic``: to find them all takes a while on a busy machine.
        """
        self._stop_forking()
        processes = self._processes()
        began = time.monotonic()
        for process in processes:
            janitor.send(process, signal.SIGKILL)
        if self._program is not None:
            self._program.wait()
        while any(map(janitor.is_living, processes)):
            time.sleep(_LOOK_EVERY)
        return began

    def freeze(self) -> None:
        """SIGSTOP all of it: connects still succeed (the kernel answers), nothing else does."""
        self._stop_forking()
        for process in self._processes()[1:]:
            janitor.send(process, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        for process in reversed(self._processes()):
            janitor.send(process, signal.SIGCONT)

    def promote(self, timeout: float = 30.0) -> None:
        """Make a replica a primary and wait until it is one."""
        if self.sql(f"SELECT pg_promote(true, {int(timeout)})").strip() != "t":
            raise self._failure("was not promoted")

    def wait_until_accepting(self, timeout: float = 30.0) -> None:
        """Wait until it accepts connections."""
        command = [self._binaries["pg_isready"], "-q", "-t", "1", "-d", self.dsn()]
        deadline = time.monotonic() + timeout
        while subprocess.run(command, env=ENVIRONMENT, cwd="/", check=False).returncode:  # noqa: S603
            if self.pid is None:
                raise self._failure("ended instead of accepting connections")
            if time.monotonic() > deadline:
                raise self._failure(f"did not accept connections within {timeout:g} s")
            time.sleep(_LOOK_EVERY)

    # Settings

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add settings to its configuration; they hold from the next start, or ``reload()`` for those that can."""
        self._settings.update(settings)
        lines = (f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in self._settings.items())
        file = self.data / SETTINGS_FILE
        file.write_text("".join(lines))
        if self._account is not None:
            os.chown(file, self._account.uid, self._account.gid)

    def reload(self) -> None:
        """Have it read its configuration again (it does so within milliseconds, not before this returns)."""
        if self._program is not None and self.pid is not None:
            self._program.send_signal(signal.SIGHUP)

    # Words with it

    def sql(self, text: str, dbname: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Run SQL with psql and return what it prints: rows as lines, columns between ``|``."""
        return self._psql("-c", text, dbname, user)

    def run_file(self, path: Path, dbname: str = SUPERUSER, user: str = SUPERUSER) -> None:
        """Run a file with psql, up to the first error, which raises ClusterError."""
        self._psql("-f", str(path), dbname, user)

    def close(self) -> None:
        """Give the port back; the processes are the launcher's to end."""
        self._reservation.close()

    def _psql(self, what: str, argument: str, dbname: str, user: str) -> str:
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(dbname, user)]
        done = subprocess.run(  # noqa: S603 -- our own words
            [self._binaries["psql"], *options, what, argument],
            env=ENVIRONMENT,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_QUERY_TIMEOUT,
        )
        if done.returncode:
            raise ClusterError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout

    def _stop_forking(self) -> None:
        """SIGSTOP the postmaster, so that no child is born while we look for them: that one would go on."""
        for process in self._processes()[:1]:
            janitor.send(process, signal.SIGSTOP)

    def _processes(self) -> list[janitor.Process]:
        """The postmaster, then its children."""
        root = janitor.identify(self.pid) if self.pid is not None else None
        return janitor.descend([root]) if root is not None else []

    def _failure(self, what: str) -> ClusterError:
        with contextlib.suppress(OSError):
            what += f"\n{tail(self.log)}"
        return ClusterError(f"{self.name} {what}")
