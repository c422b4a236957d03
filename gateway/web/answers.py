"""From an answer to a response: every header that tells how a call was served is written here."""

from collections.abc import Iterator, Sequence

import falcon

from gateway.errors import Quota, Served
from gateway.execution.call import Answer, Call


def write(response: falcon.Response, call: Call, answer: Answer) -> None:
    """Write an answer, which is closed once it has been sent."""
    response.content_type = falcon.MEDIA_JSON
    if answer.held is None:
        response.data = answer.body
    else:
        response.stream = _Sent(answer)
    if answer.served is not None:
        write_served(response, answer.served)
    if answer.replayed:
        response.set_header("Idempotency-Replayed", "true")
    if call.quotas:
        write_quotas(response, call.quotas)
    if call.applied:
        response.set_header("Preference-Applied", call.applied)


def write_served(response: falcon.Response, served: Served) -> None:
    """Tell on which endpoint a query was run, or failed, and how long that took."""
    queued = f"{served.queued * 1000:.2f}" if served.queued else "0.00"  # PERF: to write a float takes 0.3 µs
    response.set_header("Gateway-Endpoint", served.endpoint)
    response.set_header("Server-Timing", f"queue;dur={queued}, db;dur={served.took * 1000:.2f}")
    if served.attempts > 1:
        response.set_header("Gateway-Attempts", str(served.attempts))
    if served.lag_ms is not None:
        response.set_header("Gateway-Lag-Ms", str(int(served.lag_ms)))
    if served.token is not None:
        response.set_header("Gateway-Consistency-Token", served.token)


def write_quotas(response: falcon.Response, quotas: Sequence[Quota]) -> None:
    """Tell where the caller stands with its limits, as draft-ietf-httpapi-ratelimit-headers has it."""
    response.set_header("RateLimit-Policy", ", ".join([f'"{one.name}";q={one.burst};w={one.window}' for one in quotas]))
    response.set_header("RateLimit", ", ".join([f'"{one.name}";r={one.left};t={one.rest}' for one in quotas]))


class _Sent:
    """A body whose answer is closed by the server that sends it, when it has been sent or cannot be (PEP 3333)."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        yield self._answer.body

    def close(self) -> None:
        self._answer.close()
