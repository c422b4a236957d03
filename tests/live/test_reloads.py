"""Reloads of a running node: what it serves changes without a lost request, or nothing does and everybody is told."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import QUERIES, Gateway, serving, toml, wait_until

MORE = "-- name: more$\nSELECT 42;\n"


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def node(
    tables: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "more").mkdir()
    server = {"workers": 1, "worker": request.param}
    with serving(tables, folder, {"server": server}, paths=[QUERIES, folder / "more"]) as running:
        yield running


@pytest.fixture
def more(node: Gateway) -> Iterator[Path]:
    """A folder for queries that are served from the next reload on; reloaded without them afterwards."""
    folder = node.folder / "more"
    yield folder
    for file in folder.iterdir():
        file.unlink()
    assert reload(node).status_code == 200


def reload(node: Gateway) -> Any:
    return node.operator.post("/admin/reload", params={"wait": "25s"})


def served(node: Gateway) -> Any:
    """What a worker says of its catalogue over a new connection: those that were replaced take none."""
    with node.new_client() as client:
        return client.get("/health").json()["catalogue"]


def test_a_query_that_is_added_is_served_when_the_answer_comes(node: Gateway, more: Path) -> None:
    assert node.run("more").status_code == 404
    (more / "more.sql").write_text(MORE)
    answer = reload(node)
    assert answer.status_code == 200, answer.text
    assert answer.json()["hash"] == served(node)["hash"]
    with node.new_client() as client:
        assert client.post("/query/more", json={}).json() == {"value": 42}


def test_faults_are_answered_logged_and_in_health_and_nothing_changes(node: Gateway, more: Path) -> None:
    before = served(node)["hash"]
    workers = set(node.workers())
    (more / "more.sql").write_text("-- name: more$\nSELECT nothing_of_the_kind;\n")
    answer = reload(node)
    assert (answer.status_code, answer.json()["code"]) == (409, "reload_refused")
    (error,) = answer.json()["errors"]
    assert "more.sql:1: more: column" in error["message"]
    health = served(node)
    assert health["hash"] == before
    assert "nothing_of_the_kind" in health["fault"]
    assert workers >= set(node.workers())
    assert "nothing_of_the_kind" in node.log
    (more / "more.sql").write_text(MORE)
    assert reload(node).status_code == 200
    assert "not reloaded" not in (served(node)["fault"] or "")


def test_a_server_that_was_drained_stays_so_though_endpoints_change(node: Gateway, tables: Cluster) -> None:
    file = node.folder / "gateway.toml"
    before = file.read_text()
    assert node.operator.post("/admin/endpoints/replica1/drain").status_code == 200
    try:
        another = toml({"endpoints.another": {"dsn": shop.dsn(tables.replicas[1])}})
        file.write_text(f"{before}\n{another}")
        assert reload(node).status_code == 200
        with node.new_client() as client:
            endpoints = client.get("/health").json()["endpoints"]
        assert endpoints["replica1"]["reason"] == "drained"
        assert endpoints["another"]["in_rotation"]
    finally:
        file.write_text(before)
        assert reload(node).status_code == 200
        assert node.operator.post("/admin/endpoints/replica1/resume", params={"wait": "10s"}).status_code == 200


def test_a_server_that_refuses_the_login_is_a_fault(node: Gateway, tables: Cluster) -> None:
    file = node.folder / "gateway.toml"
    before = file.read_text()
    dsn = shop.dsn(tables.primary).replace(f"user={shop.ROLE}", "user=nobody_here")
    file.write_text(before + toml({"endpoints.stranger": {"dsn": dsn}}))
    try:
        answer = reload(node)
        assert answer.status_code == 409
        assert "endpoints.stranger: cannot connect" in answer.json()["errors"][0]["message"]
    finally:
        file.write_text(before)


def test_behind_a_front_that_learns_late_a_node_serves_on_for_its_delay(tables: Cluster, tmp_path: Path) -> None:
    with serving(tables, tmp_path, {"server": {"shutdown_delay": "3s"}}) as running:
        running.program.send_signal(signal.SIGTERM)
        wait_until(lambda: running.client.get("/health/ready").status_code == 503, "not ready", 2.0)
        for _ in range(20):
            with running.new_client() as client:
                answer = client.get("/health/live")
                assert (answer.status_code, answer.headers["Connection"]) == (200, "close")
        assert running.program.poll() is None
        assert running.program.wait(20) == 0
