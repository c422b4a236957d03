"""The resources that run calls, by name: a request goes to the calls, a call to the execution, an answer back."""

from typing import Any

import falcon
import falcon.testing
import pytest

from gateway.catalogue.query import Catalogue
from gateway.execution.call import Answer, Call
from gateway.metrics import Metrics
from gateway.web.deprecations import Deprecations
from gateway.web.messages import Response
from gateway.web.queries import QueryResource, TransactionResource

CALL = Call(group="read", deadline=0.0)


class Scripted:
    """In the place of calls and execution."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.ran: list[Call] = []
        self.told: list[str] = []

    def of_body(self, _: falcon.Request, name: str) -> Call:
        self.asked.append(("body", name))
        return CALL

    def of_query_string(self, _: falcon.Request, name: str) -> Call:
        self.asked.append(("query string", name))
        return CALL

    def of_transaction(self, _: falcon.Request) -> Call:
        self.asked.append(("transaction",))
        return CALL

    def run(self, call: Call) -> Answer:
        self.ran.append(call)
        return Answer(body=b'{"value":42}')

    def answered(self, name: str, _request: falcon.Request, call: Call, answer: Answer) -> None:
        assert call is CALL
        assert answer.body
        self.told.append(name)


def app(scripted: Any) -> falcon.testing.TestClient:
    made: Any = falcon.App(response_type=Response)
    calling: dict[str, Any] = {
        "calls": scripted,
        "execution": scripted,
        "answered": scripted.answered,
        "failures": scripted,
        "deprecations": Deprecations(Catalogue({}, "hash"), Metrics()),
        "compression": scripted,
    }
    made.add_route("/query/{name}", QueryResource(**calling))
    made.add_route("/transaction", TransactionResource(**calling))
    return falcon.testing.TestClient(made)


@pytest.mark.parametrize(
    ("method", "path", "asked"),
    [
        ("POST", "/query/orders", ("body", "orders")),
        ("GET", "/query/orders", ("query string", "orders")),
        ("HEAD", "/query/orders", ("query string", "orders")),
        ("POST", "/transaction", ("transaction",)),
    ],
)
def test_each_route_makes_its_call_and_has_it_run(method: str, path: str, asked: tuple[str, ...]) -> None:
    scripted = Scripted()
    answer = app(scripted).simulate_request(method, path)
    assert (scripted.asked, scripted.ran) == ([asked], [CALL])
    assert scripted.told == ["orders" if path.startswith("/query/") else "transaction"]
    assert answer.content == (b"" if method == "HEAD" else b'{"value":42}')
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("method", "kept"), [("GET", "no-store"), ("POST", None)])
def test_nobody_may_keep_what_a_get_was_answered(method: str, kept: str | None) -> None:
    answer = app(Scripted()).simulate_request(method, "/query/orders")
    assert answer.headers.get("cache-control") == kept
