"""What clients see, under every worker class: answers, headers, connections.

Every answer is held against openapi.yaml as well (`gateways.Gateway`).
"""

import json
import re
import socket
from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import pytest

from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, problem, read_to_end, serving, wait_until

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


class TestKinds:
    def test_many_rows(self, node: Gateway) -> None:
        answer = node.run("series", n=2)
        assert answer.content == b'{"rows":[{"i":1,"square":1},{"i":2,"square":4}],"row_count":2}'
        assert answer.headers["Content-Type"] == "application/json"

    def test_many_without_a_row(self, node: Gateway) -> None:
        assert node.run("series", n=0).content == b'{"rows":[],"row_count":0}'

    def test_one_row(self, node: Gateway) -> None:
        assert node.run("several", a=1).content == b'{"row":{"a":1,"b":"b","c":null}}'

    def test_one_without_a_row(self, node: Gateway) -> None:
        assert node.run("nobody").content == b'{"row":null}'

    def test_a_scalar(self, node: Gateway) -> None:
        assert node.run("echo_int4", x=7).content == b'{"value":7}'

    def test_a_scalar_without_a_row(self, node: Gateway) -> None:
        assert node.run("nothing").content == b'{"value":null}'

    def test_an_exec_of_a_read_counts_its_rows(self, node: Gateway) -> None:
        assert node.run("count_series", n=4).content == b'{"affected":4}'

    def test_a_write_that_returns_its_row(self, node: Gateway) -> None:
        name = unique()
        answer = node.run("add_thing", name=name, size=3)
        assert answer.json() == {"row": {"name": name, "size": 3}, "outcome": "committed"}

    def test_a_write_that_returns_rows(self, node: Gateway) -> None:
        names = [unique(), unique()]
        assert node.run("add_things", names=names).json() == {
            "rows": [{"name": name} for name in names],
            "row_count": 2,
            "outcome": "committed",
        }

    def test_a_write_that_counts(self, node: Gateway) -> None:
        name = unique()
        node.run("add_thing", name=name)
        assert node.run("rename_thing", name=name, new_name=unique()).content == b'{"affected":1,"outcome":"committed"}'
        assert node.run("rename_thing", name=name, new_name=unique()).content == b'{"affected":0,"outcome":"committed"}'

    def test_a_scalar_that_only_looks_like_a_read(self, node: Gateway) -> None:
        first, second = node.value("next_number"), node.value("next_number")
        assert second > first

    def test_a_call(self, node: Gateway) -> None:
        assert node.run("call_double", x=21).content == b'{"row":{"doubled":42},"outcome":"committed"}'

    def test_queries_of_a_folder(self, node: Gateway) -> None:
        answer = node.run("reports.daily_totals")
        assert answer.json()["row_count"] == 7


class TestWhereItRan:
    def test_reads_run_on_a_replica_in_a_read_only_transaction(self, node: Gateway) -> None:
        answer = node.run("where_am_i")
        row = answer.json()["row"]
        assert (row["replica"], row["read_only"]) == (True, "on")
        assert answer.headers["Gateway-Endpoint"] == row["server"]

    def test_writes_run_on_the_primary(self, node: Gateway) -> None:
        answer = node.run("where_do_i_write")
        assert answer.json()["value"] is False
        assert answer.headers["Gateway-Endpoint"] == "primary"

    def test_the_time_it_took_is_told(self, node: Gateway) -> None:
        timing = node.run("nap", seconds=0.05).headers["Server-Timing"]
        queue, database = (float(part.partition("dur=")[2]) for part in timing.split(", "))
        assert timing.startswith("queue;dur=")
        assert queue >= 0
        assert database >= 50

    def test_a_failure_of_the_query_tells_where_it_ran_too(self, node: Gateway) -> None:
        assert node.run("divide", a=1, b=0).headers["Gateway-Endpoint"] in {"replica1", "replica2"}

    def test_the_gateway_does_not_tell_what_it_is_made_of(self, node: Gateway) -> None:
        assert node.run("series").headers.get("Server", "gateway") == "gateway"


class TestGet:
    @pytest.mark.parametrize(
        ("query", "query_string", "wanted"),
        [
            ("echo_numeric", "x=1.50", "1.50"),
            ("echo_numeric", "", "null"),
            ("echo_int8", "x=-9223372036854775808", "-9223372036854775808"),
            ("echo_float8", "x=NaN", '"NaN"'),
            ("echo_bool", "x=yes", "true"),
            ("echo_bool", "x=f", "false"),
            ("echo_text", "x=", '""'),
            ("echo_text", "x=a+b%20c%2B", '"a b c+"'),
            ("echo_text", "x=%F0%9F%90%98", '"🐘"'),
            ("echo_text", "x={1}", '"{1}"'),
            ("echo_text", "x=null", '"null"'),
            ("echo_text", "x='%20OR%201=1;--", '"\' OR 1=1;--"'),
            ("echo_date", "x=1.2.2026", '"2026-01-02"'),
            ("echo_bytea", "x=%5Cxdeadbeef", '"\\\\xdeadbeef"'),
            ("echo_range", "x=[1,3]", '"[1,4)"'),
            ("echo_mood", "x=happy", '"happy"'),
            ("echo_json", 'x={"a":%20[1.0]}', '{"a": [1.0]}'),
            ("echo_jsonb", "x=null", "null"),
            ("echo_texts", "x=a&x=b,c&x=", '["a","b,c",""]'),
            ("echo_texts", 'x={a,"b,c",NULL}', '["a","b,c",null]'),
            ("echo_texts", "x=a", '["a"]'),
            ("echo_ints", "x=1&x=2", "[1,2]"),
            ("echo_ints", "x={{1,2},{3,4}}", "[[1,2],[3,4]]"),
            ("echo_ints", "x={}", "[]"),
            ("echo_ints", "", "[]"),
        ],
    )
    def test_an_argument_is_text_in_its_types_own_form(
        self, query: str, query_string: str, wanted: str, node: Gateway
    ) -> None:
        answer = node.client.get(f"/query/{query}?{query_string}")
        assert answer.status_code == 200, answer.text
        assert answer.content.decode() == f'{{"value":{wanted}}}'
        assert answer.headers["Cache-Control"] == "no-store"

    def test_bytes_that_were_not_percent_encoded_are_never_misread(self, node: Gateway) -> None:
        answer = node.talk("GET /query/echo_text?x=é HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 400 ") or answer.endswith('{"value":"é"}'.encode())

    @pytest.mark.parametrize("query_string", ["x=%FF", "x", "x=1&&"])
    def test_what_cannot_be_read_exactly_is_refused(self, query_string: str, node: Gateway) -> None:
        problem(node.client.get(f"/query/echo_text?{query_string}"), 400, "invalid_request")

    @pytest.mark.parametrize(
        ("query", "query_string", "parameters"),
        [
            ("echo_int4", "x=1.6", ["x"]),
            ("echo_int4", "x=1&x=2", ["x"]),
            ("echo_int4", "x=-1001", ["x"]),
            ("echo_int4", "x=canary", ["x"]),
            ("echo_text", "x=%00", ["x"]),
            ("echo_text", "", ["x"]),
            ("echo_text", "x=1&y=2&z=3", ["y", "z"]),
            ("several", "a=0&b=LONG&d=1", ["a", "b", "d"]),
        ],
    )
    def test_every_fault_of_its_arguments_is_told(
        self, query: str, query_string: str, parameters: list[str], node: Gateway
    ) -> None:
        told = problem(node.client.get(f"/query/{query}?{query_string}"), 422, "invalid_arguments")
        assert [fault["parameter"] for fault in told["errors"]] == parameters

    def test_a_write_is_not_for_get(self, node: Gateway) -> None:
        answer = node.client.get("/query/next_number")
        told = problem(answer, 405, "method_not_allowed")
        assert (answer.headers["Allow"], told["outcome"]) == ("POST", None)

    def test_head_is_get_without_its_body(self, node: Gateway) -> None:
        answer = node.client.head("/query/echo_text?x=abc")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["Content-Length"] == str(len('{"value":"abc"}'))
        assert node.client.head("/query/next_number").status_code == 405
        assert node.client.head("/health/ready").status_code == 200


class TestHeaders:
    @pytest.mark.parametrize("given", ["me", "0af7651916cd43dd-8448:eb/211c=8+03@19c.7_6", "x" * 128])
    def test_a_sane_request_id_comes_back(self, given: str, node: Gateway) -> None:
        assert node.run("series", {"X-Request-Id": given}).headers["X-Request-Id"] == given
        assert problem(node.run("nothing_here", {"X-Request-Id": given}), 404, "unknown_query")["request_id"] == given

    @pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a,b", "<script>", "é".encode(), '"quoted"', "a;b"])
    def test_another_request_id_is_replaced(self, given: str | bytes, node: Gateway) -> None:
        raw = given if isinstance(given, bytes) else given.encode()
        told = node.client.post("/query/series", headers={b"X-Request-Id": raw}).headers["X-Request-Id"]
        assert told != given
        assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]+", told)

    def test_a_request_without_an_id_gets_one_of_its_own(self, node: Gateway) -> None:
        ids = {node.run("series").headers["X-Request-Id"] for _ in range(20)}
        assert len(ids) == 20

    @pytest.mark.parametrize("query", ["series", "next_number"])
    @pytest.mark.parametrize("token", ["", "x", "a b", "AQ", "x" * 4000])
    def test_a_token_that_no_gateway_gave_is_refused(self, token: str, query: str, node: Gateway) -> None:
        told = problem(node.run(query, {"Gateway-Consistency-Token": token}), 400, "invalid_request")
        assert "Gateway-Consistency-Token" in told["detail"]

    @pytest.mark.parametrize(
        "wish", ["wait=0", "wait=-1", "wait=soon", "bigint=maybe", "max-staleness=-1", "handling=so"]
    )
    def test_a_preference_that_makes_no_sense_is_refused(self, wish: str, node: Gateway) -> None:
        problem(node.run("series", {"Prefer": wish}), 400, "invalid_request")

    def test_other_preferences_are_ignored(self, node: Gateway) -> None:
        assert node.run("series", {"Prefer": 'respond-async, return=minimal; x="a, wait=0"'}).status_code == 200

    @pytest.mark.parametrize("accept", ["text/html, image/*;q=0.8", "application/json;q=0", "text/csv;delimiter=x"])
    def test_what_cannot_be_produced_is_not_acceptable(self, accept: str, node: Gateway) -> None:
        problem(node.run("series", {"Accept": accept}), 406, "not_acceptable")
        problem(node.client.post("/transaction", json={"steps": []}, headers={"Accept": accept}), 406, "not_acceptable")


class TestConnections:
    def test_requests_on_one_connection_are_answered_in_their_order(self, node: Gateway) -> None:
        def request(number: int, *headers: str) -> bytes:
            body = json.dumps({"x": str(number)})
            lines = ["POST /query/echo_text HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", body]
            return "\r\n".join(lines).encode()

        answer = node.talk(b"".join([*map(request, range(19)), request(19, "Connection: close")]))
        values = [part.partition(b'"}')[0] for part in answer.split(b'{"value":"')[1:]]
        kept_alive = 1 if "sync" in str(node.folder) else 20  # gunicorn's sync worker closes after each answer
        assert values == [str(number).encode() for number in range(kept_alive)]

    def test_a_client_of_http_1_0_is_answered(self, node: Gateway) -> None:
        answer = node.talk(b"GET /query/echo_text?x=old HTTP/1.0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.")
        assert answer.endswith(b'{"value":"old"}')

    def test_a_half_closed_client_gets_its_answer(self, node: Gateway) -> None:
        with node.connect() as connection:
            connection.sendall(b"GET /query/nap?seconds=0.1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert read_to_end(connection).endswith(b'{"value":"awake"}')

    def test_nothing_is_leased_when_nothing_runs(self, node: Gateway) -> None:
        def at_rest() -> bool:
            health = node.health()
            counts = {(group["leased"], group["waiting"]) for group in health["groups"].values()}
            return counts == {(0, 0)} and sum(each["in_flight"] for each in health["workers"]) == 1

        wait_until(at_rest, "nothing is leased, and only this one is asked")


def test_decimal_numbers_of_the_samples_are_exact(node: Gateway) -> None:
    total = json.loads(node.run("order_total", order_id=1).content, parse_float=Decimal)["value"]
    assert total == round(total, 2)
