"""What a request says of the trace that it belongs to (W3C Trace Context, ``traceparent``)."""

import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.postgres.work import Work

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1


def sampled(environ: Mapping[str, Any]) -> str | None:
    """Return the ``traceparent`` of a request whose trace is recorded; None: it is not, or there is none."""
    match = _TRACEPARENT.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    if match is None or not int(match[3], 16) & _SAMPLED:
        return None
    return f"00-{match[1]}-{match[2]}-{match[3]}"


def adopt(environ: MutableMapping[str, Any], trace: int, span: int, *, is_sampled: bool) -> None:
    """Have a request belong to this span from here on: in the log, and in what its server is sent."""
    environ["HTTP_TRACEPARENT"] = f"00-{trace:032x}-{span:016x}-{is_sampled:02x}"


def trace_id(environ: Mapping[str, Any]) -> str:
    """Return the id of the trace that a request belongs to; empty if it does not say."""
    match = _TRACEPARENT.fullmatch(environ.get("HTTP_TRACEPARENT", ""))
    return "" if match is None else match[1]


def carry(what: dict[str, Any], traceparent: str) -> None:
    """Have the statements of a call carry its trace."""
    if "plan" in what:
        what["plan"] = what["plan"].traced(traceparent)
    elif "work" in what:
        work: Work = what["work"]
        steps = [step._replace(plan=step.plan.traced(traceparent)) for step in work.steps]
        accumulated = None if work.accumulated is None else work.accumulated.traced(traceparent)
        what["work"] = work._replace(steps=steps, accumulated=accumulated)
