"""What operators see of a node with two workers, and do to its requests."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, serving, wait_until, with_tables
from tests.live.observing import events, logged, metric, metrics

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"workers": 2, "timeout": "60s"},
    "groups.read": {"size": 4},
    "groups.write": {"size": 2},
    "log": {"format": "json", "slow": "250ms", "audit": "writes", "access": "all"},
}


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("operations")
    cluster.primary.sql(f"ALTER DATABASE {shop.DATABASE} SET compute_query_id = on")
    # The tests' own environment asks for text.
    with with_tables(cluster), serving(cluster, folder, SETTINGS, variables={"GATEWAY_LOG__FORMAT": "json"}) as running:
        yield running
    cluster.primary.sql(f"ALTER DATABASE {shop.DATABASE} RESET compute_query_id")


def test_calls_are_counted_by_query_and_status_whichever_worker_had_them(gateway: Gateway) -> None:
    before = metrics(gateway)
    for _ in range(20):
        with gateway.new_client() as client:
            assert client.post("/query/echo_text", json={"x": "a"}).status_code == 200
    gateway.run("echo_text", nothing=1)
    gateway.run("who_made_this_up")
    gateway.client.post("/transaction", json={"steps": [{"query": "echo_text", "arguments": {"x": "b"}}]})

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return metrics(gateway).get(key, 0.0) - before.get(key, 0.0)

    wait_until(lambda: grown("gateway_requests_total", query="echo_text", status="200") == 20, "all are counted")
    wait_until(lambda: grown("gateway_requests_total", query="echo_text", status="422") == 1, "all are counted")
    assert grown("gateway_requests_total", query="unknown", status="404") == 1
    assert grown("gateway_requests_total", query="transaction", status="200") == 1
    assert grown("gateway_request_seconds_count", query="echo_text") == 21
    assert grown("gateway_errors_total", code="unknown_query") == 1
    assert grown("gateway_queue_seconds_count", group="read") >= 20
    assert metric(gateway, "gateway_workers") == 2
    assert metric(gateway, "gateway_endpoint_in_rotation", endpoint="primary") == 1
    assert metric(gateway, "gateway_connects_total", endpoint="primary", result="ok") >= 1
    assert all("who_made_this_up" not in str(labels) for _, labels in metrics(gateway))


def test_a_killed_worker_and_a_reload_take_no_count_back(gateway: Gateway) -> None:
    for _ in range(10):
        with gateway.new_client() as client:
            client.post("/query/echo_text", json={"x": "a"})
    wait_until(lambda: metric(gateway, "gateway_requests_total", query="echo_text", status="200") >= 10, "counted")
    seen = metric(gateway, "gateway_requests_total", query="echo_text", status="200")
    before = gateway.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(gateway.workers()) - set(before)) == 2, "others have taken their places")
    gateway.wait_until_ready()
    assert metric(gateway, "gateway_requests_total", query="echo_text", status="200") >= seen
    before = gateway.workers()
    gateway.program.send_signal(signal.SIGHUP)
    wait_until(lambda: set(gateway.workers()).isdisjoint(before) and len(gateway.workers()) == 2, "reloaded")
    gateway.wait_until_ready()
    assert metric(gateway, "gateway_requests_total", query="echo_text", status="200") >= seen
    workers = {dict(labels)["worker"] for name, labels in metrics(gateway) if name == "gateway_worker_memory_bytes"}
    assert len(workers) == 2
    assert workers <= {"0", "1", "2", "3"}


def test_slow_calls_are_logged_with_names_and_never_with_values(gateway: Gateway) -> None:
    gateway.run("marked_nap", {"X-Request-Id": "slow-1"}, mark="canary-value", seconds=0.3)
    line = logged(gateway, "request_slow", request_id="slow-1")
    assert (line["query"], line["status"], line["attempts"]) == ("marked_nap", 200, 1)
    assert line["endpoint"] in {"replica1", "replica2"}
    assert 300 <= line["db_ms"] <= line["ms"]
    assert line["arguments"] == ["mark", "seconds"]
    assert "canary-value" not in gateway.log


def test_every_call_has_its_line_where_that_is_asked_for(gateway: Gateway) -> None:
    gateway.run("echo_text", {"X-Request-Id": "access-1"}, x="canary-value")
    gateway.run("echo_text", {"X-Request-Id": "access-2"}, canary=1)
    assert logged(gateway, "request_served", request_id="access-1")["status"] == 200
    failed = logged(gateway, "request_served", request_id="access-2")
    assert (failed["status"], failed["code"], failed["level"]) == (422, "invalid_arguments", "info")
    assert "canary" not in gateway.log


def test_writes_are_audited(gateway: Gateway) -> None:
    gateway.run("enter_each", {"X-Request-Id": "audit-1"}, words=["canary", "canary"])
    line = logged(gateway, "write_audited", request_id="audit-1")
    assert (line["query"], line["affected"], line["outcome"]) == ("enter_each", 2, "committed")
    assert (line["endpoint"], line["arguments"], line["replayed"]) == ("primary", ["words"], False)
    steps = [
        {"query": "enter_silently", "arguments": {"word": "canary"}},
        {"query": "count_entries", "arguments": {"word": "canary"}},
    ]
    gateway.client.post("/transaction", json={"steps": steps}, headers={"X-Request-Id": "audit-2"})
    line = logged(gateway, "write_audited", request_id="audit-2")
    assert line["queries"] == ["enter_silently", "count_entries"]
    assert line["affected"] == 1
    gateway.run("enter_by_hand", {"X-Request-Id": "audit-3"}, wrong="canary")
    assert logged(gateway, "write_audited", request_id="audit-3")["code"] == "invalid_arguments"
    gateway.run("count_entries", {"X-Request-Id": "audit-4"}, word="x")
    logged(gateway, "request_served", request_id="audit-4")
    assert not events(gateway, "write_audited", request_id="audit-4")
    assert "canary" not in gateway.log


def test_the_level_of_the_log_is_changed_on_all_workers_and_on_those_to_come(gateway: Gateway) -> None:
    assert gateway.operator.post("/admin/log", json={"level": "debug"}).json() == {"level": "debug"}
    for pid in gateway.workers():
        logged(gateway, "log_level_changed", pid=pid, to="debug")
    (killed, _) = gateway.workers()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(gateway.workers()) == 2 and killed not in gateway.workers(), "another one is there")
    gateway.wait_until_ready()
    for pid in gateway.workers():
        logged(gateway, "log_level_changed", pid=pid, to="debug")
    assert gateway.operator.post("/admin/log", json={"level": "info"}).status_code == 200
    wrongs: list[Any] = [{"level": "loud"}, {}, {"level": "info", "more": 1}, []]
    for wrong in wrongs:
        problem(gateway.operator.post("/admin/log", json=wrong), 400, "invalid_request")


@pytest.mark.parametrize("form", [{"json": {"word": "x"}}, {"data": {"word": "x"}}])
def test_a_call_is_explained_without_running_it(gateway: Gateway, form: Any) -> None:
    answer = gateway.operator.post("/admin/explain/enter_silently", **form)
    assert answer.status_code == 200
    assert (answer.json()["query"], answer.json()["endpoint"]) == ("enter_silently", "primary")
    assert answer.json()["plan"][0]["Plan"]["Operation"] == "Insert"
    assert gateway.value("count_entries", word="x") == 0


def test_what_a_call_did_that_was_run_to_be_explained_is_rolled_back(gateway: Gateway) -> None:
    answer = gateway.operator.post("/admin/explain/enter_silently?analyze=true", json={"word": "analysed"})
    assert answer.json()["plan"][0]["Execution Time"] > 0
    assert gateway.value("count_entries", word="analysed") == 0
    nap = gateway.operator.post("/admin/explain/short_nap?analyze=true", json={"seconds": 5})
    assert nap.status_code in (503, 504)


def test_what_cannot_be_explained_is_refused(gateway: Gateway) -> None:
    problem(gateway.operator.post("/admin/explain/no_such_query", json={}), 404, "unknown_query")
    problem(gateway.operator.post("/admin/explain/echo_text", json={"wrong": 1}), 422, "invalid_arguments")
    problem(gateway.operator.post("/admin/explain/echo_text?analyse=true", json={"x": "a"}), 400, "invalid_request")
    problem(gateway.operator.post("/admin/explain/enter_by_call", json={"word": "a"}), 400, "invalid_request")
    problem(gateway.client.post("/admin/explain/echo_text", json={"x": "a"}), 404, "not_found")


def test_metrics_are_there_for_operators_too(gateway: Gateway) -> None:
    assert "gateway_requests_total" in gateway.operator.get("/metrics").text


def test_a_statement_that_runs_says_whose_it_is_and_of_which_trace(gateway: Gateway, cluster: Cluster) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = "SELECT application_name, query FROM pg_stat_activity WHERE query LIKE '%traced-nap%' AND query LIKE '/*%'"

    def call() -> None:
        with gateway.new_client() as client:
            arguments = {"mark": "traced-nap", "seconds": 30}
            headers = {"traceparent": trace, "X-Request-Id": "traced"}
            client.post("/query/marked_nap", json=arguments, headers=headers)

    thread = threading.Thread(target=call)
    thread.start()
    found: list[str] = []

    def is_seen() -> bool:
        found.extend(each.sql(seen) for each in cluster.replicas)
        return any(found)

    wait_until(is_seen, "it runs")
    gateway.operator.delete("/admin/requests/traced")
    thread.join()
    (told,) = {line for line in found if line}
    name, _, statement = told.partition("|")
    assert re.fullmatch(r"pg-query-gateway \S+/\d+", name)
    assert statement.startswith(f"/*action='marked_nap',traceparent='{trace}'*/ EXECUTE gw_")
    assert logged(gateway, "request_served", request_id="traced")["trace_id"] == trace.split("-")[1]


def test_queries_have_the_ids_by_which_the_server_counts_them(gateway: Gateway) -> None:
    described = gateway.client.get("/queries").json()["queries"]
    ids = {query["name"]: query["query_id"] for query in described if query["learnt"]}
    assert re.fullmatch(r"-?\d{5,20}", ids["echo_text"])
    assert ids["echo_text"] != ids["echo_int4"]
    assert ids["enter_by_call"] is None
    gateway.run("marked_nap", {"X-Request-Id": "slow-2"}, mark="x", seconds=0.3)
    assert logged(gateway, "request_slow", request_id="slow-2")["query_id"] == ids["marked_nap"]


def test_a_slow_call_is_followed_from_the_log_to_the_servers_statistics(tmp_path: Path) -> None:
    loaded = {"shared_preload_libraries": "pg_stat_statements"}
    with Cluster(replicas=0, settings=loaded) as cluster:
        shop.load(cluster)
        cluster.primary.sql("CREATE EXTENSION pg_stat_statements", shop.DATABASE)
        settings = {"log": {"slow": "200ms"}}
        variables = {"GATEWAY_LOG__FORMAT": "json"}
        with with_tables(cluster), serving(cluster, tmp_path, settings, variables=variables) as running:
            for number in range(3):
                running.run("marked_nap", {"X-Request-Id": f"slow-{number}"}, mark="x", seconds=0.3)
            line = logged(running, "request_slow", request_id="slow-2")
            found = f"FROM pg_stat_statements WHERE queryid = {line['query_id']}"
            counted = cluster.primary.sql(f"SELECT sum(calls), bool_and(mean_exec_time > 100) {found}", shop.DATABASE)
            texts = cluster.primary.sql(f"SELECT query {found}", shop.DATABASE)
    calls, _, is_slow = counted.partition("|")
    assert (int(calls) >= 3, is_slow.strip()) == (True, "t")
    assert "/*action='marked_nap',application='pg-query-gateway'*/" in texts
    assert line["query"] == "marked_nap"
