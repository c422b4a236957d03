"""Every error of ours has its row: a status, a code in openapi.yaml, and always the same members."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import falcon
import falcon.testing
import pytest

from gateway import errors
from gateway.errors import ArgumentFault, GatewayError, Outcome
from gateway.events import BugFound, Event, RequestFailed
from gateway.served import Allowance, Limit
from gateway.server.response import refusal
from gateway.web.browsers import Browsers
from gateway.web.failures import Failures
from gateway.web.messages import Response
from gateway.web.middleware import RequestIdentity
from gateway.web.problem import STATUS, error_of
from tests.web.description import Description

CONTRACT = {
    400: {"invalid_json", "invalid_request", "raised"},
    401: {"unauthenticated"},
    403: {"forbidden"},
    404: {"unknown_query", "not_found", "no_row"},
    405: {"method_not_allowed"},
    406: {"not_acceptable"},
    408: {"request_timeout"},
    409: {"conflict", "reload_refused", "serialization_failure", "unexpected_affected"},
    413: {"body_too_large"},
    415: {"unsupported_media_type"},
    422: {"invalid_arguments", "idempotency_mismatch"},
    429: {"rate_limited"},
    431: {"headers_too_large"},
    499: {"client_closed_request"},
    500: {"query_broken", "internal_error"},
    503: {
        "pool_timeout",
        "queue_full",
        "too_stale",
        "no_endpoint",
        "backend_unavailable",
        "connection_lost",
        "draining",
        "lock_timeout",
        "cancelled",
        "catalogue_stale",
        "overloaded",
    },
    504: {"deadline_exceeded"},
    507: {"result_too_large"},
}
"""The table of what can fail, as far as this version serves it."""
MEMBERS = [
    "type",
    "title",
    "status",
    "code",
    "detail",
    "request_id",
    "retryable",
    "outcome",
    "sqlstate",
    "step",
    "transaction",
    "errors",
]


def below(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """All descendants, however deep; tests of other rooms may have some of their own."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from below(child)


ERRORS = list(below(GatewayError))


class Failing:
    """Ends every request with what it is told to raise."""

    def __init__(self) -> None:
        self.failure: Callable[[], Exception] = RuntimeError

    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        raise self.failure()


class Front:
    """An app that fails as told, and a client of it."""

    def __init__(self, *, verbose: bool) -> None:
        self._failing = Failing()
        self.seen: list[Event] = []
        identity = RequestIdentity(Browsers(allowed_hosts=[falcon.testing.helpers.DEFAULT_HOST]))
        app: falcon.App[Any, Any] = falcon.App(middleware=[identity], response_type=Response)
        Failures(verbose=verbose, observe=self.seen.append, failed=lambda *_: None).register(app)
        app.add_route("/", self._failing)
        self._client = falcon.testing.TestClient(app)

    def fail(self, failure: Exception) -> falcon.testing.Result:
        self._failing.failure = lambda: failure
        return self._client.simulate_get("/", headers={"X-Request-Id": "me"})

    def get(self, path: str, method: str = "GET") -> falcon.testing.Result:
        return self._client.simulate_request(method, path)


@pytest.fixture
def front() -> Front:
    return Front(verbose=False)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_a_documented_code(kind: type[GatewayError], front: Front) -> None:
    answer = front.fail(kind("why"))
    assert answer.status_code == STATUS[kind]
    assert answer.json["code"] == kind.code
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = Description.load().validator({"$ref": "#/components/schemas/Problem"})
    problem.validate(answer.json)


def test_the_table_of_codes_and_statuses_is_the_contracts() -> None:
    table: dict[int, set[str]] = {}
    for kind in ERRORS:
        table.setdefault(STATUS[kind], set()).add(kind.code)
    assert table == CONTRACT
    assert Description.load().codes == set().union(*CONTRACT.values())


def test_no_two_errors_share_a_code() -> None:
    codes = [kind.code for kind in ERRORS]
    assert len(codes) == len(set(codes))


def test_a_problem_has_exactly_the_members_of_the_contract_in_their_order(front: Front) -> None:
    answer = front.fail(
        errors.Conflict(
            "unique violation",
            outcome=Outcome.ROLLED_BACK,
            sqlstate="23505",
            faults=[ArgumentFault(None, "is taken", constraint="things_name_key"), ArgumentFault("name", "is odd")],
            server_message="Key (name)=(secret) already exists.",
        )
    )
    assert list(answer.json) == MEMBERS
    assert answer.json == {
        "type": "about:blank",
        "title": "The write conflicts with existing data",
        "status": 409,
        "code": "conflict",
        "detail": "unique violation",
        "request_id": "me",
        "retryable": False,
        "outcome": "rolled_back",
        "sqlstate": "23505",
        "step": None,
        "transaction": None,
        "errors": [
            {"parameter": None, "message": "is taken", "constraint": "things_name_key"},
            {"parameter": "name", "message": "is odd"},
        ],
    }


def test_the_servers_words_are_shown_only_where_that_is_asked_for(front: Front) -> None:
    failure = errors.Conflict("unique violation", server_message="Key (name)=(secret)")
    assert front.fail(failure).json["detail"] == "unique violation"
    assert Front(verbose=True).fail(failure).json["detail"] == "unique violation: Key (name)=(secret)"
    assert Front(verbose=True).fail(errors.Conflict(server_message="secret")).json["detail"] == "secret"


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_a_503_and_a_429_and_nothing_else_say_when_to_come_again(kind: type[GatewayError], front: Front) -> None:
    answer = front.fail(kind())
    assert answer.headers.get("Retry-After") == ("1" if answer.status_code in (429, 503) else None)


def test_who_calls_too_often_is_told_where_it_stands(front: Front) -> None:
    allowances = [Allowance(Limit.of("orders", 200, 2), 3, 2)]
    answer = front.fail(errors.RateLimited("too often", after=1.2, allowances=allowances))
    assert answer.headers["Retry-After"] == "2"
    assert answer.headers["RateLimit-Policy"] == '"orders";q=200;w=2'
    assert answer.headers["RateLimit"] == '"orders";r=3;t=2'
    assert "Retry-After" not in front.fail(errors.RateLimited("never", after=None)).headers


@pytest.mark.parametrize(
    "bug", [RuntimeError("secret"), KeyError("secret"), falcon.HTTPInternalServerError(description="secret")], ids=repr
)
def test_a_bug_of_ours_is_observed_and_not_told_to_the_caller(bug: Exception, front: Front) -> None:
    answer = front.fail(bug)
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "secret" not in answer.text
    found = front.seen[0]
    assert isinstance(found, BugFound)
    assert (found.error, found.request_id) == (bug, "me")
    assert "secret" not in str(found)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_only_what_its_caller_cannot_mend_is_observed_and_without_the_servers_words(
    kind: type[GatewayError], front: Front
) -> None:
    front.fail(kind("condition", sqlstate="42601", server_message='syntax error at or near "secret"'))
    status = STATUS[kind]
    if status < 500 or status == 503:
        assert front.seen == []
    else:
        told = RequestFailed(request_id="me", status=status, code=kind.code, detail="condition [42601]")
        assert front.seen == [told]


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 501, 503, 505])
def test_what_is_refused_before_it_is_a_request_is_the_same_problem(status: int) -> None:
    head, _, body = refusal(status, "why", date="Date: now\r\n").partition(b"\r\n\r\n")
    told = json.loads(body)
    kind = type(error_of(status, ""))
    assert (told["status"], told["code"], told["title"], told["detail"]) == (status, kind.code, kind.title, "why")
    assert told["retryable"] is kind.retryable
    assert list(told) == MEMBERS
    assert (b"Retry-After: 1" in head) == (status == 503)
    Description.load().validator({"$ref": "#/components/schemas/Problem"}).validate(told)


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (falcon.HTTPNotFound(), 404, "not_found"),
        (falcon.HTTPMethodNotAllowed(["GET"]), 405, "method_not_allowed"),
        (falcon.HTTPNotAcceptable(), 406, "not_acceptable"),
        (falcon.HTTPContentTooLarge(), 413, "body_too_large"),
        (falcon.HTTPUnsupportedMediaType(), 415, "unsupported_media_type"),
        (falcon.HTTPInvalidHeader("no number", "Content-Length"), 400, "invalid_request"),
        (falcon.HTTPUnprocessableEntity(), 400, "invalid_request"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_falcon_refuses_is_a_problem_too(failure: Exception, status: int, code: str, front: Front) -> None:
    answer = front.fail(failure)
    assert (answer.status_code, answer.json["status"], answer.json["code"]) == (status, status, code)
    assert list(answer.json) == MEMBERS


def test_a_route_that_is_not_there_and_a_method_that_is_not_for_it(front: Front) -> None:
    assert front.get("/nowhere").json["code"] == "not_found"
    refused = front.get("/", "DELETE")
    assert (refused.json["code"], refused.headers["Allow"]) == ("method_not_allowed", "GET, OPTIONS")


def test_an_error_of_a_kind_of_its_own_is_answered_as_the_kind_it_is_of(front: Front) -> None:
    class Special(errors.DeadlineExceeded):
        """Known to the room that raises it only."""

    answer = front.fail(Special("why", outcome=Outcome.UNKNOWN))
    assert (answer.status_code, answer.json["code"], answer.json["outcome"]) == (504, "deadline_exceeded", "unknown")
