"""Requests in flight, of all workers: what operators see of them, and how they end them."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import QUERIES, Gateway, problem, serving, wait_until, with_tables
from tests.live.observing import logged, metric

SETTINGS: dict[str, dict[str, Any]] = {
    "server": {"workers": 2, "timeout": "60s"},
    "groups.read": {"size": 4},
    "groups.write": {"size": 2},
    "log": {"format": "json"},
}
STREAMS = """
-- name: numbers(n)
-- @param n int4
SELECT i, repeat('x', 100) AS filler FROM (SELECT generate_series(1, :n::int) AS i) AS s;

-- name: late_numbers(seconds)
-- @param seconds float8
SELECT i, pg_sleep(CASE WHEN i = 5000 THEN :seconds::float8 ELSE 0 END)::text AS slept
  FROM (SELECT generate_series(1, 10000) AS i) AS s;
"""
NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def gateway(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("in-flight")
    (more := folder / "streams").mkdir()
    (more / "streams.sql").write_text(STREAMS)
    with (
        with_tables(cluster),
        serving(cluster, folder, SETTINGS, paths=(QUERIES, more), variables={"GATEWAY_LOG__FORMAT": "json"}) as running,
    ):
        yield running


def in_flight(gateway: Gateway) -> list[dict[str, Any]]:
    answer = gateway.operator.get("/admin/requests")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json()["requests"]
    return found


class Background:
    """Calls that are under way."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._executor = ThreadPoolExecutor(8)

    def run(self, request_id: str, query: str, **arguments: Any) -> "Future[httpx.Response]":
        def call() -> httpx.Response:
            with self._gateway.new_client() as client:
                return client.post(f"/query/{query}", json=arguments, headers={"X-Request-Id": request_id})

        return self._executor.submit(call)

    def close(self) -> None:
        self._executor.shutdown()


@pytest.fixture
def background(gateway: Gateway) -> Iterator[Background]:
    made = Background(gateway)
    yield made
    made.close()


def wait_for(gateway: Gateway, request_id: str, state: str) -> dict[str, Any]:
    def found() -> list[dict[str, Any]]:
        return [each for each in in_flight(gateway) if each["id"] == request_id and each["state"] == state]

    wait_until(found, f"{request_id} is {state}")
    return found()[0]


def test_requests_in_flight_are_listed_and_a_read_is_ended_at_once(gateway: Gateway, background: Background) -> None:
    napping = [background.run(f"nap-{number}", "nap", seconds=30) for number in range(6)]
    running = wait_for(gateway, "nap-0", "running")
    assert (running["query"], running["caller"]) == ("nap", "")
    assert running["endpoint"] in gateway.health()["endpoints"]

    def all_are_seen() -> bool:
        early = [nap.result().text for nap in napping if nap.done()]
        assert not early, early
        return len(in_flight(gateway)) == 6

    wait_until(all_are_seen, "all are seen")
    assert {each["state"] for each in in_flight(gateway)} == {"running", "waiting"}
    for number in range(6):
        answer = gateway.operator.delete(f"/admin/requests/nap-{number}")
        assert (answer.status_code, answer.content) == (204, b"")
    for nap in napping:
        assert problem(nap.result(10), 503, "cancelled")["detail"] == "an operator ended the request"
    assert in_flight(gateway) == []
    wait_until(lambda: metric(gateway, "gateway_cancelled_total", reason="operator") >= 6, "counted")
    logged(gateway, "request_ended", ended="nap-5")
    problem(gateway.operator.delete("/admin/requests/nap-0"), 404, "not_found")


def test_a_write_that_is_ended_says_what_became_of_it(gateway: Gateway, background: Background) -> None:
    for number, query in enumerate(("enter_slowly", "enter_tracked")):
        writing = background.run(f"write-{number}", query, word=f"ended-{number}", seconds=30)
        assert wait_for(gateway, f"write-{number}", "running")["endpoint"] == "primary"
        assert gateway.operator.delete(f"/admin/requests/write-{number}").status_code == 204
        assert problem(writing.result(10), 503, "cancelled")["outcome"] == "rolled_back"
        assert gateway.value("count_entries", word=f"ended-{number}") == 0
    wait_until(lambda: metric(gateway, "gateway_outcomes_total", outcome="rolled_back") >= 2, "counted")


def test_what_comes_over_the_connection_of_a_write_that_was_ended_is_run(gateway: Gateway) -> None:
    with gateway.new_client() as client, ThreadPoolExecutor(1) as threads:
        writing = threads.submit(
            client.post,
            "/query/enter_slowly",
            json={"word": "ended-first", "seconds": 30},
            headers={"X-Request-Id": "first"},
        )
        wait_for(gateway, "first", "running")
        assert gateway.operator.delete("/admin/requests/first").status_code == 204
        assert problem(writing.result(10), 503, "cancelled")["outcome"] == "rolled_back"
        for _ in range(3):
            assert client.post("/query/enter_silently", json={"word": "over-the-same"}).status_code == 200
    assert gateway.value("count_entries", word="over-the-same") == 3


def test_a_write_that_waits_is_not_executed(gateway: Gateway, background: Background) -> None:
    holding = [background.run(f"hold-{number}", "enter_slowly", word="held", seconds=30) for number in range(4)]
    # One runs in each worker that was given any of them, and the kernel may have given all of them to one.
    wait_until(lambda: {each["state"] for each in in_flight(gateway)} == {"running", "waiting"}, "some wait")
    wait_until(lambda: len(in_flight(gateway)) == len(holding), "all are there")
    for waiting in [each for each in in_flight(gateway) if each["state"] == "waiting"]:
        assert gateway.operator.delete(f"/admin/requests/{waiting['id']}").status_code == 204
        assert problem(holding[int(waiting["id"][-1])].result(10), 503, "cancelled")["outcome"] == "not_executed"
    for running in in_flight(gateway):
        assert gateway.operator.delete(f"/admin/requests/{running['id']}").status_code == 204, running
    assert {each.result(10).status_code for each in holding} == {503}


class Streaming:
    """A stream that is read as far as a test wants."""

    def __init__(self, gateway: Gateway, request_id: str, query: str, **arguments: Any) -> None:
        self._client = httpx.Client(base_url=gateway.url, timeout=60, trust_env=False)
        headers = NDJSON | {"X-Request-Id": request_id}
        self._streaming = self._client.stream("POST", f"/query/{query}", json=arguments, headers=headers)

    def __enter__(self) -> Iterator[str]:
        answer = self._streaming.__enter__()
        assert answer.status_code == 200
        return answer.iter_lines()

    def __exit__(self, *_: object) -> None:
        self._client.close()


def test_a_stream_is_in_flight_until_it_is_sent_and_ends_with_the_problem(gateway: Gateway) -> None:
    with Streaming(gateway, "late", "late_numbers", seconds=60) as lines:
        seen = wait_for(gateway, "late", "running")
        assert (seen["query"], seen["endpoint"] in {"replica1", "replica2"}) == ("late_numbers", True)
        before = metric(gateway, "gateway_cancelled_total", reason="operator")
        assert gateway.operator.delete("/admin/requests/late").status_code == 204
        *_, last = whole_lines(lines)
        assert json.loads(last)["error"]["code"] == "cancelled"
    wait_until(lambda: in_flight(gateway) == [], "it has left")
    wait_until(lambda: metric(gateway, "gateway_cancelled_total", reason="operator") > before, "counted")
    before = metric(gateway, "gateway_cancelled_total", reason="client")
    with Streaming(gateway, "left", "late_numbers", seconds=60):
        wait_for(gateway, "left", "running")
    wait_until(lambda: in_flight(gateway) == [], "it has left")
    wait_until(lambda: metric(gateway, "gateway_cancelled_total", reason="client") > before, "counted")
    with Streaming(gateway, "short", "numbers", n=1000) as lines:
        assert len(list(lines)) == 1000
    wait_until(lambda: in_flight(gateway) == [], "it has left")


def whole_lines(lines: Iterator[str]) -> list[str]:
    """All there are of an answer that breaks off."""
    found: list[str] = []
    with pytest.raises(httpx.RemoteProtocolError):
        found.extend(lines)
    return found


def test_a_stream_whose_client_does_not_read_is_ended_too(gateway: Gateway) -> None:
    with Streaming(gateway, "unread", "numbers", n=10_000_000) as lines:
        assert wait_for(gateway, "unread", "running")["query"] == "numbers"
        before = metric(gateway, "gateway_cancelled_total", reason="operator")
        assert gateway.operator.delete("/admin/requests/unread").status_code == 204
        wait_until(lambda: in_flight(gateway) == [], "it has left, though nobody has read it")
        wait_until(lambda: gateway.health()["groups"]["read"]["leased"] == 0, "its connection is free")
        wait_until(lambda: metric(gateway, "gateway_cancelled_total", reason="operator") > before, "it is counted")
        assert len(whole_lines(lines)) < 1_000_000


def test_a_body_of_records_is_ended_while_more_are_waited_for(gateway: Gateway) -> None:
    begun, go_on = Event(), Event()

    def records() -> Iterator[bytes]:
        yield b'{"word": "of-a-body"}\n' * 600
        begun.set()
        go_on.wait(60)
        yield b'{"word": "of-a-body"}\n'

    def send() -> httpx.Response:
        headers = {"Content-Type": "application/x-ndjson", "X-Request-Id": "body"}
        with gateway.new_client() as client:
            return client.post("/query/enter_silently", content=records(), headers=headers)

    with ThreadPoolExecutor(1) as threads:
        sending = threads.submit(send)
        try:
            assert begun.wait(60)
            assert wait_for(gateway, "body", "running")["endpoint"] == "primary"
            assert gateway.operator.delete("/admin/requests/body").status_code == 204
            wait_until(lambda: in_flight(gateway) == [], "it has left")
        finally:
            go_on.set()
        assert problem(sending.result(10), 503, "cancelled")["outcome"] == "rolled_back"
    assert gateway.value("count_entries", word="of-a-body") == 0
