"""Tools for agents over a real cluster: the same calls as over HTTP, with the same guards."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from mcp import Client, MCPError

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.agents import Agent, with_sdk
from tests.live.gateways import running_marked, serving, wait_until
from tests.live.offering import Site, settings

ARGUMENTS: dict[str, dict[str, Any]] = {
    "customer": {"id": 7},
    "customer_by_external_id": {"external_id": "00000000-0000-4000-8000-000000000000"},
    "customers_by_external_id": {"external_ids": ["00000000-0000-4000-8000-000000000000"]},
    "find_customers": {"name": "ada", "max_rows": 3},
    "customers_preferring": {"wanted": {"language": "fr"}, "max_rows": 3},
    "register_customer": {"name": "Ada", "phone": None},
    "set_customer_status": {"id": 7, "status": "active"},
    "orders_of_customer": {"customer_id": 7},
    "orders_between": {"since": "2025-06-01T00:00:00Z", "until": "2025-06-02T00:00:00Z"},
    "order_total": {"order_id": 7},
    "create_order": {"customer_id": 7},
    "add_line": {"order_id": 1, "product_id": 1},
    "mark_shipped": {"order_ids": [1], "shipped_on": "2026-01-31"},
    "cancel_order": {},
    "product": {"sku": "SKU-0007"},
    "products_tagged": {"tags": ["wood"]},
    "products_priced": {"price": "[10,20)", "not_above": "19.5"},
    "products_on_sale": {"during": "[2024-06-01,2024-06-02)"},
    "products_within": {"lead_time": "3 days"},
    "thumbnail": {"product_id": 2},
    "set_product_details": {"product_id": 3, "size": {"width_mm": 1, "height_mm": 2, "depth_mm": 3}},
    "reserve_product_id": {},
    "reports_daily_totals": {},
    "reports_best_customers": {"country": "DE", "max_rows": 3},
    "reports_turnover": {},
    "reviews_of_product": {"product_id": 7},
    "write_review": {"product_id": 399, "customer_id": 9999, "stars": 5},
    "remove_review": {"id": "8000"},
}
"""Of every query of the sample shop."""


@pytest.fixture(scope="module")
def site(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("mcp")
    cluster.primary.sql("CREATE TABLE agents_notes (text text); GRANT ALL ON agents_notes TO PUBLIC", shop.DATABASE)
    cluster.wait_until_caught_up()
    made: dict[str, str] = {}
    with serving(cluster, folder, settings(folder, made, max_body="64kB"), paths=[folder / "queries"]) as node:
        yield Site(node, made)
    cluster.primary.sql("DROP TABLE agents_notes", shop.DATABASE)


def problem_of(result: dict[str, Any]) -> dict[str, Any]:
    """The problem that a tool failed with."""
    assert result["isError"] is True
    assert "structuredContent" not in result
    (piece,) = result["content"]
    problem: dict[str, Any] = json.loads(piece["text"])
    return problem


def value_of(result: dict[str, Any]) -> Any:
    assert result["isError"] is False, result
    return result["structuredContent"]["value"]


class TestListing:
    def test_the_tools_are_those_that_the_caller_may_run_in_the_order_of_their_names(self, site: Site) -> None:
        of_sales, of_clerk = site.agent().tools(), site.agent("clerk").tools()
        assert list(of_sales) == sorted(of_sales)
        assert of_sales.keys() - of_clerk.keys() == {"orders_of_customer"}
        assert of_sales.keys() == ARGUMENTS.keys() | {
            "bound", "slow", "hurried", "long", "note", "notes", "seldom", "exact", "old",
        }  # fmt: skip

    def test_a_tool_says_what_it_does_and_whether_it_writes(self, site: Site) -> None:
        tools = site.agent().tools()
        assert tools["create_order"]["description"] == "An empty order, to be filled with add_line."
        assert "title" not in tools["create_order"]
        assert tools["old"]["title"] == "Something old"
        assert tools["old"]["description"] == "Deprecated: use something new"
        hints = tools["notes"]["annotations"], tools["note"]["annotations"]
        assert [each["readOnlyHint"] for each in hints] == [True, False]
        assert hints[1]["destructiveHint"] is True
        assert "idempotency_key" in tools["note"]["inputSchema"]["properties"]
        assert "idempotency_key" not in tools["notes"]["inputSchema"]["properties"]

    def test_an_agent_is_told_of_all_of_them_before_it_chooses(self, site: Site) -> None:
        assert site.agent().result("server/discover")["instructions"] == "Prices are in euros."
        begun = site.agent(modern=False).result("initialize", protocolVersion="2025-06-18")
        assert (begun["protocolVersion"], begun["instructions"]) == ("2025-06-18", "Prices are in euros.")
        assert site.agent(modern=False).result("initialize", protocolVersion="1")["protocolVersion"] == "2025-11-25"
        assert site.agent(modern=False).result("ping") == {}

    def test_the_description_of_a_query_says_what_agents_call_it(self, site: Site) -> None:
        headers = site.agent().headers
        described = {
            name: site.node.client.get(f"/queries/{name}", headers=headers).json()["tool"]
            for name in ("reports.daily_totals", "hidden")
        }
        assert described == {"reports.daily_totals": "reports_daily_totals", "hidden": None}


class TestResults:
    @pytest.mark.parametrize("name", ARGUMENTS)
    def test_what_a_query_of_the_shop_answers_is_what_its_schema_says(self, site: Site, name: str) -> None:
        arguments = dict(ARGUMENTS[name])
        if name == "register_customer":
            arguments["email"] = f"{uuid4().hex}@example.com"
        if name == "cancel_order":
            arguments["order_id"] = site.agent().call("create_order", customer_id=7)["structuredContent"]["row"]["id"]
        tool = site.agent().tools()[name]
        jsonschema.Draft202012Validator(tool["inputSchema"]).validate(arguments)
        result = site.agent().call(name, **arguments)
        assert result["isError"] is False, result
        jsonschema.Draft202012Validator(tool["outputSchema"], format_checker=jsonschema.FormatChecker()).validate(
            result["structuredContent"]
        )
        assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
        assert ("outcome" in result["structuredContent"]) is not tool["annotations"]["readOnlyHint"]

    def test_values_that_javascript_would_change_come_as_strings(self, site: Site) -> None:
        result = site.agent().call("exact")["structuredContent"]
        jsonschema.Draft202012Validator(site.agent().tools()["exact"]["outputSchema"]).validate(result)
        assert result["row"] == {
            "big": "9007199254740993",
            "small": "0.1000000000000000000000000001",
            "odd": "NaN",
            "square": [[1, 2], [3, 4]],
            "never": "infinity",
        }

    def test_arguments_that_do_not_fit_are_told_all_at_once_and_nothing_was_run(self, site: Site) -> None:
        problem = problem_of(site.agent().call("create_order", customer_id="x", notes="y"))
        assert (problem["status"], problem["code"]) == (422, "invalid_arguments")
        assert [fault["parameter"] for fault in problem["errors"]] == ["customer_id", "notes"]

    def test_a_failure_of_the_query_is_a_result_that_the_model_gets_to_see(self, site: Site) -> None:
        problem = problem_of(site.agent().call("cancel_order", order_id=1))
        assert (problem["code"], problem["outcome"]) == ("raised", "rolled_back")
        answer = site.agent().send("tools/call", name="cancel_order", arguments={"order_id": 1})
        assert (answer.status_code, answer.headers["Gateway-Endpoint"]) == (200, "primary")

    def test_a_result_that_is_too_long_for_a_model_is_a_failure(self, site: Site) -> None:
        assert len(value_of(site.agent().call("long", size=10_000))) == 10_000
        assert problem_of(site.agent().call("long", size=30_000))["code"] == "result_too_large"

    def test_a_write_whose_result_is_too_long_says_that_it_committed(self, site: Site) -> None:
        text = uuid4().hex * 10
        problem = problem_of(site.agent().call("note", text=text, idempotency_key=text[:64]))
        assert (problem["code"], problem["outcome"]) == ("result_too_large", "committed")
        assert value_of(site.agent().call("notes", text=text)) == "1"

    def test_an_agent_reads_page_by_page(self, site: Site) -> None:
        tool = site.agent().tools()["orders_between"]
        assert {"cursor", "size", "sort"} <= tool["inputSchema"]["properties"].keys()
        asked = ARGUMENTS["orders_between"] | {"size": 2, "sort": "newest"}
        first = site.agent().call("orders_between", **asked)["structuredContent"]
        second = site.agent().call("orders_between", cursor=first["next"], **asked)["structuredContent"]
        placed = [row["placed_at"] for page in (first, second) for row in page["rows"]]
        assert placed == sorted(placed, reverse=True)
        assert len({row["id"] for page in (first, second) for row in page["rows"]}) == 4

    def test_an_answer_that_is_kept_is_no_page_for_a_cache_of_http(self, site: Site) -> None:
        answers = [site.agent().send("tools/call", name="reports_daily_totals") for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        for answer in answers:
            assert answer.headers["Cache-Control"] == "no-store"
            assert "ETag" not in answer.headers

    def test_the_deadline_of_the_query_holds(self, site: Site) -> None:
        assert problem_of(site.agent().call("hurried"))["code"] == "deadline_exceeded"
        headers = {"Prefer": "wait=0.1"}
        assert problem_of(site.agent().call("slow", headers, seconds=60, mark="x"))["code"] == "deadline_exceeded"

    def test_limits_hold_over_both_ways_to_call(self, site: Site) -> None:
        answers = [site.agent().send("tools/call", name="seldom"), site.node.run("seldom", site.agent().headers)]
        assert (answers[0].json()["result"]["isError"], answers[1].status_code) == (False, 429)
        assert "RateLimit" in answers[0].headers
        refused = site.agent().send("tools/call", name="seldom")
        assert problem_of(refused.json()["result"])["code"] == "rate_limited"
        assert int(refused.headers["Retry-After"]) > 0


class TestCallers:
    def test_a_tool_that_a_caller_may_not_run_is_as_one_that_is_not_there(self, site: Site) -> None:
        called = {"name": "orders_of_customer", "arguments": {"customer_id": 7}}
        assert site.agent().result("tools/call", **called)["isError"] is False
        assert site.agent("clerk").refusal("tools/call", **called) == (400, -32602)
        assert site.agent("clerk").refusal("tools/call", name="no_such_tool") == (400, -32602)
        told = [
            site.agent("clerk").send("tools/call", name=name, arguments={}).json()["error"]["message"]
            for name in ("orders_of_customer", "no_such_tool")
        ]
        assert told[0].replace("orders_of_customer", "no_such_tool") == told[1]

    def test_a_query_without_tool_is_none(self, site: Site) -> None:
        assert site.agent().refusal("tools/call", name="hidden") == (400, -32602)

    def test_nobody_sets_what_is_bound_to_the_caller(self, site: Site) -> None:
        assert value_of(site.agent().call("bound")) == 7
        problem = problem_of(site.agent().call("bound", tenant=8))
        assert problem["errors"] == [{"parameter": "tenant", "message": "is set by the gateway"}]
        assert problem_of(site.agent("clerk").call("bound"))["code"] == "forbidden"

    def test_strangers_are_told_to_authenticate(self, site: Site) -> None:
        answer = site.agent("nobody").send("tools/list")
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert site.node.client.get("/.well-known/oauth-protected-resource").status_code == 404


class TestWrites:
    def test_a_repeated_call_changes_nothing_and_gets_the_first_answer(self, site: Site) -> None:
        text, key = uuid4().hex, uuid4().hex
        first = site.agent().send("tools/call", name="note", arguments={"text": text, "idempotency_key": key})
        again = site.agent().send("tools/call", name="note", arguments={"idempotency_key": key, "text": text})
        assert first.json() == again.json()
        assert first.json()["result"]["structuredContent"]["outcome"] == "committed"
        assert again.headers["Idempotency-Replayed"] == "true"
        assert value_of(site.agent().call("notes", text=text)) == "1"

    def test_a_call_whose_answer_was_lost_can_be_made_again(self, site: Site) -> None:
        text, key = uuid4().hex, uuid4().hex
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "note", "arguments": {"text": text, "idempotency_key": key}},
        }
        with site.node.connect() as connection:
            connection.sendall(raw(site, message))
        result = site.agent().call("note", text=text, idempotency_key=key)
        assert result["structuredContent"] == {"value": text * 100, "outcome": "committed"}
        assert value_of(site.agent().call("notes", text=text)) == "1"

    def test_a_key_is_for_one_call_alone(self, site: Site) -> None:
        key = uuid4().hex
        site.agent().call("note", text="a", idempotency_key=key)
        assert problem_of(site.agent().call("note", text="b", idempotency_key=key))["code"] == "idempotency_mismatch"

    def test_a_key_in_the_header_is_as_good_and_null_is_none(self, site: Site) -> None:
        text, headers = uuid4().hex, {"Idempotency-Key": uuid4().hex}
        for _ in range(2):
            site.agent().call("note", headers, text=text)
        assert value_of(site.agent().call("notes", text=text)) == "1"
        for _ in range(2):
            site.agent().call("note", text=text, idempotency_key=None)
        assert value_of(site.agent().call("notes", text=text)) == "3"

    @pytest.mark.parametrize("key", ["", 7, "é", "x" * 256])
    def test_a_key_that_is_none_is_a_fault_of_the_arguments(self, site: Site, key: Any) -> None:
        problem = problem_of(site.agent().call("note", text="a", idempotency_key=key))
        assert [fault["parameter"] for fault in problem["errors"]] == ["idempotency_key"]

    def test_who_reads_with_the_token_of_a_write_sees_it(self, site: Site) -> None:
        text = uuid4().hex
        written = site.agent().send("tools/call", name="create_order", arguments={"customer_id": 7, "note": text})
        headers = {"Gateway-Consistency-Token": written.headers["Gateway-Consistency-Token"]}
        rows = site.agent().call("orders_of_customer", headers, customer_id=7)["structuredContent"]["rows"]
        assert written.json()["result"]["structuredContent"]["row"]["id"] in [row["id"] for row in rows]


class TestTransport:
    def test_a_page_of_another_site_is_refused(self, site: Site) -> None:
        refused = site.agent().send("tools/call", {"Origin": "https://evil.example"}, name="hurried")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert site.agent().send("tools/list", {"Origin": site.node.url}).status_code == 200

    def test_a_body_that_is_too_long_or_no_json_is_not_read(self, site: Site) -> None:
        assert site.agent().send("tools/call", name="long", arguments={"size": "1" * 70_000}).status_code == 413
        plain = {"Content-Type": "text/plain"}
        assert site.agent().send("tools/list", plain).status_code == 415
        assert site.agent().send("tools/list", {"Accept": "text/event-stream"}).status_code == 406

    def test_there_is_no_stream_to_listen_to_and_no_session_to_end(self, site: Site) -> None:
        for method in ("GET", "DELETE"):
            answer = site.node.client.request(method, "/mcp", headers=site.agent().headers)
            assert answer.status_code == 405
            assert "POST" in answer.headers["Allow"]

    def test_older_clients_find_errors_in_the_message_and_newer_ones_in_the_status_too(self, site: Site) -> None:
        assert site.agent().refusal("resources/list") == (404, -32601)
        assert site.agent(modern=False).refusal("resources/list") == (200, -32601)
        assert site.agent().refusal("initialize") == (404, -32601)
        assert site.agent(modern=False).refusal("server/discover") == (200, -32601)
        assert site.agent().refusal("tools/list", cursor="x") == (400, -32602)
        assert site.agent(modern=False).refusal("tools/call", name="no_such_tool") == (200, -32602)
        assert site.agent().refusal("tools/call", name="bound", arguments=[]) == (400, -32602)

    def test_notifications_are_taken_note_of(self, site: Site) -> None:
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        answer = site.node.client.post("/mcp", json=note, headers=site.agent().headers)
        assert (answer.status_code, answer.content) == (202, b"")

    def test_an_agent_that_hangs_up_ends_what_it_asked_for(self, site: Site, cluster: Cluster) -> None:
        mark = uuid4().hex
        call = {"name": "slow", "arguments": {"seconds": 50, "mark": mark}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}

        def running() -> int:
            return sum(running_marked(server, mark) for server in cluster.servers)

        with site.node.connect() as connection:
            connection.sendall(raw(site, message))
            wait_until(running, "the query runs")
        wait_until(lambda: not running(), "the query was ended", timeout=10)

    def test_what_agents_call_is_counted_as_the_query(self, site: Site) -> None:
        site.agent().call("thumbnail", product_id=2)
        site.agent().call("thumbnail", product_id="x")
        site.agent().call("old")

        def counted(line: str) -> bool:
            return line in site.node.operator.get("/metrics").text

        wait_until(lambda: counted('gateway_requests_total{query="thumbnail",status="200"}'), "its answers are counted")
        wait_until(
            lambda: counted('gateway_requests_total{query="thumbnail",status="422"}'), "its failures are counted"
        )
        wait_until(lambda: counted('gateway_deprecated_total{caller="sales",query="old"}'), "who called it is told")


def raw(site: Site, message: dict[str, Any]) -> bytes:
    """A request as it goes over the wire."""
    body = json.dumps(message).encode()
    lines = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in site.agent().headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_python_sdk_lists_reads_writes_repeats_and_is_refused(site: Site, mode: str) -> None:
    key = uuid4().hex

    async def use(client: Client) -> None:
        spoken = client.session.protocol_version
        assert spoken == ("2026-07-28" if mode == "auto" else "2025-11-25")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["note"].annotations is not None
        assert tools["note"].annotations.read_only_hint is False
        # The SDK holds every result against the tool's schema.
        found = await client.call_tool("find_customers", {"name": "ada", "max_rows": 2})
        assert found.structured_content["row_count"] == 2
        arguments = {"customer_id": 7, "note": "from an agent", "idempotency_key": key}
        first = await client.call_tool("create_order", arguments)
        again = await client.call_tool("create_order", arguments)
        assert first.structured_content == again.structured_content
        assert first.structured_content["outcome"] == "committed"
        wrong = await client.call_tool("create_order", {"customer_id": "x"})
        assert wrong.is_error
        with pytest.raises(MCPError, match="there is no tool 'orders_of_customer'"):
            await client.call_tool("orders_of_customer", {"customer_id": 7})

    with_sdk(site.url, site.keys["clerk"], use, mode=mode)


@pytest.mark.parametrize("worker", ["gthread", "sync"])
def test_it_runs_on_other_workers_and_at_other_paths_too(cluster: Cluster, tmp_path: Path, worker: str) -> None:
    settings: dict[str, dict[str, Any]] = {"mcp": {"enabled": True, "path": "/agents"}, "server": {"worker": worker}}
    with (
        serving(cluster, tmp_path, settings, paths=[shop.QUERIES]) as node,
        httpx.Client(base_url=node.url, trust_env=False) as client,
    ):
        agent = Agent(client, path="/agents")
        assert agent.tools().keys() >= {"create_order", "find_customers"}
        arguments = {"customer_id": 7, "idempotency_key": uuid4().hex}
        assert agent.call("create_order", **arguments) == agent.call("create_order", **arguments)
        # Where nobody is asked who they are, a page may come by a name of its own.
        assert agent.send("tools/list", {"Host": "evil.example"}).status_code == 403
        assert agent.send("tools/list", {"Host": "localhost"}).status_code == 200
