"""The typed description of a catalogue holds what the gateway takes and answers, and generated clients call it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gateway.catalogue.compiling import compile_project
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.checking import learn_all
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.session import Session
from gateway.settings import load_settings
from tests.live.gateways import Gateway, environment, serving
from tests.live.sessions import pid_of


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(cluster, tmp_path_factory.mktemp("document"), paths=[shop.QUERIES]) as running:
        yield running


@pytest.fixture(scope="module")
def document(node: Gateway) -> dict[str, Any]:
    described: dict[str, Any] = node.client.get("/openapi.json").json()
    return described


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def test_every_query_is_described(node: Gateway, document: dict[str, Any]) -> None:
    names = [query["name"] for query in node.client.get("/queries").json()["queries"]]
    assert list(document["paths"]) == [f"/query/{name}" for name in names]
    assert {path["post"]["tags"][0] for path in document["paths"].values()} == {"queries", "reports"}


def test_examples_run_and_what_is_answered_is_as_described(node: Gateway, document: dict[str, Any]) -> None:
    answered = 0
    for path, item in document["paths"].items():
        operation = item["post"]
        content = operation["requestBody"]["content"]["application/json"]
        if "example" not in content:
            continue
        schema_of(document, content["schema"]).validate(content["example"])
        answer = node.client.post(path, json=content["example"])
        assert answer.status_code in (200, 409) or answer.json()["code"] == "raised", (path, answer.text)
        described = operation["responses"].get(str(answer.status_code))
        if described is None:
            schema_of(document, {"$ref": "#/components/schemas/Problem"}).validate(answer.json())
        else:
            answered += 1
            schema_of(document, described["content"]["application/json"]["schema"]).validate(answer.json())
    assert answered >= len(document["paths"]) / 2


def test_the_command_writes_the_same_without_a_node(node: Gateway, tmp_path: Path) -> None:
    told = node.client.get("/openapi.json").content
    command = [sys.executable, "-m", "gateway", "openapi", "-c", str(node.folder / "gateway.toml")]
    for more, written in (([], None), (["--output", "openapi.json"], tmp_path / "openapi.json")):
        done = subprocess.run([*command, *more], cwd=tmp_path, env=environment(), capture_output=True, check=True)  # noqa: S603 -- our own words
        assert (written.read_bytes() if written else done.stdout.rstrip(b"\n")) == told


@pytest.mark.parametrize("leaving", [1, 3])
def test_a_server_that_goes_away_while_it_is_asked_is_named_and_the_next_one_is_asked(
    leaving: int, node: Gateway, cluster: Cluster
) -> None:
    settings = load_settings(node.folder / "gateway.toml", environ={})
    catalogue = compile_project(settings)
    driver = Driver(addresses(settings.endpoints), read_only=True, time_zone="UTC")
    asked: list[str] = []

    def connect(endpoint: str, deadline: float) -> Session:
        connection = driver.connect(endpoint, deadline)
        asked.append(endpoint)
        if len(asked) <= leaving:
            (server,) = [server for server in cluster.servers if server.name == endpoint]
            server.sql(f"SELECT pg_terminate_backend({pid_of(connection)}, 5000)")
        return connection

    signatures, faults = learn_all(settings, catalogue, connect)
    assert asked == list(settings.endpoints)[: leaving + 1]
    if leaving < len(settings.endpoints):
        assert set(signatures) == set(catalogue.queries)
        assert faults == []
    else:
        assert [str(fault).partition(": went away while it was asked: ")[0] for fault in faults] == [
            f"endpoints.{name}" for name in settings.endpoints
        ]


def test_big_numbers_are_strings_where_the_settings_say_so(cluster: Cluster, tmp_path: Path) -> None:
    settings = {"server": {"bigint": "string"}}
    with serving(cluster, tmp_path / "node", settings, paths=[shop.QUERIES]) as node:
        described = node.client.get("/openapi.json").json()
        result = described["components"]["schemas"]["OrderTotalResult"]["properties"]["value"]
        assert result["type"] == ["string", "null"]
        assert node.run("order_total", order_id=43226).json() == {"value": "558.47"}
        wishes = {"Prefer": "bigint=number"}
        as_number = node.run("order_total", wishes, order_id=43226)
        assert (as_number.text, as_number.headers["Preference-Applied"]) == ('{"value":558.47}', "bigint=number")
        test_examples_run_and_what_is_answered_is_as_described(node, described)
