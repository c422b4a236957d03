"""What clients see of idempotency keys and of outcomes, whatever becomes of the connection."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psycopg2
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.marks import Mark
from tests.live.cutting import Cut, Wire
from tests.live.gateways import Gateway, environment, problem, wait_until
from tests.live.writing import count, many, serving_over, together, unique


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def node(
    tables: Cluster, wire: Wire, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Over a wire to the primary that can be cut."""
    with serving_over(wire, tables, tmp_path_factory.mktemp(request.param), request.param) as running:
        yield running


class TestKeys:
    @pytest.mark.parametrize("kind", ["one", "tracked", "list", "transaction"])
    def test_a_repeat_gets_the_first_answer(self, kind: str, node: Gateway) -> None:
        word, key = unique(), unique()

        def ask(word: str) -> httpx.Response:
            match kind:
                case "one":
                    return node.run("enter", {"Idempotency-Key": key}, word=word)
                case "tracked":
                    return node.run("enter_tracked", {"Idempotency-Key": key}, word=word)
                case "list":
                    return many(node, "enter", {"word": word}, {"word": word}, Idempotency_Key=key)
            return together(node, ("enter", {"word": word}), headers={"Idempotency-Key": key})

        first, second = ask(word), ask(word)
        assert (first.status_code, second.status_code) == (200, 200)
        assert second.content == first.content
        assert "Idempotency-Replayed" not in first.headers
        assert second.headers["Idempotency-Replayed"] == "true"
        assert count(node, word) == (2 if kind == "list" else 1)
        told = problem(ask("other"), 422, "idempotency_mismatch")
        assert told["outcome"] == "not_executed"

    def test_the_same_body_for_another_query_is_another_request(self, node: Gateway) -> None:
        word, key = unique(), {"Idempotency-Key": unique()}
        assert node.run("enter", key, word=word).status_code == 200
        problem(node.run("enter_silently", key, word=word), 422, "idempotency_mismatch")

    def test_concurrent_repeats_get_one_answer(self, node: Gateway) -> None:
        word, key = unique(), {"Idempotency-Key": unique()}
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: node.run("enter", key, word=word), range(10)))
        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 9
        assert count(node, word) == 1

    def test_repeats_of_a_slow_write_leave_connections_to_others(self, tables: Cluster, node: Gateway) -> None:
        """There are more of them than the group has connections."""
        word, key = unique(), {"Idempotency-Key": unique()}
        running = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%{word}%' AND wait_event = 'PgSleep'"
        with ThreadPoolExecutor(15) as pool:
            slow = [pool.submit(node.run, "enter_slowly", key, word=word, seconds=3)]
            wait_until(lambda: tables.primary.sql(running).strip() == "1", "it runs")
            slow += [pool.submit(node.run, "enter_slowly", key, word=word, seconds=3) for _ in range(14)]
            asked = [node.run("enter", word=unique()) for _ in range(10)]
            assert not slow[0].done()
            answers = [answer.result() for answer in slow]
        assert {answer.status_code for answer in asked} == {200}
        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 14
        assert count(node, word) == 1

    def test_an_error_leaves_the_key_free(self, node: Gateway) -> None:
        word, key = unique(), {"Idempotency-Key": unique()}
        problem(node.run("enter", key, word="bad"), 422, "invalid_arguments")
        assert node.run("enter", key, word=word).status_code == 200

    @pytest.mark.parametrize("query", ["series", "echo_int4"])
    def test_a_read_does_not_care_for_a_key(self, query: str, node: Gateway) -> None:
        key = {"Idempotency-Key": unique()}
        arguments = {"series": {"n": 1}, "echo_int4": {"x": 1}}[query]
        for _ in range(2):
            assert "Idempotency-Replayed" not in node.run(query, key, **arguments).headers
            assert many(node, query, arguments, Idempotency_Key=key["Idempotency-Key"]).status_code == 200
            read_only = together(node, (query, arguments), read_only=True, headers=key)
            assert "Idempotency-Replayed" not in read_only.headers

    @pytest.mark.parametrize("key", ["", "x" * 256, "é".encode(), "tab\there"])
    def test_a_key_that_is_none_is_refused(self, key: str | bytes, node: Gateway) -> None:
        raw = key if isinstance(key, bytes) else key.encode()
        headers = [(b"Idempotency-Key", raw)]
        answer = node.client.post("/query/enter_silently", headers=headers, json={"word": "x"})
        assert problem(answer, 400, "invalid_request")

    def test_a_key_may_be_long_and_odd(self, node: Gateway) -> None:
        key = {"Idempotency-Key": "'\\ \"" + unique() + "~" * 219}
        word = unique()
        assert node.run("enter", key, word=word).status_code == 200
        assert node.run("enter", key, word=word).headers["Idempotency-Replayed"] == "true"


class TestOutcomes:
    def test_a_tracked_write_answers_as_any(self, node: Gateway) -> None:
        word = unique()
        assert node.run("enter_tracked", word=word).json() == {"value": word, "outcome": "committed"}

    def test_a_tracked_write_that_fails_has_no_step(self, node: Gateway) -> None:
        told = problem(node.run("enter_tracked", word="bad"), 422, "invalid_arguments")
        assert (told["step"], told["outcome"], told["transaction"]) == (None, "rolled_back", None)

    @pytest.mark.parametrize("kind", ["tracked", "list", "transaction"])
    def test_an_answer_that_was_lost_is_found(self, kind: str, wire: Wire, node: Gateway) -> None:
        word = unique()
        for cut in (Cut.AFTER, Cut.BEFORE):
            wire.cut(cut)
            match kind:
                case "tracked":
                    answer = node.run("enter_tracked", word=word)
                case "list":
                    answer = many(node, "enter", {"word": word})
                case _:
                    answer = together(node, ("enter", {"word": word}))
            if cut is Cut.AFTER:
                assert answer.status_code == 200, answer.text
                assert answer.json()["outcome"] == "committed"
                token = {"Gateway-Consistency-Token": answer.headers["Gateway-Consistency-Token"]}
                assert node.run("count_entries", token, word=word).json() == {"value": 1}
            else:
                told = problem(answer, 503, "connection_lost")
                assert (told["outcome"], told["transaction"]) == ("rolled_back", None)
        assert count(node, word) == 1

    def test_a_commit_that_is_never_answered_is_found_too(self, wire: Wire, node: Gateway) -> None:
        word = unique()
        wire.cut(Cut.DEAF)
        began = monotonic()
        answer = node.run("enter_tracked", {"Prefer": "wait=2.5"}, word=word)
        assert (answer.status_code, answer.json()) == (200, {"value": word, "outcome": "committed"})
        assert monotonic() - began < 2.6
        wire.cut(Cut.NOWHERE)

    def test_a_plain_write_is_not_known_and_has_no_mark(self, tables: Cluster, wire: Wire, node: Gateway) -> None:
        word = unique()
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(node.run, "enter_slowly", word=word, seconds=30)
            busy = f"FROM pg_stat_activity WHERE query LIKE '%{word}%' AND wait_event = 'PgSleep'"
            wait_until(lambda: tables.primary.sql(f"SELECT count(*) {busy}").strip() == "1", "it runs")
            tables.primary.sql(f"SELECT pg_terminate_backend(pid) {busy}")
            told = problem(slow.result(), 503, "connection_lost")
        assert (told["outcome"], told["transaction"]) == ("unknown", None)
        assert wire.port

    @pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
    def test_a_key_makes_a_lost_write_certain(self, cut: Cut, wire: Wire, node: Gateway) -> None:
        word, key = unique(), {"Idempotency-Key": unique()}
        wire.cut(cut)
        answer = node.run("enter", key, word=word)
        assert answer.status_code == 200, answer.text
        assert answer.headers.get("Idempotency-Replayed") == ("true" if cut is Cut.AFTER else None)
        again = node.run("enter", key, word=word)
        assert again.content == answer.content
        assert count(node, word) == 1

    def test_a_key_that_is_held_beyond_the_deadline_is_a_deadline_passed(self, tables: Cluster, node: Gateway) -> None:
        word, key = unique(), unique()
        with _open_transaction(tables) as cursor:
            taken = "INSERT INTO gateway_idempotency (caller, key, request_hash) VALUES ('', %s, 'h')"
            cursor.execute(taken, (key,))
            answer = node.run("enter", {"Idempotency-Key": key, "Prefer": "wait=0.6"}, word=word)
        assert problem(answer, 504, "deadline_exceeded")["outcome"] == "unknown"
        assert node.run("enter", {"Idempotency-Key": key}, word=word).status_code == 200
        assert count(node, word) == 1

    def test_an_attempt_that_never_meets_its_key_says_nothing_of_the_one_before(
        self, tables: Cluster, wire: Wire, node: Gateway
    ) -> None:
        word, key = unique(), {"Idempotency-Key": unique()}
        with _open_transaction(tables) as cursor:
            lock = "LOCK TABLE gateway_idempotency IN ACCESS EXCLUSIVE MODE"
            wire.cut(Cut.AFTER, meanwhile=lambda: cursor.execute(lock))
            answer = node.run("enter", {**key, "Prefer": "wait=1"}, word=word)
        assert answer.json()["outcome"] == "unknown", answer.text
        again = node.run("enter", key, word=word)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert count(node, word) == 1

    def test_what_cannot_be_found_out_in_time_can_be_asked_for_later(self, wire: Wire, node: Gateway) -> None:
        word = unique()
        for cut, outcome in ((Cut.AFTER, "committed"), (Cut.BEFORE, "rolled_back")):
            with _unreachable_after_a(cut, wire):
                answer = node.run("enter_tracked", {"Prefer": "wait=0.5"}, word=word)
            told = problem(answer, answer.status_code, answer.json()["code"])
            assert told["code"] in ("connection_lost", "deadline_exceeded")
            assert told["outcome"] == "unknown"
            mark = told["transaction"]
            assert Mark.read(mark).timeline == 1
            later = node.client.get(f"/outcome/{mark}")
            assert later.json() == {"transaction": mark, "outcome": outcome}
            assert later.headers["Cache-Control"] == "no-store"
        assert count(node, word) == 1

    def test_a_transaction_under_way_is_waited_for(self, tables: Cluster, node: Gateway) -> None:
        facts = "SELECT pg_current_xact_id()::text, (pg_current_wal_insert_lsn() - '0/0')::text"
        system = tables.primary.sql("SELECT system_identifier FROM pg_control_system()").strip()
        life = tables.primary.sql("SELECT (extract(epoch FROM stats_reset) * 1e6)::int8 FROM pg_stat_bgwriter").strip()
        with _open_transaction(tables) as cursor:
            cursor.execute("INSERT INTO suite.entries (word) VALUES ('waiting')")
            cursor.execute(facts)
            xid, position = cursor.fetchall()[0]
            mark = Mark(int(system), 1, int(xid), int(position), int(life), 0).token()
            began = monotonic()
            quick = node.client.get(f"/outcome/{mark}", headers={"Prefer": "wait=0.3"})
            assert quick.json()["outcome"] == "unknown"
            assert monotonic() - began < 3
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(node.client.get, f"/outcome/{mark}")
                threading.Event().wait(0.2)
                cursor.execute("COMMIT")
                assert asked.result().json()["outcome"] == "committed"

    @pytest.mark.parametrize("mark", ["x", "A" * 60, "%00", "é", "-"])
    def test_nonsense_is_no_mark(self, mark: str, node: Gateway) -> None:
        problem(node.client.get(f"/outcome/{mark}"), 400, "invalid_request")

    def test_a_mark_of_another_cluster_is_not_found(self, node: Gateway) -> None:
        mark = Mark(system=1, timeline=1, xid=3, position=1, life=0, taken=0).token()
        problem(node.client.get(f"/outcome/{mark}"), 404, "not_found")


@contextmanager
def _unreachable_after_a(cut: Cut, wire: Wire) -> Iterator[None]:
    """The next COMMIT is cut, and nobody gets through for a while."""
    wire.cut(cut, meanwhile=wire.stop)
    try:
        yield
    finally:
        wire.go_on()


@contextmanager
def _open_transaction(cluster: Cluster) -> Iterator[Any]:
    connection = psycopg2.connect(cluster.primary.dsn(shop.DATABASE))
    try:
        yield connection.cursor()
    finally:
        connection.close()


def test_init_db_creates_the_table_as_the_gateways_role(cluster: Cluster, tmp_path: Path) -> None:
    cluster.primary.sql("CREATE DATABASE fresh OWNER gateway")
    cluster.wait_until_caught_up()
    try:
        endpoints = "".join(
            f'[endpoints.{server.name}]\ndsn = "{server.dsn("fresh", "gateway")}"\n' for server in cluster.servers
        )
        (tmp_path / "gateway.toml").write_text(endpoints)
        command = [sys.executable, "-m", "gateway", "init-db", "-c", str(tmp_path / "gateway.toml")]
        for _ in range(2):
            done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)  # noqa: S603
            assert done.stdout == "primary: gateway_idempotency is there\n"
        assert cluster.primary.sql("SELECT count(*) FROM gateway_idempotency", "fresh", "gateway").strip() == "0"
    finally:
        cluster.primary.sql("DROP DATABASE fresh WITH (FORCE)")
