"""Calls of one query that need a transaction with its COMMIT apart: a list of arguments, a tracked or keyed write."""

import falcon

from gateway.catalogue.json_text import begins_list, split_list, split_object
from gateway.catalogue.query import Access, Query
from gateway.errors import InvalidRequest
from gateway.execution.plans import Plans, Ready
from gateway.postgres.transaction import Step, Work
from gateway.waiting import Client
from gateway.web import freshness, preferences
from gateway.web.callers import deadline_of
from gateway.web.committing import Committer
from gateway.web.idempotency import claim_of, has_key
from gateway.web.results import encode, encode_all
from gateway.web.steps import bind_all, constant


class Works:
    """Makes works of such calls, and has them run."""

    def __init__(self, *, plans: Plans, committer: Committer, max_batch: int) -> None:
        """``max_batch``: most elements of a list."""
        self._plans = plans
        self._committer = committer
        self._max_batch = max_batch

    def wants(self, request: falcon.Request, query: Query) -> bool:
        """Whether this call of a query, with one set of arguments, is ours."""
        return query.access is Access.WRITE and (query.tracked or query.retry_serialization or has_key(request))

    def answer(
        self, request: falcon.Request, response: falcon.Response, query: Query, sent: bytes, client: Client | None
    ) -> bytes:
        """The body of the answer to the body ``sent``; a read ends when ``client`` hangs up. Raises a GatewayError."""
        wishes = preferences.parse(request.env.get("HTTP_PREFER"))
        asked = freshness.asked_for(wishes, request.env.get("HTTP_GATEWAY_CONSISTENCY_TOKEN"))
        claim = claim_of(request, sent) if query.access is Access.WRITE else None
        ready = self._plans.get(query, bigint_as_string=wishes.bigint_as_string)
        if begins_list(sent):
            elements = split_list(sent)
            if len(elements) > self._max_batch:
                raise InvalidRequest(f"{len(elements)} objects in the list, at most {self._max_batch} are run at once")
            steps = [Step(ready.plan, constant(literals)) for literals in bind_all(ready.binder, elements)]
            if not steps:
                return encode_all([], [], committed=False)
            work = _of_list(query, ready, steps)
        else:
            work = _of_one(query, ready, Step(ready.plan, constant(ready.binder.bind_json(split_object(sent)))))
        seconds = query.timeout
        body = self._committer.run(
            work._replace(claim=claim),
            [query] * len(work.steps),
            response,
            group=query.group,
            deadline=deadline_of(request, seconds, wishes),
            client=client,
            asked=asked,
            retry=query.retry_serialization,
        )
        if wishes.applied:
            response.set_header("Preference-Applied", wishes.applied)
        return body


def _of_list(query: Query, ready: Ready, steps: list[Step]) -> Work:
    """All or nothing; the mark costs next to nothing here."""
    writes = ready.plan.write
    queries = [query] * len(steps)
    return Work(
        steps=steps,
        encode=lambda results: encode_all(queries, results, committed=writes),
        begin="BEGIN" if writes else "BEGIN READ ONLY",
        accumulated=ready.accumulating,
        tracked=writes,
    )


def _of_one(query: Query, ready: Ready, step: Step) -> Work:
    return Work(
        steps=[step],
        encode=lambda results: encode(query, results[0], committed=True),
        accumulated=ready.accumulating if query.tracked else None,
        numbered=False,
        tracked=query.tracked,
    )
