"""``gateway plan`` against real servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import toml


@pytest.fixture
def config(cluster: Cluster, tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    endpoints = {f"endpoints.{server.name}": {"dsn": shop.dsn(server)} for server in cluster.servers}
    file.write_text(toml({"server": {"workers": 2}, **endpoints}))
    return file


@pytest.fixture
def limited(cluster: Cluster) -> Iterator[None]:
    cluster.primary.sql(f"ALTER ROLE {shop.ROLE} CONNECTION LIMIT 60")
    cluster.wait_until_caught_up()
    yield
    cluster.primary.sql(f"ALTER ROLE {shop.ROLE} CONNECTION LIMIT -1")


def run(config: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["plan", "-c", str(config), *options])


def planned(config: Path, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(config, "--format", "json", *options).stdout)
    return found


def test_every_server_is_asked_what_it_has(cluster: Cluster, config: Path) -> None:
    found = planned(config, "--nodes", "3")
    assert found["servers"].keys() == {server.name for server in cluster.servers}
    for server in found["servers"].values():
        assert (server["per_node"], server["all_nodes"], server["at_most"]) == (25, 75, 100)
        assert (server["capacity"]["max_connections"], server["capacity"]["reserved"]) == (200, 3)
        assert 0 <= server["capacity"]["others"] < 100


@pytest.mark.usefixtures("limited")
def test_what_does_not_fit_is_said_and_is_the_exit_status(config: Path) -> None:
    done = run(config, "--nodes", "20")
    assert done.exit_code == 1
    assert "20 nodes do not fit primary, replica1, replica2" in done.stderr
    assert planned(config, "--nodes", "20")["servers"]["primary"]["nodes_that_fit"] == 1
    assert run(config, "--nodes", "1").exit_code == 0


def test_without_servers_only_what_is_known_is_printed(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[endpoints.primary]\ndsn = "host=127.0.0.1 port=1"\n')
    done = run(config, "--offline", "--nodes", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    assert run(config).exit_code == 0
    assert "primary: cannot connect" in run(config).stderr
