"""openapi.yaml, the routes of the app, the codes of errors.py and what a running gateway answers are one thing."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import schemathesis
from falcon.routing.compiled import CompiledRouterNode
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway import __version__
from gateway.app import create_app
from gateway.catalogue.query import Catalogue
from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from gateway.errors import GatewayError
from gateway.settings import load_settings
from tests.execution.samples import query
from tests.live.gateways import Gateway, serving, with_tables
from tests.web.description import FILE, Description

DESCRIPTION = Description.load()
METHODS = {"GET", "POST", "PUT", "DELETE", "PATCH"}
NAMES = [
    "series",
    "several",
    "echo_numeric",
    "echo_texts",
    "echo_json",
    "add_thing",
    "next_number",
    "refuse",
    "customer",
    "products_tagged",
    "no_such_query",
]
"""Of queries that schemathesis is led to; of itself it would hardly guess one."""

EVERYTHING = """
[endpoints.primary]
dsn = "host=127.0.0.1 port=1"
[mcp]
enabled = true
[auth]
mode = "jwt"
issuer = "https://login.example.com"
audience = "shop"
algorithms = ["HS256"]
jwt_secret_file = "secret"
allow_anonymous = true
anonymous_roles = ["admin", "monitor"]
"""
"""Settings with which there is every route."""
ADMIN = f"127.0.0.1:{find_port()}"

schemathesis.serializer.alias(["application/x-ndjson", "text/csv"], "text/plain")
schema = schemathesis.openapi.from_path(FILE)


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings: dict[str, dict[str, Any]] = {"server": {"admin_bind": ADMIN}, "mcp": {"enabled": True}}
    with with_tables(cluster), serving(cluster, tmp_path_factory.mktemp("openapi"), settings) as running:
        yield running


def test_the_file_is_valid_openapi_of_this_version() -> None:
    validate(DESCRIPTION.document)
    assert DESCRIPTION.document["openapi"].startswith("3.1")
    assert DESCRIPTION.document["info"]["version"] == __version__


def test_the_routes_of_the_app_are_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s" * 32)
    (tmp_path / "gateway.toml").write_text(EVERYTHING)
    app = create_app(load_settings(tmp_path / "gateway.toml", environ={}), Catalogue({"x": query("x")}, "hash"), None)
    routes = {}
    for path in DESCRIPTION.paths:
        operator = {"gateway.admin": True} if path.startswith("/admin/") else {}
        request = falcon.Request(falcon.testing.create_environ() | operator)
        found = app._router.find(path.replace("{name}", "x"), request)
        assert found is not None, f"{path} is in the file, but not in the app"
        _, responders, _, template = found
        allowed = falcon.testing.simulate_options(
            app, path.replace("{name}", "x"), host="localhost", extras=operator
        ).headers["Allow"]
        routes[template] = METHODS & set(allowed.split(", "))
        assert responders
    app.close()
    assert routes == {path: DESCRIPTION.methods(path) for path in DESCRIPTION.paths}
    assert _templates(app._router._roots) == set(DESCRIPTION.paths)


def _templates(nodes: Sequence[CompiledRouterNode]) -> set[str]:
    """Every route of a Falcon app."""
    found: set[str] = set()
    for each in nodes:
        if each.resource is not None and each.uri_template is not None:
            found.add(each.uri_template)
        found |= _templates(each.children)
    return found


def test_the_codes_of_the_file_are_those_of_our_errors() -> None:
    def codes(kind: type[GatewayError]) -> set[str]:
        return {kind.code}.union(*map(codes, kind.__subclasses__()))

    assert codes(GatewayError) == DESCRIPTION.codes


@schema.parametrize()
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_whatever_is_sent_the_answer_is_as_the_file_says(case: "Case[Any]", node: Gateway) -> None:
    if "name" in case.path_parameters:
        name = str(case.path_parameters["name"])
        case.path_parameters["name"] = NAMES[sum(map(ord, name)) % len(NAMES)] if len(name) % 4 else name
    answer = case.call(base_url=f"http://{ADMIN}" if case.path.startswith("/admin/") else node.url)
    # That it is not ready for what was asked is a good answer.
    is_told = case.path == "/health/ready" and answer.status_code == 503
    case.validate_response(
        answer,
        checks=[
            *([] if is_told else [not_a_server_error]),
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
