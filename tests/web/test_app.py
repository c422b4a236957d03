"""The whole app over a database that is down: it lives, says so, and refuses what it cannot do."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
import yaml

from gateway import __version__
from gateway.app import create_app
from gateway.app.wsgi import GatewayApp
from gateway.catalogue.compiling import compile_project
from gateway.settings import load_settings
from tests.web.description import Description, parse

OPENAPI = Path(__file__).parents[2] / "openapi.yaml"
SETTINGS = """
[server]
workers = 1
timeout = "3s"
allowed_hosts = ["falconframework.org"]
[endpoints.primary]
dsn = "host=127.0.0.1 port=1 dbname=shop user=gateway"
password = "canary-of-the-password"
"""
QUERIES = """
-- name: orders(customer, most)
-- The customer's orders.
-- @timeout 250ms
-- @param most int4 = 50 minimum=1 maximum=500 -- how many at most
-- @role sales
-- @max_rows 500
-- @deprecated use orders_of_customer
SELECT id FROM orders WHERE customer = :customer LIMIT :most;

-- name: pay(id)!
-- @group write
UPDATE orders SET paid = true WHERE id = :id;
"""


def made(folder: Path) -> GatewayApp:
    (folder / "gateway.toml").write_text(SETTINGS)
    (folder / "queries").mkdir()
    (folder / "queries" / "shop.sql").write_text(QUERIES)
    settings = load_settings(folder / "gateway.toml", environ={})
    return create_app(settings, compile_project(settings), folder)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[falcon.testing.TestClient]:
    app = made(tmp_path_factory.mktemp("project"))
    yield falcon.testing.TestClient(app)
    app.close()


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("gateway")}


def test_what_was_closed_runs_nothing_any_more_and_refuses_what_comes(tmp_path: Path) -> None:
    before = threads()
    app = made(tmp_path)
    beside = threads() - before
    assert beside
    app.close()
    for thread in beside:
        thread.join(10)
    assert [thread.name for thread in beside if thread.is_alive()] == []
    health = falcon.testing.TestClient(app).simulate_get("/health/ready")
    assert health.status_code == 503
    app.close()


def valid(answer: falcon.testing.Result, schema: str) -> Any:
    """The body, if it is as openapi.yaml says."""
    assert "canary" not in answer.text
    assert answer.headers["X-Request-Id"]
    body = parse(answer.content)
    Description.load().validator({"$ref": f"#/components/schemas/{schema}"}).validate(body)
    return body


def test_it_is_alive(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/health/live")
    assert (answer.status_code, answer.json) == (200, {"status": "live"})
    assert answer.headers["Cache-Control"] == "no-store"


def test_it_is_not_ready_and_says_why(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/health/ready")
    assert answer.status_code == 503
    assert valid(answer, "Readiness") == {
        "status": "not_ready",
        "reasons": [
            "the types of the queries are not known yet",
            "group read: no endpoint may answer",
            "group write: no endpoint may answer",
        ],
    }


@pytest.mark.parametrize(
    ("narrowed", "group"), [("group=write", "write"), ("query=pay", "write"), ("query=orders", "read")]
)
def test_the_question_can_be_narrowed_to_a_group(narrowed: str, group: str, client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/health/ready", query_string=narrowed)
    assert answer.status_code == 503
    reasons = valid(answer, "Readiness")["reasons"]
    assert reasons[1:] == [f"group {group}: no endpoint may answer"]


@pytest.mark.parametrize(
    "narrowed",
    [
        "group=reed",
        "query=nothing",
        "group=",
        "colour=blue",
        "max_lag=2",
        "min=0",
        "min=x",
        "min=1&min=2",
        "group=%ED%A0%80",
    ],
)
def test_a_question_nobody_can_answer_is_refused(narrowed: str, client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/health/ready", query_string=narrowed)
    assert (answer.status_code, valid(answer, "Problem")["code"]) == (400, "invalid_request")


def test_its_health_is_down_with_the_reason_of_the_endpoint(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/health")
    assert answer.status_code == 200
    health = valid(answer, "Health")
    assert (health["status"], health["version"]) == ("down", __version__)
    endpoint = health["endpoints"]["primary"]
    assert (endpoint["in_rotation"], endpoint["role"]) == (False, None)
    assert {name: group["status"] for name, group in health["groups"].items()} == {"read": "down", "write": "down"}
    assert (health["groups"]["read"]["size"], health["groups"]["write"]["size"]) == (16, 8)
    assert health["catalogue"]["queries"] == 2


@pytest.mark.parametrize(
    ("method", "path", "query_string"),
    [("POST", "/query/orders", ""), ("GET", "/query/orders", "customer=1"), ("POST", "/query/pay", "")],
)
def test_a_query_is_not_available_and_may_be_tried_again(
    method: str, path: str, query_string: str, client: falcon.testing.TestClient
) -> None:
    answer = client.simulate_request(method, path, query_string=query_string)
    problem = valid(answer, "Problem")
    assert (answer.status_code, problem["code"], problem["retryable"]) == (503, "backend_unavailable", True)
    assert answer.headers["Retry-After"] == "1"
    assert problem["outcome"] is None


def test_the_catalogue_is_told_without_types(client: falcon.testing.TestClient) -> None:
    answer = client.simulate_get("/queries")
    assert answer.status_code == 200
    queries = answer.json["queries"]
    assert [query["name"] for query in queries] == ["orders", "pay"]
    assert client.simulate_get("/queries/orders").json == queries[0]
    assert valid(client.simulate_get("/queries/orders"), "Query") == {
        "name": "orders",
        "description": "The customer's orders.",
        "kind": "many",
        "access": "read",
        "group": "read",
        "timeout_ms": 250,
        "roles": ["sales"],
        "max_rows": 500,
        "expect": None,
        "cache_ms": None,
        "stale_ms": None,
        "coalesce": False,
        "page": None,
        "sorts": {},
        "rate": None,
        "concurrency": None,
        "media": None,
        "deprecated": "use orders_of_customer",
        "deprecated_since": None,
        "sunset": None,
        "tool": None,
        "parameters": [
            {"name": "customer", "type": None, "required": True, "description": ""},
            {
                "name": "most",
                "type": None,
                "required": False,
                "description": "how many at most",
                "default": 50,
                "minimum": 1,
                "maximum": 500,
            },
        ],
        "columns": None,
        "joined": False,
        "not_joined": "a worker of this kind runs requests in threads",
        "harmless": None,
        "query_id": None,
        "learnt": None,
        "fault": None,
    }
    assert valid(client.simulate_get("/queries/pay"), "Query")["timeout_ms"] == 3000


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("GET", "/queries/nothing", {}, 404, "unknown_query"),
        ("POST", "/query/nothing", {}, 404, "unknown_query"),
        ("GET", "/query/nothing", {}, 404, "unknown_query"),
        ("POST", "/query/nothing", {"Content-Type": "text/plain"}, 404, "unknown_query"),
        ("POST", "/query/Orders", {}, 404, "unknown_query"),
        ("POST", "/query/", {}, 404, "unknown_query"),
        ("POST", "/query/a/b", {}, 404, "not_found"),
        ("POST", "/query", {}, 404, "not_found"),
        ("GET", "/nowhere", {}, 404, "not_found"),
        ("GET", "/queries/", {}, 404, "unknown_query"),
        ("GET", "/query/pay", {}, 405, "method_not_allowed"),
        ("PUT", "/query/pay", {}, 405, "method_not_allowed"),
        ("POST", "/health", {}, 405, "method_not_allowed"),
        ("DELETE", "/queries/pay", {}, 405, "method_not_allowed"),
        ("POST", "/query/orders", {"Accept": "text/html"}, 406, "not_acceptable"),
        ("POST", "/query/orders", {"Accept": "application/json;q=0"}, 406, "not_acceptable"),
        ("POST", "/query/orders", {"Accept": "nonsense"}, 406, "not_acceptable"),
        ("POST", "/query/orders", {"Accept": f'application/json;x="{";" * 1024}"'}, 406, "not_acceptable"),
        ("POST", "/query/orders", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ("POST", "/query/orders", {"Content-Length": "1048577"}, 413, "body_too_large"),
        ("POST", "/query/orders", {"Prefer": "wait=soon"}, 400, "invalid_request"),
        ("POST", "/query/pay", {"Idempotency-Key": ""}, 400, "invalid_request"),
        ("GET", "/query/orders", {"Gateway-Consistency-Token": "t"}, 400, "invalid_request"),
    ],
)
def test_what_is_wrong_with_a_request_is_told_whether_the_database_is_up_or_not(
    method: str, path: str, headers: dict[str, str], status: int, code: str, client: falcon.testing.TestClient
) -> None:
    answer = client.simulate_request(method, path, headers=headers)
    assert (answer.status_code, valid(answer, "Problem")["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/*;q=0.5, text/html", "text/csv, application/json;q=0.1"]
)
def test_a_caller_that_takes_json_gets_it(accept: str, client: falcon.testing.TestClient) -> None:
    assert client.simulate_post("/query/orders", headers={"Accept": accept}).status_code == 503


def test_a_method_that_is_not_for_a_route_gets_those_that_are(client: falcon.testing.TestClient) -> None:
    assert client.simulate_get("/query/pay").headers["Allow"] == "POST"
    assert client.simulate_put("/query/pay").headers["Allow"] == "GET, HEAD, OPTIONS, POST, QUERY"
    assert client.simulate_post("/health/live").headers["Allow"] == "GET, HEAD, OPTIONS"


METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


@pytest.mark.parametrize("path", sorted(yaml.safe_load(OPENAPI.read_text())["paths"]))
def test_every_route_tells_its_methods_refuses_all_others_and_answers_head_as_get(
    path: str, client: falcon.testing.TestClient
) -> None:
    path = path.replace("{name}", "orders").replace("{file}", "x").replace("{id}", "x").replace("{mark}", "x")
    options = client.simulate_options(path)
    if options.status_code == 404:  # not switched on
        return
    allowed = set(options.headers["Allow"].split(", "))
    assert (options.status_code, options.content) == (200, b"")
    assert ("HEAD" in allowed) is ("GET" in allowed)
    for method in METHODS - allowed:
        refused = client.simulate_request(method, path)
        assert (refused.status_code, set(refused.headers["Allow"].split(", "))) == (405, allowed | {"OPTIONS"})
    if "GET" in allowed:
        told, body = client.simulate_head(path), client.simulate_get(path)
        assert (told.status_code, told.content) == (body.status_code, b"")
        assert told.headers["Content-Type"] == body.headers["Content-Type"]


def test_nothing_is_offered_to_agents_that_is_not_switched_on(client: falcon.testing.TestClient) -> None:
    assert client.simulate_post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"}).status_code == 404
    assert client.simulate_get("/.well-known/oauth-protected-resource").status_code == 404


def test_every_page_comes_with_what_keeps_other_sites_out(client: falcon.testing.TestClient) -> None:
    paths = [
        path
        for path, operations in yaml.safe_load(OPENAPI.read_text())["paths"].items()
        if "get" in operations and "{" not in path
    ]
    answers = {path: client.simulate_get(path) for path in paths}
    pages = {path: answer for path, answer in answers.items() if answer.headers["Content-Type"].startswith("text/html")}
    assert "/docs" in pages
    for answer in pages.values():
        policy = dict(rule.strip().partition(" ")[::2] for rule in answer.headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=|https?://", answer.text)
