"""Any worker answers for the node: what it says, how soon after a change, and what a dead or stopped worker leaves."""

import operator
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import (
    QUERIES,
    Gateway,
    problem,
    running_marked,
    serving,
    serving_queries,
    wait_until,
    with_tables,
    worker_of,
)

WORKERS = ["gateway", "gthread", "sync"]
ALIKE = 0.25
"""Seconds after a change within which all workers say the same."""
LATE = 0.5
"""Seconds that a busy machine may add."""


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Iterator[Cluster]:
    with with_tables(cluster):
        yield cluster


@pytest.fixture(scope="module", params=WORKERS)
def node(request: pytest.FixtureRequest, whole: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"server": {"worker": request.param, "workers": 2}}
    with serving(whole, tmp_path_factory.mktemp("node"), settings, paths=[QUERIES]) as running:
        yield running


def ask_every_worker(node: Gateway, path: str = "/health") -> dict[str, httpx.Response]:
    """An answer of each worker."""
    answers: dict[str, httpx.Response] = {}

    def heard() -> bool:
        with node.new_client() as client:
            answer = client.get(path)
        answers[worker_of(answer)] = answer
        return len(answers) == node.size

    wait_until(heard, "every worker has answered")
    return answers


def lasting(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what is different a moment later."""
    for endpoint in body["endpoints"].values():
        endpoint["ping"] = endpoint["ping"]["ok"]
        endpoint["lag_ms"] = endpoint["lag_bytes"] = None
    for worker in body["workers"]:
        del worker["age_s"], worker["checked_ms_ago"], worker["in_flight"]
    del body["checked_ms_ago"], body["catalogue"]["looked_ms_ago"]
    return body


def test_every_worker_tells_the_same_of_the_whole_node(node: Gateway) -> None:
    for query in ("series", "next_number"):
        assert node.run(query).status_code == 200
    time.sleep(ALIKE + LATE)

    def asked() -> list[dict[str, Any]]:
        return [lasting(answer.json()) for answer in ask_every_worker(node).values()]

    # Not while a connection is leased for a look at the catalogue, which takes milliseconds.
    wait_until(lambda: operator.eq(*asked()), "both tell the same")
    one = asked()[0]
    assert sorted(worker["pid"] for worker in one["workers"]) == sorted(node.workers())
    assert {name: group["size"] for name, group in one["groups"].items()} == {"read": 16, "write": 8}
    for group in one["groups"].values():
        assert group["leased"] + group["idle"] + group["empty"] == group["size"]
    assert (one["status"], one["groups"]["read"]["rotation"]) == ("ok", ["replica1", "replica2"])


def nap(node: Gateway, threads: ThreadPoolExecutor, seconds: float, mark: str) -> "Future[httpx.Response]":
    """A read of so many seconds, begun."""

    def run() -> httpx.Response:
        with node.new_client() as client:
            return client.post("/query/marked_nap", json={"seconds": seconds, "mark": mark})

    return threads.submit(run)


@contextmanager
def lines(node: Gateway) -> Iterator[list[httpx.Client]]:
    """A client with an open connection to each worker."""
    with ExitStack() as stack:
        found: dict[str, httpx.Client] = {}

        def connected() -> bool:
            client = stack.enter_context(node.new_client())
            found.setdefault(worker_of(client.get("/health/live")), client)
            return len(found) == node.size

        wait_until(connected, "a connection to every worker")
        yield list(found.values())


def test_every_worker_tells_what_happened_and_how_the_endpoints_were(node: Gateway) -> None:
    for asked, said, serves in (("drain", "drained", False), ("resume", "no longer drained", True)):
        assert node.operator.post(f"/admin/endpoints/replica2/{asked}?wait=10s").status_code == 200

        def is_told(said: str = said, serves: bool = serves) -> bool:
            answers = [answer.json() for answer in ask_every_worker(node, "/status.json").values()]
            return all(
                any(event["text"].startswith(f"endpoint replica2: {said}") for event in answer["events"])
                and serves in {sample[3] for sample in answer["samples"]["replica2"]}
                for answer in answers
            )

        wait_until(
            is_told, f"every worker tells that the endpoint is {said}, and of a second in which it did not serve"
        )
    whole = [answer.json()["samples"] for answer in ask_every_worker(node, "/status.json").values()]
    seconds = [{sample[0] for sample in samples["primary"]} for samples in whole]
    assert len(set.intersection(*seconds)) >= 1
    assert all(len(each) <= 300 for each in seconds)


def test_what_one_worker_does_is_in_the_others_answer_at_once(whole: Cluster, tmp_path: Path) -> None:
    with (
        serving(whole, tmp_path, {"server": {"workers": 2}}, paths=[QUERIES]) as node,
        ThreadPoolExecutor() as threads,
        lines(node) as clients,
    ):

        def all_tell(leased: int) -> bool:
            return all(client.get("/health").json()["groups"]["read"]["leased"] == leased for client in clients)

        for _ in range(3):
            begun = nap(node, threads, 1.5, "alike")
            wait_until(lambda: any(running_marked(replica, "alike") for replica in whole.replicas), "it runs")
            assert wait_until(lambda: all_tell(1), "it is told") < ALIKE + LATE
            assert begun.result().status_code == 200
            assert wait_until(lambda: all_tell(0), "its end is told") < ALIKE + LATE


def test_a_killed_worker_is_gone_from_every_answer_within_a_second(node: Gateway) -> None:
    def told() -> set[int]:
        try:
            with node.new_client() as client:
                return {worker["pid"] for worker in client.get("/health").json()["workers"]}
        except httpx.TransportError:  # it was the dead one's to answer
            return {victim}

    victim = node.workers()[0]
    os.kill(victim, signal.SIGKILL)
    assert wait_until(lambda: victim not in told(), "it is gone") < 1 + LATE
    wait_until(lambda: len(told()) == 2, "another has taken its place")
    node.client.close()
    node.client = node.new_client()
    node.wait_until_ready()
    wait_until(lambda: not list(node.runtime.glob(f"worker-{victim}-*")), "what it left is gone")

    def events() -> str:
        return str(node.client.get("/status.json").json()["events"])

    wait_until(lambda: f"(pid:{victim}) was sent SIGKILL" in events(), "those who look on are told that it was killed")


def test_a_stopped_worker_stays_with_the_time_when_it_was_last_heard_of(whole: Cluster, tmp_path: Path) -> None:
    with (
        serving(whole, tmp_path, {"server": {"workers": 2}}, paths=[QUERIES]) as node,
        node.new_client() as client,
    ):
        asked = worker_of(client.get("/health/live"))
        os.kill(node.workers()[0], signal.SIGSTOP)
        try:
            if _is_silent(client):
                os.kill(node.workers()[0], signal.SIGCONT)
                os.kill(node.workers()[1], signal.SIGSTOP)
            wait_until(lambda: _longest_unheard(client) > 1000, "it says nothing")
            assert len(client.get("/health").json()["workers"]) == 2
            assert worker_of(client.get("/health/live")) == asked
        finally:
            for pid in node.workers():
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: _longest_unheard(client) < 1000, "it is heard of again")


def _leased(node: Gateway) -> int:
    return sum(int(group["leased"]) for group in node.health()["groups"].values())


def _is_silent(client: httpx.Client) -> bool:
    try:
        client.get("/health/live", timeout=1)
    except httpx.TimeoutException:
        return True
    return False


def _longest_unheard(client: httpx.Client) -> int:
    return max(int(worker["checked_ms_ago"]) for worker in client.get("/health").json()["workers"])


def test_readiness_can_ask_for_so_many_endpoints_and_so_little_lag(node: Gateway) -> None:
    for query in ("?group=read&min=2", "?group=read&max_lag=10s&min=2", "?group=write&max_lag=1ms", "?query=series"):
        assert {answer.status_code for answer in ask_every_worker(node, f"/health/ready{query}").values()} == {200}
    answer = node.client.get("/health/ready", params={"group": "read", "min": 3})
    assert (answer.status_code, answer.json()["reasons"]) == (
        503,
        ["group read: 2 of at least 3 endpoints may answer"],
    )
    head = node.client.head("/health/ready", params={"min": 3})
    assert (head.status_code, head.content) == (503, b"")


class TestDraining:
    def test_it_answers_when_the_last_request_is_home_and_no_worker_gives_new_ones(self, node: Gateway) -> None:
        with ThreadPoolExecutor() as threads:
            naps = [nap(node, threads, 1.0, "drain") for _ in range(2)]
            busy = {"primary": 0, "replica1": 0, "replica2": 0}
            wait_until(lambda: node.health()["groups"]["read"]["leased"] >= 1, "one is at work")
            answer = node.operator.post("/admin/endpoints/replica1/drain?wait=10s")
            assert answer.json() == {"endpoint": "replica1", "state": "drained", "leased": 0}
            try:
                for worker, told in ask_every_worker(node).items():
                    endpoint = told.json()["endpoints"]["replica1"]
                    assert (endpoint["in_rotation"], endpoint["reason"]) == (False, "drained"), worker
                    assert (told.json()["status"], told.json()["groups"]["read"]["rotation"]) == (
                        "degraded",
                        ["replica2"],
                    )
                for _ in range(20):
                    with node.new_client() as client:
                        busy[client.post("/query/series").headers["Gateway-Endpoint"]] += 1
                assert busy == {"primary": 0, "replica1": 0, "replica2": 20}
            finally:
                resumed = node.operator.post("/admin/endpoints/replica1/resume?wait=10s")
            assert resumed.json() == {"endpoint": "replica1", "state": "in_rotation", "leased": 0}
            assert {each.result().status_code for each in naps} == {200}
        served = set()
        while "replica1" not in served:
            served.add(node.run("series").headers["Gateway-Endpoint"])

    def test_work_that_takes_longer_is_told_and_it_stays_drained(self, whole: Cluster, tmp_path: Path) -> None:
        settings: dict[str, dict[str, Any]] = {
            "server": {"workers": 2},
            "groups.read": {"endpoints": ["replica1"], "fallback": "none"},
            "groups.write": {},
        }
        with serving(whole, tmp_path, settings, paths=[QUERIES]) as node, ThreadPoolExecutor() as threads:
            begun = nap(node, threads, 4.0, "long")
            # What /health counts may also be a connection that is being opened.
            wait_until(lambda: running_marked(whole.replicas[0], "long"), "it is at work")
            for client in (node.new_operator(), node.new_operator(), node.new_operator()):
                with client:
                    late = client.post("/admin/endpoints/replica1/drain?wait=200ms")
                body = problem(late, 504, "deadline_exceeded")
                assert body["detail"] == "replica1 gets no new work, but after 0.2 s 1 request is at work on it"
            problem(node.run("series"), 503, "no_endpoint")
            assert node.operator.post("/admin/endpoints/replica1/drain").status_code == 200
            assert begun.result().status_code == 200
            assert node.operator.post("/admin/endpoints/replica1/resume?wait=10s").status_code == 200
            assert node.run("series").status_code == 200

    def test_a_stopped_worker_may_be_at_work_for_all_one_knows(self, whole: Cluster, tmp_path: Path) -> None:
        with (
            serving(whole, tmp_path, {"server": {"workers": 2}}, paths=[QUERIES]) as node,
            node.new_operator() as client,
        ):
            assert client.get("/health/live").status_code == 200
            # Stopped while it learns the queries, it would be at work for good.
            wait_until(lambda: _leased(node) == 0, "nobody is at work")
            stopped = node.workers()[0]
            os.kill(stopped, signal.SIGSTOP)
            try:
                if _is_silent(client):
                    os.kill(stopped, signal.SIGCONT)
                    stopped = node.workers()[1]
                    os.kill(stopped, signal.SIGSTOP)
                late = client.post("/admin/endpoints/replica2/drain?wait=500ms")
                # It may have opened a connection when it was stopped, which then is at work for all one knows, too.
                detail = problem(late, 504, "deadline_exceeded")["detail"]
                assert detail.startswith("replica2 gets no new work, but after 0.5 s ")
                assert detail.endswith(f"worker {stopped} has not been heard of since")
            finally:
                os.kill(stopped, signal.SIGCONT)
            drained = client.post("/admin/endpoints/replica2/drain?wait=10s")
            assert drained.json()["state"] == "drained"

    def test_nobody_may_ask_over_the_listener_for_clients(self, node: Gateway) -> None:
        for path in ("/admin/endpoints/replica1/drain", "//admin/endpoints/replica1/drain", "/admin"):
            for method in ("POST", "GET", "DELETE"):
                answer = node.client.request(method, path)
                assert answer.status_code == 404
        assert node.health()["endpoints"]["replica1"]["reason"] is None

    def test_operators_ask_for_health_too_but_not_for_queries(self, node: Gateway) -> None:
        assert node.operator.get("/health").json()["status"] == "ok"
        assert node.operator.get("/health/ready").status_code == 200
        problem(node.operator.post("/query/series"), 404, "not_found")

    def test_what_is_not_there_or_not_a_duration_is_refused(self, node: Gateway) -> None:
        problem(node.operator.post("/admin/endpoints/replica9/drain"), 404, "not_found")
        problem(node.operator.post("/admin/endpoints/replica1/drain?wait=5"), 400, "invalid_request")
        problem(node.operator.post("/admin/endpoints/replica1/drain?wait=2h"), 400, "invalid_request")
        problem(node.operator.post("/admin/endpoints/replica1/resume?soon=1"), 400, "invalid_request")
        problem(node.operator.get("/admin/endpoints/replica1/drain"), 405, "method_not_allowed")


@pytest.mark.parametrize("worker", WORKERS)
def test_a_deployment_can_have_the_database_looked_at_now(worker: str, cluster: Cluster, tmp_path: Path) -> None:
    def change(sql: str) -> None:
        cluster.primary.sql(f"SET client_min_messages = warning; {sql}", shop.DATABASE)
        cluster.wait_until_caught_up()

    change(f"DROP TABLE IF EXISTS changing; CREATE TABLE changing (id int); GRANT SELECT ON changing TO {shop.ROLE}")
    text = "-- name: changing(id)\nSELECT id FROM changing WHERE id = :id;\n-- name: other$\nSELECT 1;\n"
    settings = {"server": {"worker": worker, "workers": 2}}
    try:
        with serving_queries(text, cluster, tmp_path, settings) as node:
            before = node.client.get("/queries/changing").json()
            assert (before["parameters"][0]["type"], before["fault"]) == ("integer", None)
            change("ALTER TABLE changing ALTER id TYPE bigint")
            answer = node.operator.post("/admin/learn?wait=10s")
            assert (answer.status_code, answer.json()) == (200, {"queries": 2, "faulty": []})
            for told in ask_every_worker(node, "/queries/changing").values():
                assert told.json()["parameters"][0]["type"] == "bigint"
                assert told.json()["learnt"] >= before["learnt"]
            assert node.run("changing", id=2**40).json() == {"rows": [], "row_count": 0}
            change("DROP TABLE changing")
            assert node.operator.post("/admin/learn?wait=10s").json() == {"queries": 2, "faulty": ["changing"]}
            assert node.client.get("/health/ready").status_code == 200
            assert node.client.get("/health/ready?query=other").status_code == 200
            for narrowed in ("query=changing", "all=true"):
                assert node.client.get(f"/health/ready?{narrowed}").status_code == 503
    finally:
        change("DROP TABLE IF EXISTS changing")
