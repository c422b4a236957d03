"""Runs a query as a call of it would be run, with the same arguments, limits and answer, and rolls it back."""

from collections.abc import Mapping

from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Query
from gateway.execution.plans import Ready
from gateway.execution.results import encode
from gateway.execution.steps import constant
from gateway.postgres import transaction
from gateway.postgres.session import Session
from gateway.postgres.work import Step, Work


def rehearse(
    session: Session,
    query: Query,
    ready: Ready,
    arguments: bytes,
    *,
    deadline: float,
    max_bytes: int,
    settings: Mapping[str, str],
) -> bytes:
    """Return the body that the call would be answered with; nothing of it stays. Raises a GatewayError.

    ``arguments``: a JSON object; ``settings`` stand for the caller. Constraints that are deferred to the COMMIT are
    looked at before the end.
    """
    literals = ready.binder.bind_json(split_object(arguments))
    writes = ready.plan.write
    work = Work(
        steps=[Step(ready.plan, constant(literals))],
        encode=lambda results: encode(query, results[0], committed=writes),
        begin="BEGIN" if writes else "BEGIN READ ONLY",
        numbered=False,
        rolls_back=True,
    )
    return transaction.run(session, work, deadline=deadline, max_bytes=max_bytes, settings=settings).body
