"""What clients see of arrays, transactions, tracked writes, idempotency keys and outcomes.

Every answer is held against openapi.yaml as well (`gateways.Gateway`).
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import psycopg2
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.marks import Mark
from tests.live.cutting import Cut, Wire, wire_to
from tests.live.gateways import Gateway, environment, problem, serving, wait_until, with_tables

GROUPS: dict[str, dict[str, Any]] = {"groups.read": {"size": 6}, "groups.write": {"access": "write", "size": 12}}


@pytest.fixture(scope="module")
def tables(cluster: Cluster) -> Iterator[Cluster]:
    with with_tables(cluster):
        yield cluster


@pytest.fixture(scope="module")
def wire(tables: Cluster) -> Iterator[Wire]:
    with wire_to(tables.primary) as wire:
        yield wire


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def node(
    tables: Cluster, wire: Wire, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Over a wire to the primary that can be cut."""
    folder = tmp_path_factory.mktemp(request.param)
    endpoints = {server.name: shop.dsn(server) for server in tables.replicas}
    endpoints["primary"] = wire.dsn(shop.DATABASE, shop.ROLE)
    server = {"workers": 1, "worker": request.param, "threads": 20, "max_batch": 150, "max_result_bytes": "100kB"}
    with serving(tables, folder, {"server": server, **GROUPS}, endpoints=endpoints) as running:
        yield running


def unique() -> str:
    return uuid4().hex


def post(node: Gateway, path: str, body: Any, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return node.client.post(path, content=json.dumps(body).encode(), headers=names)


def many(node: Gateway, query: str, *arguments: Any, **headers: str) -> httpx.Response:
    return post(node, f"/query/{query}", list(arguments), **headers)


def together(node: Gateway, *steps: tuple[str, dict[str, Any]], **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    asked = [{"query": query, "arguments": arguments} for query, arguments in steps]
    return post(node, "/transaction", {"steps": asked, **more}, **headers)


def ref(pointer: str) -> dict[str, str]:
    return {"$ref": pointer}


def count(node: Gateway, word: str) -> int:
    """How often the word was entered, by the primary's own account."""
    ((step),) = together(node, ("count_entries", {"word": word})).json()["results"]
    found: int = step["value"]
    return found


class TestArrays:
    def test_each_object_is_one_call_and_all_are_one_transaction(self, node: Gateway) -> None:
        words = [unique() for _ in range(120)]
        answer = many(node, "enter", *({"word": word, "amount": 1} for word in words))
        body = answer.json()
        assert [result["row"]["word"] for result in body["results"]] == words
        assert body["outcome"] == "committed"
        assert answer.headers["Gateway-Endpoint"] == "primary"

    @pytest.mark.parametrize(
        "query", ["enter_silently", "enter_by_hand", "enter_and_note", "enter_by_rule", "raise_amount_once"]
    )
    def test_counts(self, query: str, node: Gateway) -> None:
        extra = {"by": 1} if query == "raise_amount_once" else {}
        results = many(node, query, {"word": unique(), **extra}, {"word": unique(), **extra}).json()["results"]
        assert results == ([{"row": None}] * 2 if extra else [{"affected": 1}] * 2)

    def test_a_procedure_for_each(self, node: Gateway) -> None:
        results = many(node, "enter_by_call", {"word": unique()}, {"word": unique()}).json()["results"]
        assert results[1]["row"]["id"] == results[0]["row"]["id"] + 1

    def test_a_read_runs_on_a_replica_and_has_no_outcome(self, node: Gateway) -> None:
        answer = many(node, "series", {"n": 1}, {"n": 0})
        assert answer.content == (
            b'{"results":[{"rows":[{"i":1,"square":1}],"row_count":1},{"rows":[],"row_count":0}]}'
        )
        assert answer.headers["Gateway-Endpoint"].startswith("replica")

    def test_big_numbers_as_strings(self, node: Gateway) -> None:
        (result,) = many(node, "big_numbers", {}, Prefer="bigint=string").json()["results"]
        assert result["row"]["big"] == "9007199254740993"

    @pytest.mark.parametrize("query", ["enter", "series"])
    def test_nothing_is_nothing(self, query: str, node: Gateway) -> None:
        answer = many(node, query)
        assert (answer.status_code, answer.content) == (200, b'{"results":[]}')

    def test_all_faults_of_all_objects_are_told_before_anything_runs(self, node: Gateway) -> None:
        word = unique()
        answer = many(node, "enter", {"word": word}, {"amount": "x"}, 7, {"word": word, "nothing": 1}, {"word": word})
        told = problem(answer, 422, "invalid_arguments")
        assert [(fault["step"], fault["parameter"]) for fault in told["errors"]] == [
            (1, "word"),
            (1, "amount"),
            (2, None),
            (3, "nothing"),
        ]
        assert (told["step"], told["outcome"]) == (1, None)
        assert count(node, word) == 0

    def test_very_many_faults_are_cut_short(self, node: Gateway) -> None:
        told = problem(many(node, "enter", *([{"x": 1}] * 150)), 422, "invalid_arguments")
        assert len(told["errors"]) == 201
        assert told["errors"][-1]["message"] == "100 more faults are not told"

    def test_the_failing_object_is_named_and_nothing_happens(self, node: Gateway) -> None:
        word = unique()
        told = problem(many(node, "enter", {"word": word}, {"word": "bad"}, {"word": "bad"}), 422, "invalid_arguments")
        assert (told["step"], told["outcome"], told["errors"][0]["constraint"]) == (1, "rolled_back", "word_is_good")
        assert count(node, word) == 0

    def test_too_many_objects_are_refused(self, node: Gateway) -> None:
        told = problem(many(node, "enter", *([{"word": "x"}] * 151)), 400, "invalid_request")
        assert "150" in told["detail"]

    def test_too_many_rows_of_one_name_it_and_roll_back(self, node: Gateway) -> None:
        word = unique()
        told = problem(many(node, "enter_each", {"words": [word]}, {"words": [word] * 3}), 507, "result_too_large")
        assert (told["step"], told["outcome"]) == (1, "rolled_back")
        assert count(node, word) == 0

    def test_too_many_bytes_are_refused(self, node: Gateway) -> None:
        problem(many(node, "filler", *([{"size": 60_000}] * 2)), 507, "result_too_large")

    def test_a_list_that_is_no_json_is_refused(self, node: Gateway) -> None:
        problem(node.client.post("/query/enter", content=b'[{"word": "x"}'), 400, "invalid_json")
        problem(node.client.post("/query/enter", content=b"[" * 70 + b"]" * 70), 400, "invalid_json")


class TestTransactions:
    def test_results_feed_later_steps_exactly(self, node: Gateway) -> None:
        word, amount = unique(), "0.1000000000000000000000000001"
        body = json.dumps(
            {
                "steps": [
                    {"query": "enter", "arguments": {"word": word, "amount": "@", "data": {"a": [1, {"b": 2}]}}},
                    {
                        "query": "enter",
                        "arguments": {
                            "word": ref("/0/row/word"),
                            "amount": ref("/0/row/amount"),
                            "parent": ref("/0/row/id"),
                            "data": ref("/0/row/data/a/1"),
                        },
                    },
                    {"query": "entries", "arguments": {"word": word}},
                    {"query": "entry", "arguments": {"id": ref("/2/rows/1/id")}},
                    {"query": "count_entries", "arguments": {"word": ref("/3/row/word")}},
                ]
            }
        ).replace('"@"', amount)
        answer = node.client.post("/transaction", content=body.encode())
        assert answer.status_code == 200, answer.text
        assert answer.text.count(f'"amount":{amount}') == 3
        results = answer.json()["results"]
        assert results[3]["row"]["data"] == {"b": 2}
        assert results[4] == {"value": 2}
        assert answer.json()["outcome"] == "committed"

    def test_a_literal_is_what_it_says(self, node: Gateway) -> None:
        value = {"$ref": "/0/row/id"}
        answer = together(node, ("enter", {"word": unique(), "data": {"$literal": value}}))
        assert answer.json()["results"][0]["row"]["data"] == value

    def test_a_failing_step_is_named_and_rolls_everything_back(self, node: Gateway) -> None:
        word = unique()
        answer = together(node, ("enter", {"word": word}), ("enter_silently", {"word": "bad"}), ("series", {}))
        told = problem(answer, 422, "invalid_arguments")
        assert (told["step"], told["outcome"], told["sqlstate"]) == (1, "rolled_back", "23514")
        assert count(node, word) == 0

    def test_all_faults_of_all_steps_are_told_before_anything_runs(self, node: Gateway) -> None:
        word = unique()
        answer = together(
            node,
            ("enter", {"word": word}),
            ("entry", {"id": ref("/0/row/nothing")}),
            ("enter", {"words": 1}),
            ("entry", {"id": ref("/4/row/id")}),
        )
        told = problem(answer, 422, "invalid_arguments")
        assert [(fault["step"], fault["parameter"]) for fault in told["errors"]] == [
            (1, "id"),
            (2, "word"),
            (2, "words"),
            (3, "id"),
        ]
        assert count(node, word) == 0

    def test_a_reference_to_what_is_not_there_rolls_back(self, node: Gateway) -> None:
        word = unique()
        answer = together(
            node, ("enter", {"word": word}), ("entry", {"id": -1}), ("enter", {"word": ref("/1/row/word")})
        )
        told = problem(answer, 422, "invalid_arguments")
        assert (told["step"], told["outcome"]) == (2, "rolled_back")
        assert told["errors"] == [
            {"parameter": "word", "message": "refers to /1/row/word, where there is nothing", "step": 2}
        ]
        assert count(node, word) == 0

    def test_a_result_with_too_many_rows_is_its_own_steps_fault(self, node: Gateway) -> None:
        word = unique()
        answer = together(node, ("enter_each", {"words": [word] * 3}), ("enter", {"word": ref("/0/rows/2/word")}))
        told = problem(answer, 507, "result_too_large")
        assert (told["step"], told["outcome"]) == (0, "rolled_back")
        assert count(node, word) == 0

    def test_results_of_an_attempt_that_failed_are_not_referred_to(self, node: Gateway) -> None:
        """A transaction that is repeated by the gateway has new results."""
        word = unique()
        node.run("enter", word=word, amount=0)

        def rise(_: int) -> httpx.Response:
            rising = ("raise_amount", {"word": word, "by": 1})
            noting = ("enter", {"word": word + "-note", "amount": ref("/0/row/amount")})
            return together(node, rising, noting, isolation="serializable")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(rise, range(16)))
        for answer in answers:
            assert answer.status_code in (200, 409), answer.text
            if answer.status_code == 200:
                risen, noted = answer.json()["results"]
                assert noted["row"]["amount"] == risen["row"]["amount"]

    def test_a_reference_to_a_value_that_does_not_fit_rolls_back(self, node: Gateway) -> None:
        answer = together(node, ("enter", {"word": unique()}), ("entry", {"id": ref("/0/row/word")}))
        told = problem(answer, 422, "invalid_arguments")
        assert (told["step"], told["errors"][0]["parameter"]) == (1, "id")

    @pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
    def test_the_isolation_is_the_one_asked_for(self, isolation: str, node: Gateway) -> None:
        answer = together(node, ("isolation_level", {}), ("enter", {"word": unique()}), isolation=isolation)
        assert answer.json()["results"][0] == {"value": isolation}

    @pytest.mark.parametrize(
        ("more", "endpoint"),
        [
            ({"read_only": True}, "replica"),
            ({"read_only": True, "isolation": "repeatable read"}, "replica"),
            ({"read_only": True, "isolation": "serializable"}, "primary"),
            ({}, "primary"),
        ],
    )
    def test_where_reads_run(self, more: dict[str, Any], endpoint: str, node: Gateway) -> None:
        answer = together(node, ("series", {"n": 1}), ("where_am_i", {}), **more)
        assert answer.headers["Gateway-Endpoint"].startswith(endpoint)
        assert answer.json()["results"][1]["row"]["read_only"] == "on"
        assert "outcome" not in answer.json()

    def test_a_read_stays_one_among_writes(self, node: Gateway) -> None:
        word = unique()
        answer = together(node, ("enter", {"word": word}), ("sneak", {"word": word}))
        told = problem(answer, 500, "query_broken")
        assert (told["step"], told["sqlstate"], told["outcome"]) == (1, "25006", "rolled_back")
        assert count(node, word) == 0

    @pytest.mark.parametrize(
        ("body", "status", "code", "step"),
        [
            ([], 400, "invalid_json", None),
            ({}, 400, "invalid_request", None),
            ({"steps": {}}, 400, "invalid_request", None),
            ({"steps": [], "stepz": []}, 400, "invalid_request", None),
            ({"steps": [1]}, 400, "invalid_request", 0),
            ({"steps": [{"arguments": {}}]}, 400, "invalid_request", 0),
            ({"steps": [{"query": 7}]}, 400, "invalid_request", 0),
            ({"steps": [{"query": "series", "arguments": []}]}, 400, "invalid_request", 0),
            ({"steps": [{"query": "series", "more": 1}]}, 400, "invalid_request", 0),
            ({"steps": [{"query": "series"}, {"query": "nothing_of_the_kind"}]}, 404, "unknown_query", 1),
            ({"steps": [], "isolation": "snapshot"}, 400, "invalid_request", None),
            ({"steps": [], "isolation": 1}, 400, "invalid_request", None),
            ({"steps": [], "read_only": "yes"}, 400, "invalid_request", None),
            ({"steps": [{"query": "next_number"}], "read_only": True}, 400, "invalid_request", 0),
            ({"steps": [{"query": "series"}] * 151}, 400, "invalid_request", None),
        ],
    )
    def test_what_is_no_transaction_is_refused(
        self, body: Any, status: int, code: str, step: int | None, node: Gateway
    ) -> None:
        assert problem(post(node, "/transaction", body), status, code)["step"] == step

    def test_no_steps_are_nothing(self, node: Gateway) -> None:
        assert post(node, "/transaction", {"steps": []}).content == b'{"results":[]}'

    def test_the_deadline_is_that_of_the_longest_step(self, node: Gateway) -> None:
        answer = together(node, ("short_nap", {"seconds": 0.25}), ("nap", {"seconds": 0.4}))
        assert answer.status_code == 200
        problem(together(node, ("short_nap", {"seconds": 5})), 504, "deadline_exceeded")
        slow = ("enter_slowly", {"word": unique(), "seconds": 5})
        told = problem(together(node, slow, headers={"Prefer": "wait=0.4"}), 504, "deadline_exceeded")
        assert (told["outcome"], told["step"]) == ("rolled_back", 0)

    @pytest.mark.parametrize(("query", "lost"), [("raise_amount", False), ("raise_amount_once", True)])
    def test_serialization_failures_are_repeated_where_the_query_says_so(
        self, query: str, lost: bool, node: Gateway
    ) -> None:
        word = unique()
        node.run("enter", word=word, amount=0)

        def rise(_: int) -> httpx.Response:
            return together(node, (query, {"word": word, "by": 1}), isolation="serializable")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(rise, range(24)))
        done = [answer for answer in answers if answer.status_code == 200]
        for answer in answers:
            if answer.status_code != 200:
                assert problem(answer, 409, "serialization_failure")["outcome"] == "rolled_back"
        (entries,) = together(node, ("entries", {"word": word})).json()["results"]
        row = node.client.post("/query/entry", json={"id": entries["rows"][0]["id"]}).json()["row"]
        wait_until(
            lambda: node.client.post("/query/entry", json={"id": row["id"]}).json()["row"]["amount"] == len(done),
            "the replica has it",
        )
        assert (len(done) < 24) is lost


class TestTokens:
    @pytest.mark.parametrize("kind", ["tracked", "keyed", "list", "transaction"])
    def test_every_write_gives_one_and_reads_together_heed_it(self, kind: str, node: Gateway) -> None:
        for _ in range(5):
            word = unique()
            match kind:
                case "tracked":
                    written = node.run("enter_tracked", word=word)
                case "keyed":
                    written = node.run("enter", {"Idempotency-Key": word}, word=word)
                case "list":
                    written = many(node, "enter", {"word": word})
                case _:
                    written = together(node, ("enter", {"word": word}))
            token = {"Gateway-Consistency-Token": written.headers["Gateway-Consistency-Token"]}
            listed = post(node, "/query/count_entries", [{"word": word}], **token)
            assert listed.json() == {"results": [{"value": 1}]}
            for isolation in ("read committed", "repeatable read"):
                read = together(
                    node, ("count_entries", {"word": word}), read_only=True, isolation=isolation, headers=token
                )
                assert read.json() == {"results": [{"value": 1}]}

    def test_a_token_that_no_gateway_gave_is_refused(self, node: Gateway) -> None:
        token = {"Gateway-Consistency-Token": "x"}
        problem(post(node, "/query/series", [{"n": 1}], **token), 400, "invalid_request")
        problem(together(node, ("series", {"n": 1}), headers=token), 400, "invalid_request")

    def test_a_preference_that_was_kept_is_told(self, node: Gateway) -> None:
        assert many(node, "series", {"n": 1}, Prefer="wait=2").headers["Preference-Applied"] == "wait=2"
        read = together(node, ("series", {"n": 1}), headers={"Prefer": "wait=2"})
        assert read.headers["Preference-Applied"] == "wait=2"


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
