"""What clients see, under every worker class: routes, and what the gateway tells of itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving

SETTINGS = {"workers": 2, "max_body": "64kB", "max_result_bytes": "100kB"}


@pytest.fixture(scope="module", params=["gateway", "gthread", "sync"])
def node(
    tables: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    with serving(tables, folder, {"server": {**SETTINGS, "worker": request.param}}) as running:
        yield running


def unique() -> str:
    return uuid4().hex


class TestRoutes:
    @pytest.mark.parametrize(
        "name", ["nothing_here", "SERIES", "series%20", "..%2Fhealth", "%ff", "x" * 2000, "'", "series;"]
    )
    def test_an_unknown_query_is_404(self, name: str, node: Gateway) -> None:
        answer = node.client.post(f"/query/{name}", json={})
        assert answer.status_code == 404
        assert answer.json()["code"] in ("unknown_query", "not_found")

    @pytest.mark.parametrize(
        "path", ["/nothing", "/query", "/health/", "/health/nothing", "/query/series/x", "/metric"]
    )
    def test_an_unknown_route_is_404(self, path: str, node: Gateway) -> None:
        problem(node.client.get(path), 404, "not_found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("PUT", "/query/series", {"GET", "HEAD", "POST", "QUERY", "OPTIONS"}),
            ("DELETE", "/query/series", {"GET", "HEAD", "POST", "QUERY", "OPTIONS"}),
            ("POST", "/queries", {"GET", "HEAD", "OPTIONS"}),
            ("POST", "/queries/series", {"GET", "HEAD", "OPTIONS"}),
            ("PATCH", "/health", {"GET", "HEAD", "OPTIONS"}),
            ("POST", "/health/live", {"GET", "HEAD", "OPTIONS"}),
            ("DELETE", "/health/ready", {"GET", "HEAD", "OPTIONS"}),
        ],
    )
    def test_a_wrong_method_is_405_and_the_right_ones_are_told(
        self, method: str, path: str, allowed: set[str], node: Gateway
    ) -> None:
        answer = node.client.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("/query/series", "GET, HEAD, POST, QUERY"),
            ("/query/rename_thing", "POST"),
            ("/queries", "GET, HEAD"),
            ("/queries/series", "GET, HEAD"),
            ("/transaction", "POST"),
            ("/health", "GET, HEAD"),
            ("/metrics", "GET, HEAD"),
        ],
    )
    def test_options_are_told(self, node: Gateway, path: str, allowed: str) -> None:
        answer = node.client.options(path)
        assert (answer.status_code, answer.headers["Allow"], answer.content) == (200, allowed, b"")
        assert answer.headers.get("Accept-Query") == ("application/json" if path.startswith("/query/") else None)

    @pytest.mark.parametrize("path", ["/queries", "/queries/series", "/health", "/health/live", "/metrics"])
    def test_a_head_has_the_headers_of_a_get_and_no_body(self, node: Gateway, path: str) -> None:
        head, get = node.client.head(path), node.client.get(path)
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]

    def test_a_query_is_a_post_that_only_reads(self, node: Gateway) -> None:
        asked = node.client.request("QUERY", "/query/series", json={"n": 2})
        assert asked.json() == node.run("series", n=2).json()
        assert len(node.client.request("QUERY", "/query/series", json=[{"n": 1}, {"n": 2}]).json()["results"]) == 2
        written = node.client.request("QUERY", "/query/rename_thing", json={})
        problem(written, 405, "method_not_allowed")
        assert (written.headers["Allow"], written.headers["Accept-Query"]) == ("POST", "application/json")
        misread = node.client.request("QUERY", "/query/series", content="n=2", headers={"Content-Type": "text/plain"})
        problem(misread, 415, "unsupported_media_type")
        assert misread.headers["Accept-Query"] == "application/json"


class TestCatalogue:
    def test_all_queries_are_listed_by_name(self, node: Gateway) -> None:
        queries = node.client.get("/queries").json()["queries"]
        names = [query["name"] for query in queries]
        assert names == sorted(names)
        assert {"series", "orders_of_customer", "reports.daily_totals"} <= set(names)
        assert [name for name, query in zip(names, queries, strict=True) if query["fault"]] == ["broken_at_start"]

    def test_a_query_is_described_with_the_types_of_the_server(self, node: Gateway) -> None:
        described = node.client.get("/queries/several").json()
        for dependent in ("joined", "not_joined", "query_id"):  # on what was asked before, and on the server
            described.pop(dependent)
        learnt = datetime.fromisoformat(described.pop("learnt"))
        assert timedelta() <= datetime.now(UTC) - learnt < timedelta(hours=1)
        assert described == {
            "name": "several",
            "description": "",
            "kind": "one",
            "access": "read",
            "group": "read",
            "timeout_ms": 5000,
            "roles": [],
            "max_rows": None,
            "expect": None,
            "cache_ms": None,
            "stale_ms": None,
            "coalesce": False,
            "page": None,
            "sorts": {},
            "rate": None,
            "concurrency": None,
            "media": None,
            "deprecated": None,
            "deprecated_since": None,
            "sunset": None,
            "tool": None,
            "parameters": [
                {"name": "a", "type": "integer", "required": True, "description": "", "minimum": 1, "maximum": 9},
                {
                    "name": "b",
                    "type": "text",
                    "required": False,
                    "description": "",
                    "default": "b",
                    "maxLength": 3,
                    "pattern": "^[a-z]*$",
                },
                {"name": "c", "type": "date", "required": False, "description": "", "default": None},
            ],
            "columns": [
                {"name": "a", "type": "integer"},
                {"name": "b", "type": "text"},
                {"name": "c", "type": "date"},
            ],
            "harmless": True,
            "fault": None,
        }

    def test_an_enum_has_its_labels(self, node: Gateway) -> None:
        (parameter,) = node.client.get("/queries/echo_mood").json()["parameters"]
        assert parameter["enum"] == ["sad", "ok", "happy"]

    def test_a_query_the_server_does_not_take_has_no_types_and_shows_no_sql(self, node: Gateway) -> None:
        answer = node.client.get("/queries/broken_at_start")
        assert answer.json()["columns"] is None
        assert answer.json()["fault"]
        assert "there_is_no_such_table" not in answer.text

    def test_an_unknown_query_is_404(self, node: Gateway) -> None:
        problem(node.client.get("/queries/nothing_here"), 404, "unknown_query")


class TestHealth:
    def test_it_is_alive_and_ready(self, node: Gateway) -> None:
        assert node.client.get("/health/live").json() == {"status": "live"}
        assert node.client.get("/health/ready").json() == {"status": "ready", "reasons": []}
        assert node.client.get("/health/ready", params={"group": "write"}).status_code == 200
        assert node.client.get("/health/ready", params={"query": "series"}).status_code == 200

    def test_everything_known_is_told(self, node: Gateway) -> None:
        health = node.health()
        assert health["status"] == "ok"
        assert {name: each["role"] for name, each in health["endpoints"].items()} == {
            "primary": "primary",
            "replica1": "replica",
            "replica2": "replica",
        }
        for endpoint in health["endpoints"].values():
            assert (endpoint["in_rotation"], endpoint["reason"], endpoint["ping"]["ok"]) == (True, None, True)
        groups = health["groups"]
        assert groups["read"]["rotation"] == ["replica1", "replica2"]
        assert groups["write"]["rotation"] == ["primary"]
        assert (groups["read"]["size"], groups["write"]["size"]) == (16, 8)
        assert health["workers"][0]["pid"] in node.workers()
        assert health["checked_ms_ago"] < 2000

    def test_a_group_that_is_not_there_is_refused(self, node: Gateway) -> None:
        problem(node.client.get("/health/ready", params={"group": "nothing"}), 400, "invalid_request")
        problem(node.client.get("/health/ready", params={"grup": "read"}), 400, "invalid_request")
