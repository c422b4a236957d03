"""Runs every call: a query, a list of arguments, a transaction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.catalogue.query import Query
from gateway.catalogue.types import Family
from gateway.errors import CatalogueStale, NoRow, NotAcceptable, QueryBroken
from gateway.execution.call import (
    Answer,
    AnyCall,
    RawCall,
    SingleCall,
    TransactionCall,
    on_primary,
)
from gateway.execution.committing import Committer
from gateway.execution.concurrency import Concurrency
from gateway.execution.plans import Plans
from gateway.execution.results import encode
from gateway.execution.running import ReadWork, Runner
from gateway.postgres import single
from gateway.postgres.session import Session
from gateway.postgres.single import Result

Alone = Callable[[SingleCall], Answer]
"""Runs one call on one connection."""
Share = Callable[[Alone, ReadWork[SingleCall, bytes]], Alone]
"""Stands between binding and checking out: from what runs a call alone, and what runs one that reads on a connection,
it makes what may answer calls together, or from memory. It sees plan, literals, caller and freshness of each, and must
give each the answer it would have had alone."""
RunPlan = Callable[..., Result]
"""``single.run``, or what stands for it in a test."""


def unshared(alone: Alone, _run: ReadWork[SingleCall, bytes]) -> Alone:
    """Run every call alone."""
    return alone


class Execution:
    """The one door behind which calls run."""

    def __init__(
        self,
        *,
        plans: Plans,
        runner: Runner,
        committer: Committer,
        others: Mapping[type[AnyCall], Callable[[Any], Answer]],
        max_result_bytes: int,
        share: Share = unshared,
        run: RunPlan = single.run,
        concurrency: Concurrency | None = None,
    ) -> None:
        """``others``: what runs other kinds of calls, by kind; ``run`` runs a plan on a connection.

        ``concurrency``: None where no query has a limit to how many run.
        """
        self._run_plan = run
        self._plans = plans
        self._runner = runner
        self._committer = committer
        self._others = others
        self._max_result_bytes = max_result_bytes
        self._answer = share(self._alone, self._run)
        self.run: Callable[[AnyCall], Answer] = self._run_any
        """Runs a call; raises a GatewayError, with the outcome where it writes."""
        if concurrency is not None:
            self.run = partial(concurrency.run, run=self._run_any)

    def _run_any(self, call: AnyCall) -> Answer:
        try:
            if isinstance(call, SingleCall):
                return self._answer(call)
            if isinstance(call, TransactionCall):
                return self._committer.run(call)
            return self._raw(call) if isinstance(call, RawCall) else self._others[type(call)](call)
        except (QueryBroken, CatalogueStale) as error:
            for query in _blamed(call, error.step):
                self._plans.doubt(query)
            raise

    def _alone(self, call: SingleCall) -> Answer:
        if call.plan.write:
            body, served = self._runner.write(call, self._run)
        else:
            body, served = self._runner.read(on_primary(call) if call.plan.only_primary else call, self._run)
        return Answer(body=body, served=served)

    def _raw(self, call: RawCall) -> Answer:
        family = call.plan.columns[0].type.family
        if family not in (Family.BYTEA, Family.TEXT):
            raise NotAcceptable("a value that is neither bytea nor text is answered as JSON only")
        result, served = self._runner.read(on_primary(call) if call.plan.only_primary else call, self._run_raw)
        if not result.row_count:
            raise NoRow("the query has no value for these arguments").but(served=served)
        body = bytes.fromhex(result.text.decode()) if family is Family.BYTEA else result.text
        return Answer(body=body, media=call.query.media, served=served)

    def _run_raw(self, call: RawCall, connection: Session, guard: str) -> Result:
        return self._run_plan(
            connection,
            call.plan.raw(call.query, self._max_result_bytes),
            call.literals,
            deadline=call.deadline,
            client=call.client,
            guard=guard,
            settings=call.settings,
        )

    def _run(self, call: SingleCall, connection: Session, guard: str = "") -> bytes:
        result = self._run_plan(
            connection,
            call.plan,
            call.literals,
            deadline=call.deadline,
            client=call.client,
            max_bytes=self._max_result_bytes,
            guard=guard,
            settings=call.settings,
        )
        return encode(call.query, result, committed=call.plan.write)


def _blamed(call: AnyCall, step: int | None) -> Sequence[Query]:
    """The queries that the server may have refused."""
    if not isinstance(call, TransactionCall):
        return [call.query]
    return call.queries if step is None else call.queries[step : step + 1]
