"""Passwords that change while a node serves: a command prints the one that holds, and no call fails for the old one."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving, wait_until

ROLE = "lodger"
TTL = 2.0


class Vault:
    """Keeps the role's password, and gives it to whoever runs its command."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self._file = folder / "password"
        self._runs = folder / "runs"
        script = folder / "vault.py"
        script.write_text(
            "import sys\nopen(sys.argv[2], 'a').write('x')\nprint(open(sys.argv[1]).read())\n", encoding="utf-8"
        )
        self.command = [sys.executable, "-S", str(script), str(self._file), str(self._runs)]

    @property
    def runs(self) -> int:
        return len(self._runs.read_text()) if self._runs.exists() else 0

    def change(self, password: str) -> None:
        """From now on the role has this password, and none of its sessions is there any more."""
        self._file.write_text(password)
        self.cluster.primary.sql(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
        self.end_sessions()

    def end_sessions(self) -> None:
        self.cluster.primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    with Cluster(replicas=0) as cluster:
        shop.load(cluster)
        primary = cluster.primary
        primary.sql(f"CREATE ROLE {ROLE} LOGIN IN ROLE pg_monitor, pg_read_all_data, pg_write_all_data")
        hba = primary.data / "pg_hba.conf"
        hba.write_text(f"host all {ROLE} 127.0.0.1/32 scram-sha-256\n{hba.read_text()}")
        primary.reload()
        vault = Vault(cluster, tmp_path_factory.mktemp("vault"))
        vault.change("first")
        yield vault


@pytest.fixture(scope="module")
def node(vault: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    cluster = vault.cluster
    endpoint = {
        "dsn": cluster.primary.dsn(shop.DATABASE, ROLE),
        "password_command": vault.command,
        "password_ttl": f"{TTL:g}s",
    }
    with serving(cluster, tmp_path_factory.mktemp("node"), {"endpoints.primary": endpoint}) as node:
        yield node


def test_a_password_that_is_wrong_is_told_in_health_and_a_right_one_is_taken_up(node: Gateway, vault: Vault) -> None:
    vault.cluster.primary.sql(f"ALTER ROLE {ROLE} PASSWORD 'another'")
    vault.end_sessions()

    def told() -> tuple[bool, str | None]:
        primary = node.health()["endpoints"]["primary"]
        return primary["in_rotation"], primary["reason"]

    wait_until(lambda: told() == (False, "auth"), "health says why")
    assert "first" not in node.log
    vault.change("right")
    wait_until(lambda: told() == (True, None), "it serves again")


def test_the_command_is_run_again_when_its_time_is_over_and_not_for_each_connection(
    node: Gateway, vault: Vault
) -> None:
    before, began = vault.runs, time.monotonic()
    for _ in range(5):
        vault.end_sessions()
        assert node.run("customer", id=7).status_code == 200
    assert vault.runs - before <= 2 + (time.monotonic() - began) / TTL


def test_no_call_fails_for_a_password_that_changes_while_every_connection_is_gone(node: Gateway, vault: Vault) -> None:
    reads: list[str] = []
    writes: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            for answers, answer in (
                (reads, node.run("customer", id=7)),
                (writes, node.run("create_order", customer_id=7)),
            ):
                answers.append("200" if answer.status_code == 200 else answer.text)

    def await_calls() -> None:
        seen = len(writes)
        wait_until(lambda: len(writes) > seen + 10, "some calls")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for password in ("second", "third", "fourth", "fifth"):
            await_calls()
            vault.change(password)
        await_calls()
    finally:
        is_over.set()
        asking.join()
    assert set(reads) == {"200"}
    # A write whose session is ended while it runs fails for that, and is not run again.
    failed = [json.loads(answer) for answer in writes if answer != "200"]
    assert all((one["code"], one["outcome"]) == ("connection_lost", "rolled_back") for one in failed), failed
    assert len(failed) <= 4
