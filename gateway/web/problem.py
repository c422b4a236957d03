"""The body of a failure: ``application/problem+json`` (RFC 9457), always the same members."""

from collections.abc import Sequence

import msgspec
import orjson

from gateway.errors import ArgumentFault, Outcome


def problem(
    *,
    status: int,
    title: str,
    code: str,
    detail: str,
    request_id: str,
    retryable: bool,
    outcome: Outcome | None = None,
    sqlstate: str | None = None,
    faults: Sequence[ArgumentFault] = (),
    step: int | None = None,
    transaction: str | None = None,
) -> bytes:
    """The members the contract names, in its order."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": title,
            "status": status,
            "code": code,
            "detail": detail,
            "request_id": request_id,
            "retryable": retryable,
            "outcome": outcome,
            "sqlstate": sqlstate,
            "step": step,
            "transaction": transaction,
            "errors": [msgspec.to_builtins(fault) for fault in faults],
        }
    )
