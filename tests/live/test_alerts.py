"""A real Prometheus scrapes a real node: each alert in deploy/ fires when what it is about happens, and not before."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
import yaml

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.live.gateways import QUERIES, Gateway, serving, wait_until, with_tables

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "gateway.json"
SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"workers": 1, "timeout": "30s"},
    "groups.read": {"size": 2, "max_lag": "60s"},
    "groups.write": {"size": 2},
    "groups.local": {"access": "read", "endpoints": ["replica1"], "fallback": "none", "size": 1, "max_lag": "60s"},
}
MORE_QUERIES = """
-- name: elsewhere$
-- @group local
SELECT 1;

-- name: once$
-- @deprecated since=2026-01-01 sunset=2027-01-01 use echo_text
SELECT 1;

-- name: impatient(seconds)$
-- @timeout 300ms
-- @param seconds float8
SELECT 1 FROM pg_sleep(:seconds);
"""


def program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed: apt-get install prometheus")
    return path


class Prometheus:
    """Scrapes four times a second, and asks nobody to wait before an alert fires."""

    def __init__(self, folder: Path, targets: list[int]) -> None:
        self.port = find_port()
        rules = yaml.safe_load(RULES.read_text())
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "0s"
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}" for port in targets]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - our own words
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)

    def is_ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def firing(self) -> set[str]:
        alerts = self._client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def ask(self, expression: str) -> list[Any]:
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[Any] = answer["data"]["result"]
        return found

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()


class Stage:
    """Two nodes over a primary and a replica, and a Prometheus that watches both."""

    def __init__(self, cluster: Cluster, gateway: Gateway, other: Gateway, prometheus: Prometheus) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self.other = other
        self.prometheus = prometheus

    @contextmanager
    def beside(self, *calls: tuple[str, dict[str, Any]]) -> Iterator[None]:
        """Make these calls at once, each over a connection of its own; they have ended when this does."""

        def call(query: str, arguments: dict[str, Any]) -> None:
            with self.gateway.new_client() as client:
                client.post(f"/query/{query}", json=arguments)

        threads = [threading.Thread(target=call, args=each) for each in calls]
        for thread in threads:
            thread.start()
        yield
        for thread in threads:
            thread.join()

    def expect(self, alert: str) -> None:
        wait_until(lambda: alert in self.prometheus.firing(), f"{alert} fires")

    def again(self, alert: str, call: Callable[[], object]) -> None:
        """Repeat a call until the alert fires: of a counter, Prometheus has to see two values."""

        def fires() -> bool:
            call()
            return alert in self.prometheus.firing()

        wait_until(fires, f"{alert} fires")


def query_is_broken(stage: Stage) -> None:
    stage.again("GatewayQueryBroken", lambda: stage.gateway.run("broken_at_run"))


def server_has_an_internal_error(stage: Stage) -> None:
    stage.again("GatewayInternalErrors", lambda: stage.gateway.run("refuse", message="x", state="XX000"))


def deprecated_query_is_called(stage: Stage) -> None:
    stage.again("GatewayDeprecatedCalls", lambda: stage.gateway.run("once"))


def calls_are_slow(stage: Stage) -> None:
    stage.again("GatewaySlow", lambda: stage.gateway.run("nap", seconds=1.2))


def calls_wait_for_a_connection(stage: Stage) -> None:
    with stage.beside(*[("nap", {"seconds": 2.5})] * 6):
        stage.expect("GatewayWaits")


def no_connection_comes_free(stage: Stage) -> None:
    with stage.beside(*[("nap", {"seconds": 3})] * 2):
        stage.again("GatewayPoolExhausted", lambda: stage.gateway.run("impatient", seconds=0))


def worker_stands_still(stage: Stage) -> None:
    (worker,) = stage.gateway.workers()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(worker, signal.SIGCONT)
    stage.expect("GatewayLoopHeld")


def servers_connections_are_used_up(stage: Stage) -> None:
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'pg-query%/0'"
    taken: list[Any] = []

    def write_without_a_connection() -> None:
        stage.cluster.primary.sql(ended)
        with suppress(psycopg2.OperationalError):
            while True:
                taken.append(psycopg2.connect(shop.dsn(stage.cluster.primary)))
        stage.gateway.run("enter_silently", {"Prefer": "wait=0.5"}, word="x")

    try:
        stage.again("GatewayCannotConnect", write_without_a_connection)
    finally:
        for connection in taken:
            connection.close()


def session_of_a_write_is_terminated(stage: Stage) -> None:
    def write() -> None:
        with stage.beside(("enter_slowly", {"word": "terminated", "seconds": 30})):
            ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%terminated%'"
            wait_until(
                lambda: int(stage.cluster.primary.sql(f"{ended} AND pid <> pg_backend_pid()")) > 0, "it is terminated"
            )

    stage.again("GatewayOutcomeUnknown", write)


def replica_does_not_replay(stage: Stage) -> None:
    (replica,) = stage.cluster.replicas
    replica.sql("SELECT pg_wal_replay_pause()")
    try:
        stage.again("GatewayReplicaLags", lambda: stage.gateway.run("enter_silently", word="lag"))
    finally:
        replica.sql("SELECT pg_wal_replay_resume()")


def other_node_has_another_catalogue(stage: Stage) -> None:
    stage.expect("GatewayCataloguesDiffer")


def replica_is_down(stage: Stage) -> None:
    (replica,) = stage.cluster.replicas
    replica.stop()
    stage.expect("GatewayEndpointOut")


def only_server_of_a_group_is_down(stage: Stage) -> None:
    stage.again("GatewayNoEndpoint", lambda: stage.gateway.run("elsewhere"))


def node_is_down(stage: Stage) -> None:
    stage.other.end()
    stage.expect("GatewayDown")


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "GatewayCataloguesDiffer": other_node_has_another_catalogue,
    "GatewayQueryBroken": query_is_broken,
    "GatewayInternalErrors": server_has_an_internal_error,
    "GatewayDeprecatedCalls": deprecated_query_is_called,
    "GatewaySlow": calls_are_slow,
    "GatewayWaits": calls_wait_for_a_connection,
    "GatewayPoolExhausted": no_connection_comes_free,
    "GatewayOutcomeUnknown": session_of_a_write_is_terminated,
    "GatewayCannotConnect": servers_connections_are_used_up,
    "GatewayLoopHeld": worker_stands_still,
    "GatewayReplicaLags": replica_does_not_replay,
    "GatewayEndpointOut": replica_is_down,
    "GatewayNoEndpoint": only_server_of_a_group_is_down,
    "GatewayDown": node_is_down,
}
"""In the order in which they are played: the last ones take something away."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "queries").mkdir()
    (folder / "queries" / "more.sql").write_text(MORE_QUERIES)
    capacity = {"max_connections": "20", "superuser_reserved_connections": "3"}
    with Cluster(replicas=1, settings=capacity) as cluster:
        shop.load(cluster)
        with (
            with_tables(cluster),
            serving(cluster, folder / "one", SETTINGS, paths=[QUERIES, folder / "queries"]) as gateway,
            serving(cluster, folder / "two", SETTINGS, paths=[QUERIES]) as other,
        ):
            prometheus = Prometheus(folder, [gateway.port, other.port])
            try:
                wait_until(prometheus.is_ready, "Prometheus is ready")
                wait_until(lambda: len(prometheus.ask("gateway_workers")) == 2, "both nodes are scraped")
                yield Stage(cluster, gateway, other, prometheus)
            finally:
                prometheus.close()


def test_every_alert_has_its_scenario() -> None:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == SCENARIOS.keys()


def test_promtool_has_nothing_against_the_metrics(stage: Stage) -> None:
    text = stage.gateway.client.get("/metrics").text
    checked = subprocess.run(  # noqa: S603 - our own words
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_has_nothing_against_the_rules() -> None:
    subprocess.run([program("promtool"), "check", "rules", str(RULES)], check=True, capture_output=True)  # noqa: S603


@pytest.mark.parametrize("alert", SCENARIOS)
def test_an_alert_fires_when_it_happens_and_not_before(alert: str, stage: Stage) -> None:
    if alert != "GatewayCataloguesDiffer":  # the nodes differ from the beginning
        wait_until(lambda: alert not in stage.prometheus.firing(), f"{alert} does not fire")
    SCENARIOS[alert](stage)


def test_every_panel_of_the_dashboard_asks_what_can_be_asked(stage: Stage) -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            stage.prometheus.ask(target["expr"].replace("$__rate_interval", "1m").replace("$node", ".*"))
