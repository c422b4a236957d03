"""Runs a query as a call of it would be run, with the same arguments, limits and answer, and rolls it back."""

from collections.abc import Mapping, Sequence
from secrets import token_bytes

from gateway.catalogue.json_text import split_object
from gateway.catalogue.query import Query
from gateway.execution.cursors import Cursors
from gateway.execution.paging import encode as encode_page
from gateway.execution.plans import Ready
from gateway.execution.results import encode
from gateway.execution.steps import constant
from gateway.postgres import transaction
from gateway.postgres.session import Session
from gateway.postgres.single import Result
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
    looked at before the end. Of a page ``next`` is null.
    """
    literals: Sequence[str] = ready.binder.bind_json(split_object(arguments))
    plan, context = ready.plan, None
    if ready.variants is not None:
        query, plan, literals, context, _ = ready.variants.chosen(literals, Cursors(token_bytes()))
    writes = plan.write

    def answer(results: Sequence[Result]) -> bytes:
        # The cursor of a next page is another one each time.
        return encode(query, results[0], committed=writes) if context is None else encode_page(results[0], None)

    work = Work(
        steps=[Step(plan, constant(literals))],
        encode=answer,
        begin="BEGIN" if writes else "BEGIN READ ONLY",
        numbered=False,
        rolls_back=True,
    )
    return transaction.run(session, work, deadline=deadline, max_bytes=max_bytes, settings=settings).body
