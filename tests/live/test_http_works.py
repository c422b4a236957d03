"""What clients see of arrays, transactions and tracked writes.

Every answer is held against openapi.yaml as well (`gateways.Gateway`).
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from tests.live.cutting import Wire
from tests.live.gateways import Gateway, problem, wait_until
from tests.live.writing import count, many, post, ref, serving_over, together, unique


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def node(
    tables: Cluster, wire: Wire, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Over a wire to the primary that can be cut."""
    with serving_over(wire, tables, tmp_path_factory.mktemp(request.param), request.param) as running:
        yield running


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
