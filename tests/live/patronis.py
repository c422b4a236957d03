"""Patroni's cluster: etcd, and members that each run a PostgreSQL, all on loopback addresses."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.demo import shop
from gateway.demo.accounts import Account, choose_account, choose_place
from gateway.demo.binaries import Binaries, find_binaries
from gateway.demo.launching import Launcher, tail
from gateway.demo.ports import find_port
from gateway.postgres.idempotency import DDL
from tests.live.gateways import environment, wait_until
from tests.test_deploy import find_program

SCOPE = "shop"
TTL = 20
"""Seconds after which a leader that says nothing is followed by another; Patroni takes no less."""
_POSTGRES = {
    "unix_socket_directories": "",
    "max_connections": 100,
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "wal_retrieve_retry_interval": "100ms",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Member:
    """One member: Patroni, and the server that it runs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder.parent / f"{name}.log"
        self.port = find_port()
        self.rest = find_port()
        self.program: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its REST API."""
        return f"http://127.0.0.1:{self.rest}"

    def kill(self) -> None:
        """Patroni and its PostgreSQL die at once, as their machine would."""
        server = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        assert self.program is not None
        for pid in (self.program.pid, *_children(server), server):
            with suppress(ProcessLookupError):  # one that has just ended
                os.kill(pid, signal.SIGKILL)
        self.program.wait()


class Patronis:
    """A running cluster."""

    def __init__(self, launcher: Launcher, folder: Path, account: Account | None, binaries: Binaries) -> None:
        self._launcher = launcher
        self._folder = folder
        self._account = account
        self._binaries = binaries
        self._etcd = find_port()
        self._client = httpx.Client(trust_env=False, timeout=30)
        self.members: list[Member] = []

    def add(self, name: str) -> Member:
        """Start another member."""
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        member = Member(name, folder)
        configuration = folder / "patroni.yaml"
        configuration.write_text(yaml.safe_dump(self._configuration(member)))
        if self._account is not None:
            for path in (folder, configuration):
                os.chown(path, self._account.uid, self._account.gid)
        command = [*_as(self._account), sys.executable, "-m", "patroni", str(configuration)]
        member.program = self._launcher.launch(command, log=member.log, cwd=folder, environment=environment())
        self.members.append(member)
        return member

    def start_etcd(self) -> None:
        """Start what keeps the cluster's state, and wait for it."""
        program = find_program("etcd", "on Debian and Ubuntu, apt-get install etcd-server")
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{find_port()}"
        options = [f"--data-dir={self._folder / 'etcd'}", f"--listen-client-urls={client}"]
        options += [f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
        options += [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
        log = self._folder / "etcd.log"
        self._launcher.launch([program, *options], log=log, cwd=self._folder, environment=dict(os.environ))
        wait_until(lambda: self._answers(f"{client}/health"), f"etcd runs: {tail(log)}", 20)

    def cluster(self) -> dict[str, str]:
        """The role of each member, as one that lives says; of those that are running."""
        for member in self.members:
            try:
                answer = self._client.get(f"{member.url}/cluster").json()
            except httpx.TransportError:
                continue
            running = ("running", "streaming")
            return {each["name"]: each["role"] for each in answer["members"] if each["state"] in running}
        return {}

    def leader(self) -> Member | None:
        """The member that is the primary now."""
        roles = self.cluster()
        return next((member for member in self.members if roles.get(member.name) == "leader"), None)

    def standby(self) -> Member:
        """A member that commits are waited for on, and that may be the next leader."""
        roles = self.cluster()
        return next(member for member in self.members if roles.get(member.name) == "sync_standby")

    def wait_until_whole(self) -> None:
        """Wait until there are a leader, a synchronous standby, and replicas besides."""
        expected = sorted(["leader", "sync_standby", *["replica"] * (len(self.members) - 2)])
        wait_until(
            lambda: sorted(self.cluster().values()) == expected,
            "\n".join(f"{member.name}: {tail(member.log)}" for member in self.members),
        )

    def switch_over(self) -> Member:
        """Have the synchronous standby take over, in order; it."""
        leader, candidate = self.leader(), self.standby()
        assert leader is not None
        wanted = {"leader": leader.name, "candidate": candidate.name}
        answer = self._client.post(f"{leader.url}/switchover", json=wanted)
        assert answer.status_code == 200, answer.text
        return candidate

    def sql(self, text: str, dbname: str = "postgres") -> str:
        """Run SQL on the leader."""
        return self._psql(dbname, "-c", text)

    def run_file(self, path: Path, dbname: str) -> None:
        """Run a file on the leader."""
        self._psql(dbname, "-f", str(path))

    def load_shop(self) -> None:
        """Create the sample shop."""
        self.sql(f"CREATE DATABASE {shop.DATABASE}")
        self.run_file(shop.SCRIPT, shop.DATABASE)
        self.sql(DDL, shop.DATABASE)

    def _psql(self, dbname: str, *what: str) -> str:
        leader = self.leader()
        assert leader is not None
        command = [self._binaries["psql"], "-XqAtv", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(leader.port)]
        command += ["-U", "postgres", "-d", dbname, *what]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=30)  # noqa: S603
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _answers(self, url: str) -> bool:
        try:
            return self._client.get(url).status_code == 200
        except httpx.TransportError:
            return False

    def _configuration(self, member: Member) -> dict[str, Any]:
        dcs = {"ttl": TTL, "loop_wait": 1, "retry_timeout": 3, "synchronous_mode": True}
        return {
            "scope": SCOPE,
            "name": member.name,
            "restapi": {"listen": f"127.0.0.1:{member.rest}", "connect_address": f"127.0.0.1:{member.rest}"},
            "etcd3": {"host": f"127.0.0.1:{self._etcd}"},
            "bootstrap": {
                "dcs": {**dcs, "postgresql": {"use_slots": True, "parameters": _POSTGRES}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}, "no-sync"],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{member.port}",
                "connect_address": f"127.0.0.1:{member.port}",
                "data_dir": str(member.folder / "data"),
                "bin_dir": str(self._binaries.directory),
                "pgpass": str(member.folder / "pgpass"),
                "basebackup": ["no-sync", {"checkpoint": "fast"}],
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "postgres"},
                },
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
                "parameters": _POSTGRES,
            },
        }


@contextmanager
def patronis(members: int) -> Iterator[Patronis]:
    """A cluster with the sample shop; nothing of it is left."""
    account, launcher = choose_account(), Launcher()
    try:
        folder = launcher.make_directory(choose_place(account), account=account)
        made = Patronis(launcher, folder, account, find_binaries().within_reach(account, folder))
        made.start_etcd()
        made.add("node1")
        wait_until(made.leader, f"the first member leads: {tail(made.members[0].log)}")
        for number in range(2, members + 1):
            made.add(f"node{number}")
        made.load_shop()
        made.wait_until_whole()
        yield made
    finally:
        launcher.close()


def _as(account: Account | None) -> list[str]:
    """What runs a program as this user, who may read what only root may: the interpreter, for example."""
    if account is None:
        return []
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    may = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", *may]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
