"""From a query and its arguments to what is to happen in one transaction: for a list, and for a write of its own."""

from collections.abc import Sequence

import msgspec

from gateway.catalogue.query import Query
from gateway.execution.plans import Ready
from gateway.execution.results import encode, encode_all
from gateway.execution.steps import bind_all, constant
from gateway.postgres.idempotency import Claim
from gateway.postgres.work import Step, Work


def of_list(query: Query, ready: Ready, elements: Sequence[msgspec.Raw], claim: Claim | None) -> Work:
    """Run the query for each object of a list, all or nothing. Raises InvalidArguments with all faults of all.

    To track the transaction costs next to nothing here.
    """
    steps = [Step(ready.plan, constant(literals)) for literals in bind_all(ready.binder, elements)]
    writes, queries = ready.plan.write, [query] * len(steps)
    return Work(
        steps=steps,
        encode=lambda results: encode_all(queries, results, committed=writes and bool(steps)),
        begin="BEGIN" if writes else "BEGIN READ ONLY",
        accumulated=ready.accumulating,
        tracked=writes,
        claim=claim,
    )


def of_one(query: Query, ready: Ready, literals: Sequence[str], claim: Claim | None) -> Work:
    """Run one write whose COMMIT is a message of its own: it is tracked, has a key, may be repeated or rolled back."""
    return Work(
        steps=[Step(ready.plan, constant(literals))],
        encode=lambda results: encode(query, results[0], committed=True),
        accumulated=ready.accumulating if query.tracked else None,
        numbered=False,
        tracked=query.tracked,
        claim=claim,
    )
