"""Each call is counted once, and told of as the settings say."""

from collections.abc import Sequence
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.catalogue.query import Catalogue
from gateway.errors import ClientGone, DeadlineExceeded, InvalidArguments, Outcome, PoolTimeout
from gateway.events import Event, RequestServed, RequestSlow, WriteAudited
from gateway.execution.call import ANONYMOUS, Answer, SingleCall
from gateway.execution.plans import Plans
from gateway.metrics import CANCELLED, ERRORS, OUTCOMES, QUEUE_SECONDS, REQUEST_SECONDS, REQUESTS, Metrics
from gateway.served import Served
from gateway.settings import LogSettings
from gateway.web.reporting import Reporting
from tests.execution.samples import SIGNATURE, query

READ, WRITE = query("orders"), query("pay", write=True)
SERVED = Served(endpoint="replica1", queued=0.2, took=0.001)


class Desk:
    """A reporter and what it was told."""

    def __init__(self, **settings: Any) -> None:
        self.metrics = Metrics()
        self.events: list[Event] = []
        catalogue = Catalogue({"orders": READ, "pay": WRITE}, "hash")
        self.plans = Plans(catalogue)
        for name in ("orders", "pay"):
            self.plans.learnt(name, SIGNATURE, at=0.0)
        self.reporting = Reporting(
            metrics=self.metrics,
            catalogue=catalogue,
            plans=self.plans,
            settings=LogSettings(**{"slow": 3600.0, **settings}),
            observe=self.events.append,
            log=self.events.append,
        )

    def request(self, path: str = "/query/orders", template: str | None = "/query/{name}") -> Any:
        context = SimpleNamespace(arrived=monotonic() - 1, request_id="r", caller=ANONYMOUS)
        return SimpleNamespace(path=path, uri_template=template, context=context, env={})

    def call(self, name: str) -> SingleCall:
        asked = READ if name == "orders" else WRITE
        return SingleCall(group=asked.group, deadline=0.0, query=asked, plan=self.plans.get(asked).plan, literals=[])

    def answer(self, name: str, body: bytes = b'{"affected":3}') -> None:
        answer = Answer(body=body, served=SERVED)
        self.reporting.answered(name, self.request(f"/query/{name}"), self.call(name), answer)

    def counted(self, family: Any, *labels: str) -> Sequence[float]:
        found = dict(self.metrics.read().counts.get(family.name, []))
        return found.get(labels, [0.0])


def test_an_answer_is_counted_with_its_time_and_its_wait() -> None:
    desk = Desk()
    desk.answer("orders")
    desk.answer("pay")
    assert desk.counted(REQUESTS, "orders", "200") == [1.0]
    assert sum(desk.counted(REQUEST_SECONDS, "orders")[:-1]) == 1
    assert desk.counted(QUEUE_SECONDS, READ.group)[8] == 1
    assert desk.counted(OUTCOMES, "committed") == [1.0]
    assert desk.events == []


@pytest.mark.parametrize(
    ("path", "template", "counted"),
    [
        ("/query/orders", "/query/{name}", "orders"),
        ("/query/made-up", "/query/{name}", "unknown"),
        ("/transaction", "/transaction", "transaction"),
        ("/queries", "/queries", None),
        ("/nowhere", None, None),
    ],
)
def test_a_failure_is_counted_under_a_name_that_no_client_can_make_up(
    path: str, template: str | None, counted: str | None
) -> None:
    desk = Desk()
    desk.reporting.failed(desk.request(path, template), InvalidArguments("no"), 422)
    assert desk.counted(ERRORS, "invalid_arguments") == [1.0]
    names = [labels for labels, _ in desk.metrics.read().counts.get(REQUESTS.name, [])]
    assert names == ([] if counted is None else [(counted, "422")])


def test_failures_of_calls_are_counted_by_outcome_and_by_why_they_were_given_up() -> None:
    desk = Desk()
    failures = [
        (ClientGone("left"), 499),
        (DeadlineExceeded("late", outcome=Outcome.UNKNOWN), 504),
        (PoolTimeout("none", outcome=Outcome.NOT_EXECUTED), 503),
    ]
    for error, status in failures:
        request = desk.request("/query/pay")
        request.context.call = desk.call("pay")
        desk.reporting.failed(request, error, status)
    assert desk.counted(CANCELLED, "client") == [1.0]
    assert desk.counted(CANCELLED, "deadline") == [1.0]
    assert desk.counted(OUTCOMES, "unknown") == [1.0]
    assert desk.counted(OUTCOMES, "not_executed") == [1.0]
    assert sum(desk.counted(QUEUE_SECONDS, WRITE.group)[:-1]) == 3


@pytest.mark.parametrize(("access", "kinds"), [("off", []), ("errors", [404]), ("all", [200, 404])])
def test_lines_of_calls_are_written_as_asked_for(access: str, kinds: list[int]) -> None:
    desk = Desk(access=access)
    desk.answer("orders")
    desk.reporting.failed(desk.request("/query/x"), InvalidArguments("no"), 404)
    assert [event.status for event in desk.events if isinstance(event, RequestServed)] == kinds


def test_a_slow_call_is_told_of_with_names_of_its_parameters() -> None:
    desk = Desk(slow=0.5)
    desk.answer("orders")
    (event,) = desk.events
    assert isinstance(event, RequestSlow)
    assert (event.queue_ms, event.db_ms, event.attempts, event.endpoint) == (200.0, 1.0, 1, "replica1")
    assert event.arguments == tuple(parameter.name for parameter in READ.parameters)


@pytest.mark.parametrize(
    ("body", "affected"),
    [
        (b'{"affected":3}', 3),
        (b'{"rows":[{"affected":9}],"row_count":1}', 1),
        (b'{"results":[{"affected":3},{"row":{}},{"rows":[],"row_count":2}]}', 5),
        (b'{"row":{"id":1}}', None),
    ],
)
def test_an_audited_write_says_how_many_rows_it_touched_where_that_is_known(body: bytes, affected: int | None) -> None:
    desk = Desk(audit="writes")
    desk.answer("pay", body)
    desk.answer("orders")
    (event,) = desk.events
    assert isinstance(event, WriteAudited)
    assert (event.affected, event.outcome) == (affected, "committed")


def test_a_write_that_never_became_a_call_is_audited_too() -> None:
    desk = Desk(audit="writes")
    desk.reporting.failed(desk.request("/query/pay"), InvalidArguments("no"), 422)
    desk.reporting.failed(desk.request("/query/orders"), InvalidArguments("no"), 422)
    (event,) = desk.events
    assert isinstance(event, WriteAudited)
    assert (event.code, event.outcome, event.query) == ("invalid_arguments", None, "pay")
