"""From an answer to a response: every header that tells how a call was served is written here."""

from collections.abc import Sequence

from gateway.execution.call import JSON, Answer, Call, Kept, PageCall
from gateway.served import Allowance, Served
from gateway.web.messages import Response


def write(response: Response, call: Call, answer: Answer) -> None:
    """Write an answer that is there as a whole; ``streams.write`` is for those of which more comes."""
    if answer.media is not JSON:  # PERF: which is the app's default
        response.content_type = answer.media
    response.data = answer.body
    if answer.served is not None:
        write_served(response, answer.served)
    if answer.replayed:
        response.set_header("Idempotency-Replayed", "true")
    if call.allowances:
        write_allowances(response, call.allowances)
    if call.applied:
        response.set_header("Preference-Applied", call.applied)
    if answer.next is not None and isinstance(call, PageCall) and call.link is not None:
        response.set_header("Link", f'</query/{call.query.name}?{call.link}cursor={answer.next}>; rel="next"')
    if answer.kept is not None:
        _write_kept(response, answer.kept)


def _write_kept(response: Response, kept: Kept) -> None:
    """Tell for how long an answer is good, and for whom."""
    response.set_header("Cache-Control", f"private, max-age={int(kept.rest)}")
    response.set_header("Age", str(int(kept.age)))
    response.set_header("Vary", "Authorization, Accept, Prefer")
    response.etag = kept.tag


def write_served(response: Response, served: Served) -> None:
    """Tell on which endpoint a query was run, or failed, and how long that took."""
    queued = f"{served.queued * 1000:.2f}" if served.queued else "0.00"  # PERF: to write a float takes 0.3 µs
    lines = (
        f"Gateway-Endpoint: {served.endpoint}\r\nServer-Timing: queue;dur={queued}, db;dur={served.took * 1000:.2f}\r\n"
    )
    if served.attempts > 1:
        lines += f"Gateway-Attempts: {served.attempts}\r\n"
    if served.lag_ms is not None:
        lines += f"Gateway-Lag-Ms: {int(served.lag_ms)}\r\n"
    if served.token is not None:
        lines += f"Gateway-Consistency-Token: {served.token}\r\n"
    response.lines = lines


def write_allowances(response: Response, allowances: Sequence[Allowance]) -> None:
    """Tell where the caller stands with its limits, as draft-ietf-httpapi-ratelimit-headers has it.

    Limits are named after queries and keys, whose names hold nothing that could break a line.
    """
    if len(allowances) == 1:  # PERF: what nearly everybody has; most of it is written when the app is built
        one = allowances[0]
        response.lines += f"{one.limit.line}{one.left};t={one.rest}\r\n"
        return
    policies = ", ".join(one.limit.text for one in allowances)
    left = ", ".join(f'"{one.limit.name}";r={one.left};t={one.rest}' for one in allowances)
    response.lines += f"RateLimit-Policy: {policies}\r\nRateLimit: {left}\r\n"
