"""What bad input gets, under every worker class, and what a query that fails says: a problem, and nothing lost."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, read_to_end, serving

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


class TestBodies:
    @pytest.mark.parametrize("body", [b"", b" \r\n", b"{}", b" { } "])
    def test_an_empty_body_has_no_arguments(self, body: bytes, node: Gateway) -> None:
        answer = node.client.post("/query/series", content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["row_count"] == 3

    def test_a_body_may_come_in_chunks(self, node: Gateway) -> None:
        answer = node.client.post("/query/echo_text", content=iter([b'{"x": ', b'"ab', b'c"}']))
        assert answer.request.headers["Transfer-Encoding"] == "chunked"
        assert answer.json() == {"value": "abc"}

    def test_an_empty_chunked_body_has_no_arguments(self, node: Gateway) -> None:
        assert node.client.post("/query/series", content=iter([b""])).json()["row_count"] == 3

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b'{"x": }',
            b"{'x': 1}",
            b'{"x": 1,}',
            b'{"x": NaN}',
            b'{"x": 01}',
            b"{} {}",
            b'"x"',
            b"1",
            b"null",
            b'\xef\xbb\xbf{"x": "a"}',
            b'{"x": "\xff"}',
            b'{"x": "\xed\xa0\x80"}',
            b'{"x": "\\ud800"}',
            b'{"x": "\\udc00\\ud800"}',
            b'{"x": "a\\u0000b"}',
            b'{"x": "a\x00b"}',
            b'{"x\\u0000": 1}',
            b'{"x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
            b'{"x": ' + b"[" * 60_000,
            b'{"x":' * 10_000,
        ],
        ids=lambda body: repr(body[:24]),
    )
    def test_what_is_not_json_or_no_text_is_refused(self, body: bytes, node: Gateway) -> None:
        told = problem(node.client.post("/query/echo_json", content=body), 400, "invalid_json")
        assert told["detail"]

    def test_of_duplicate_keys_the_last_wins(self, node: Gateway) -> None:
        answer = node.client.post("/query/echo_text", content=b'{"x": "first", "x": "last"}')
        assert answer.json() == {"value": "last"}

    def test_json_goes_in_as_its_own_text(self, node: Gateway) -> None:
        text = '{"a": 1.0, "a": 1e2,  "b":"\\u00e9", "c": 12345678901234567890.10}'
        answer = node.client.post("/query/echo_json", content=f'{{"x": {text}}}')
        assert answer.content.decode() == f'{{"value":{text}}}'

    def test_an_announced_body_over_the_limit_is_refused_before_it_is_read(self, node: Gateway) -> None:
        head = b"POST /query/echo_text HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n"
        with node.connect() as connection:
            connection.sendall(head)  # and nothing more
            connection.shutdown(socket.SHUT_WR)
            answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"body_too_large"' in answer

    def test_a_chunked_body_over_the_limit_is_refused_before_its_end(self, node: Gateway) -> None:
        head = b"POST /query/echo_text HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        with node.connect() as connection:
            connection.sendall(head + b"FFFFFFFF\r\n" + b"x" * 100_000)  # and nothing more
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")

    def test_a_body_of_just_the_limit_is_taken(self, node: Gateway) -> None:
        text = "x" * (64 * 1024 - len('{"x": ""}'))
        body = f'{{"x": "{text}"}}'.encode()
        assert node.client.post("/query/echo_text", content=body).json() == {"value": text}
        problem(node.client.post("/query/echo_text", content=body + b" "), 413, "body_too_large")

    def test_after_a_body_that_was_too_large_others_are_served(self, node: Gateway) -> None:
        for _ in range(20):
            problem(node.client.post("/query/echo_text", content=b" " * 100_000), 413, "body_too_large")
        assert node.value("echo_text", x="still here") == "still here"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": "application/json; charset=utf-16"},
            {"Content-Encoding": "gzip"},
        ],
    )
    def test_only_plain_json_is_read(self, headers: dict[str, str], node: Gateway) -> None:
        problem(node.client.post("/query/series", content=b"{}", headers=headers), 415, "unsupported_media_type")

    def test_a_client_that_waits_to_be_told_to_go_on_is_told(self, node: Gateway) -> None:
        head = b"POST /query/series HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        with node.connect() as connection:
            connection.sendall(head)
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"{}")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


class TestNumbers:
    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("echo_numeric", "9007199254740993"),
            ("echo_numeric", "-0.1000000000000000000000000001"),
            ("echo_numeric", "1" * 100 + "." + "2" * 100),
            ("echo_numeric", "1" * 5000),
            ("echo_numeric", "1.10"),
            ("echo_int8", "9223372036854775807"),
            ("echo_int8", "-9223372036854775808"),
            ("echo_float8", "0.1"),
            ("echo_float8", "-0"),
            ("echo_float8", "1e+300"),
        ],
    )
    def test_a_number_comes_back_as_it_was_sent(self, query: str, text: str, node: Gateway) -> None:
        answer = node.client.post(f"/query/{query}", content=f'{{"x": {text}}}')
        assert answer.content.decode() == f'{{"value":{text}}}'

    def test_an_exponent_is_written_out_exactly(self, node: Gateway) -> None:
        answer = node.client.post("/query/echo_numeric", content='{"x": 12345678901234567890.5e-2}')
        assert answer.content == b'{"value":123456789012345678.905}'

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ("echo_int4", "2147483648"),
            ("echo_int4", "1.5"),
            ("echo_int4", "1e2"),
            ("echo_int4", "1" * 5000),
            ("echo_int8", "9223372036854775808"),
            ("echo_int8", "9" * 5000),
            ("echo_numeric", "1e999999999999"),
            ("echo_float8", "1e400"),
            ("echo_int4", '"1"'),
            ("echo_int4", "true"),
            ("echo_ints", "[1, 99999999999]"),
        ],
    )
    def test_a_number_that_cannot_be_kept_exactly_is_refused(self, query: str, text: str, node: Gateway) -> None:
        told = problem(node.client.post(f"/query/{query}", content=f'{{"x": {text}}}'), 422, "invalid_arguments")
        assert [fault["parameter"] for fault in told["errors"]] == ["x"]
        assert "999999" not in json.dumps(told["errors"])

    def test_big_numbers_are_strings_for_who_prefers_that(self, node: Gateway) -> None:
        long = "0.1000000000000000000000000001"
        plain = f'{{"row":{{"big":{2**53 + 1},"long":{long},"small":7,"bigs":[{2**53 + 1}],"nothing":null}}}}'
        assert node.run("big_numbers").text == plain
        assert node.run("big_numbers", {"Prefer": "bigint=string"}).json()["row"] == {
            "big": "9007199254740993",
            "long": "0.1000000000000000000000000001",
            "small": 7,
            "bigs": ["9007199254740993"],
            "nothing": None,
        }
        assert node.run("echo_numeric", {"Prefer": "bigint=string"}, x=1.5).content == b'{"value":"1.5"}'
        assert node.run("big_numbers").text == plain


class TestArguments:
    def test_all_faults_are_told_at_once(self, node: Gateway) -> None:
        told = problem(node.run("several", a=10, b="Longer", c="canary", d=1, e=2), 422, "invalid_arguments")
        assert {fault["parameter"] for fault in told["errors"]} >= {"a", "b", "d", "e"}
        assert (told["outcome"], told["retryable"], told["sqlstate"]) == (None, False, None)

    def test_what_only_the_server_can_judge_names_the_parameter_too(self, node: Gateway) -> None:
        told = problem(node.run("several", a=1, c="canary"), 422, "invalid_arguments")
        assert [fault["parameter"] for fault in told["errors"]] == ["c"]
        assert told["sqlstate"] == "22007"

    @pytest.mark.parametrize(
        ("query", "arguments"),
        [
            ("echo_int4", {"x": "canary"}),
            ("echo_int8", {"x": "canary"}),
            ("echo_float8", {"x": "canary"}),
            ("echo_numeric", {"x": "canary"}),
            ("echo_bool", {"x": "canary"}),
            ("echo_uuid", {"x": "canary"}),
            ("echo_date", {"x": "canary"}),
            ("echo_bytea", {"x": "\\xcanary"}),
            ("echo_range", {"x": "canary"}),
            ("echo_mood", {"x": "canary"}),
            ("echo_texts", {"x": "canary"}),
            ("echo_ints", {"x": [1, "canary"]}),
            ("echo_ints", {"x": {"canary": "canary"}}),
            ("several", {"a": 1, "b": "canary"}),
        ],
    )
    def test_no_fault_repeats_the_value(self, query: str, arguments: dict[str, Any], node: Gateway) -> None:
        problem(node.run(query, **arguments), 422, "invalid_arguments")

    def test_null_is_sql_null_and_a_missing_argument_is_not(self, node: Gateway) -> None:
        assert node.value("echo_text", x=None) is None
        told = problem(node.run("echo_text"), 422, "invalid_arguments")
        assert told["errors"] == [{"parameter": "x", "message": "is required"}]

    @pytest.mark.parametrize(
        "text",
        ["'", "''; DROP TABLE suite.things; --", "\\", "\\'", "$$", "%s", ":x", "\u2028é🐘", "/* */", "\t\n\r\x7f"],
    )
    def test_text_comes_back_as_it_was_sent(self, text: str, node: Gateway) -> None:
        assert node.value("echo_text", x=text) == text
        assert node.value("echo_texts", x=[text, text]) == [text, text]
        assert node.value("echo_jsonb", x={text: [text]}) == {text: [text]}


class TestFailures:
    def test_a_unique_violation_is_a_conflict(self, node: Gateway) -> None:
        name = f"canary-{unique()}"
        node.run("add_thing", name=name)
        told = problem(node.run("add_thing", name=name), 409, "conflict")
        assert (told["sqlstate"], told["outcome"]) == ("23505", "rolled_back")
        assert told["errors"][0]["constraint"] == "things_pkey"

    def test_a_foreign_key_violation_is_a_conflict(self, node: Gateway) -> None:
        told = problem(node.run("add_thing", name=unique(), owner=77), 409, "conflict")
        assert (told["sqlstate"], told["errors"][0]["constraint"]) == ("23503", "things_owner_fkey")

    @pytest.mark.parametrize(
        ("arguments", "sqlstate", "constraint"),
        [({"name": None}, "23502", None), ({"name": "a", "size": 0}, "23514", "size_is_positive")],
    )
    def test_a_value_the_table_does_not_take_is_an_invalid_argument(
        self, arguments: dict[str, Any], sqlstate: str, constraint: str | None, node: Gateway
    ) -> None:
        told = problem(node.run("add_thing", **arguments), 422, "invalid_arguments")
        assert (told["sqlstate"], told["outcome"]) == (sqlstate, "rolled_back")
        assert told["errors"][0].get("constraint") == constraint

    def test_a_division_by_zero_is_an_invalid_argument(self, node: Gateway) -> None:
        told = problem(node.run("divide", a=1, b=0), 422, "invalid_arguments")
        assert (told["sqlstate"], told["outcome"]) == ("22012", None)

    def test_what_the_server_does_not_allow_is_forbidden(self, node: Gateway) -> None:
        assert problem(node.run("forbidden"), 403, "forbidden")["sqlstate"] == "42501"

    @pytest.mark.parametrize("state", ["P0001", "ZZ123", "P0002"])
    def test_what_the_database_raises_on_purpose_has_its_message_as_title(self, state: str, node: Gateway) -> None:
        told = problem(node.run("refuse", message="Not on a Sunday", state=state), 400, "raised")
        assert (told["title"], told["sqlstate"]) == ("Not on a Sunday", state)

    @pytest.mark.parametrize(
        ("state", "status", "code"),
        [
            ("23505", 409, "conflict"),
            ("55P03", 503, "lock_timeout"),
            ("57014", 503, "cancelled"),
            ("53300", 503, "backend_unavailable"),
            ("XX000", 500, "internal_error"),
            ("40001", 503, "backend_unavailable"),
        ],
    )
    def test_other_conditions_keep_the_servers_words_to_themselves(
        self, state: str, status: int, code: str, node: Gateway
    ) -> None:
        problem(node.run("refuse", message="canary-message", state=state), status, code)

    def test_a_query_that_breaks_at_run_is_the_catalogues_fault(self, node: Gateway) -> None:
        told = problem(node.run("broken_at_run"), 500, "query_broken")
        assert (told["sqlstate"], told["retryable"]) == ("42P01", False)
        assert "gone_since" not in json.dumps(told)

    def test_a_query_that_the_server_never_took_is_the_catalogues_fault(self, node: Gateway) -> None:
        problem(node.run("broken_at_start", id=1), 500, "query_broken")

    def test_more_rows_than_the_query_may_give_are_refused(self, node: Gateway) -> None:
        assert node.run("few", n=5).json()["row_count"] == 5
        told = problem(node.run("few", n=6), 507, "result_too_large")
        assert told["outcome"] is None

    def test_a_write_that_gave_too_many_rows_says_that_it_happened(self, node: Gateway) -> None:
        prefix = unique()
        node.run("add_things", names=[f"{prefix}-{number}" for number in range(3)])
        told = problem(node.run("few_renamed", prefix=prefix), 507, "result_too_large")
        assert told["outcome"] == "committed"

    def test_more_bytes_than_the_gateway_hands_on_are_refused(self, node: Gateway) -> None:
        assert len(node.value("filler", size=90_000)) == 90_000
        problem(node.run("filler", size=110_000), 507, "result_too_large")
        problem(node.run("series", n=20_000), 507, "result_too_large")


class TestDeadlines:
    def test_the_callers_wish_cuts_a_read_short(self, node: Gateway) -> None:
        began = time.monotonic()
        told = problem(node.run("nap", {"Prefer": "wait=0.2"}, seconds=5), 504, "deadline_exceeded")
        assert 0.2 <= time.monotonic() - began < 2
        assert (told["retryable"], told["outcome"]) == (True, None)

    def test_the_querys_own_timeout_holds_when_it_is_the_smaller(self, node: Gateway) -> None:
        began = time.monotonic()
        problem(node.run("short_nap", {"Prefer": "wait=4"}, seconds=5), 504, "deadline_exceeded")
        assert 0.3 <= time.monotonic() - began < 2

    def test_a_write_that_meets_its_deadline_says_that_it_was_rolled_back(self, node: Gateway) -> None:
        name = unique()
        node.run("add_thing", name=name)
        told = problem(node.run("slow_rename", {"Prefer": "wait=0.3"}, name=name, seconds=5), 504, "deadline_exceeded")
        assert (told["outcome"], told["sqlstate"]) == ("rolled_back", "57014")

    def test_after_a_deadline_the_next_request_is_served(self, node: Gateway) -> None:
        for _ in range(3):
            node.run("nap", {"Prefer": "wait=0.05"}, seconds=5)
            assert node.value("echo_int4", x=1) == 1
