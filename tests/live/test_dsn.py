"""What a DSN, a service file and the environment ask of a session, on real servers."""

from pathlib import Path

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Address, Driver
from tests.live.databases import soon


def setting(dsn: str, name: str, *, read_only: bool = True) -> str | None:
    connection = Driver({"here": Address(dsn)}, read_only=read_only).connect("here", soon())
    try:
        return connection.ask(f"SELECT current_setting('{name}')", soon())[0][0]
    finally:
        connection.close()


@pytest.fixture
def both(cluster: Cluster) -> str:
    """The primary and a replica, as hosts of one endpoint."""
    ports = f"{cluster.replicas[0].port},{cluster.primary.port}"
    return f"host=127.0.0.1,127.0.0.1 port={ports} dbname={shop.DATABASE} user=postgres"


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("kind", "is_replica"), [("read-write", "off"), ("primary", "off"), ("standby", "on"), ("read-only", "on")]
)
def test_the_kind_of_session_that_is_asked_for_is_found(
    both: str, kind: str, is_replica: str, *, read_only: bool
) -> None:
    assert setting(f"{both} target_session_attrs={kind}", "in_hot_standby", read_only=read_only) == is_replica


@pytest.mark.parametrize("kind", ["read-only", "standby"])
def test_a_primary_alone_is_no_standby(cluster: Cluster, kind: str) -> None:
    alone = f"host=127.0.0.1 port={cluster.primary.port} dbname={shop.DATABASE} user=postgres"
    with pytest.raises(ConnectError, match="standby"):
        setting(f"{alone} target_session_attrs={kind}", "port")


def test_sessions_are_utf_8_whatever_is_asked_for(both: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert setting(both, "client_encoding") == "UTF8"
    assert setting(f"{both} client_encoding=LATIN1", "client_encoding") == "UTF8"


def test_options_of_the_environment_and_of_a_service_hold_beside_ours(
    both: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=from_environment")
    assert setting(both, "search_path") == "from_environment"
    assert setting(both, "IntervalStyle") == "postgres"
    file = tmp_path / "services.conf"
    lines = "\n".join(both.split(" "))
    file.write_text(f"[shop]\n{lines}\noptions=-c search_path=from_service\nsslmode=disable\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert setting("service=shop", "search_path") == "from_service"
    assert setting("service=shop options='-c search_path=from_dsn'", "search_path") == "from_dsn"
    with pytest.raises(ConnectError, match='service "other" not found'):
        setting("service=other", "search_path")
