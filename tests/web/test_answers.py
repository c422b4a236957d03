"""What headers an answer becomes."""

from typing import Any

from gateway.execution.call import Answer, Call
from gateway.served import Served
from gateway.web import answers
from gateway.web.messages import Response

CALL = Call(group="read", deadline=0.0)


def written(answer: Answer, call: Call = CALL) -> Response:
    response = Response()
    answers.write(response, call, answer)
    response.hand_over_lines({})
    return response


def headers(served: Served | None, **more: Any) -> dict[str, str]:
    told = written(Answer(body=b"{}", served=served, **more)).headers
    return {name: value for name, value in told.items() if name != "content-type"}


def test_a_first_attempt_on_a_primary_tells_its_endpoint_and_times() -> None:
    served = Served(endpoint="primary", queued=0.0015, took=0.00234)
    assert headers(served) == {"gateway-endpoint": "primary", "server-timing": "queue;dur=1.50, db;dur=2.34"}


def test_what_else_is_known_has_a_header_each() -> None:
    served = Served(endpoint="a", attempts=2, lag_ms=42.9, token="t")  # noqa: S106 - a consistency token is no secret
    told = headers(served, replayed=True)
    assert (told["gateway-attempts"], told["gateway-lag-ms"]) == ("2", "42")
    assert (told["gateway-consistency-token"], told["idempotency-replayed"]) == ("t", "true")


def test_what_needed_no_server_tells_of_none() -> None:
    assert headers(None) == {}


def test_preferences_that_were_kept_are_named() -> None:
    response = written(Answer(body=b"{}"), Call(group="read", deadline=0.0, applied="wait=1"))
    assert response.get_header("Preference-Applied") == "wait=1"
