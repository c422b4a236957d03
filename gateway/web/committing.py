"""Brings works, each one transaction, to an end that is known: again where nothing happened, asking where it may have.

A write is never run twice: it is run again only when its transaction is known to be gone, or when an idempotency key
is taken in that transaction, at which a second run ends if the first one committed. Once an attempt's COMMIT is lost,
the failure of a later one says nothing of it unless that one has held the key.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic

import falcon

from gateway.catalogue.query import Query
from gateway.errors import (
    ConnectionLost,
    GatewayError,
    IdempotencyMismatch,
    Outcome,
    QueryBroken,
    SerializationFailure,
)
from gateway.execution.plans import Plans
from gateway.pool.lease import Lease
from gateway.postgres import transaction
from gateway.postgres.connection import Connection
from gateway.postgres.idempotency import KeyInUse
from gateway.postgres.session import SAFETY_MARGIN
from gateway.postgres.transaction import Answer, Unresolved, Work
from gateway.waiting import Client, Waits
from gateway.web.freshness import Freshness
from gateway.web.outcomes import Outcomes
from gateway.web.running import Runner

MOST_LOSSES = 3
"""Connections that one request may lose; a query that brings its backend down must not be run for ever."""
KEY_PATIENCE, KEY_GLANCE = 0.1, 0.01
"""Seconds for which a connection waits for a key that another request holds: the first time, and each time after. In
between nobody's connection is held, so that repeats of one slow write do not keep all others from writing."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_FIRST_KEY_PAUSE, _LONGEST_KEY_PAUSE = 0.02, 0.25

Attempt = Callable[..., Answer]
"""``transaction.run``, all but the connection and what concerns a single attempt."""


class Committer:
    """Runs works before their deadline."""

    def __init__(
        self, *, runner: Runner, plans: Plans, outcomes: Outcomes, max_result_bytes: int, waits: Waits
    ) -> None:
        self._runner = runner
        self._waits = waits
        self._plans = plans
        self._outcomes = outcomes
        self._max_result_bytes = max_result_bytes

    def run(
        self,
        work: Work,
        queries: Sequence[Query],
        response: falcon.Response,
        *,
        group: str,
        deadline: float,
        client: Client | None = None,
        asked: Freshness | None = None,
        retry: bool = False,
    ) -> bytes:
        """Run it, and give the body of the answer; ``queries`` are those of the steps.

        ``asked``: how fresh the data of reads must be. ``retry``: serialization failures and deadlocks are the
        gateway's to repeat. Raises a GatewayError with the outcome; where that is unknown, ``transaction`` is what to
        ask for later.
        """
        limit = self._max_result_bytes
        attempt = partial(transaction.run, work=work, deadline=deadline, client=client, max_bytes=limit)

        def reading(connection: Connection, guard: str) -> Answer:
            return attempt(connection, guard=guard)

        try:
            if work.writes:
                return self._write(work, response, attempt, group=group, deadline=deadline, client=client, retry=retry)
            return self._runner.read(response, group, reading, deadline, client, asked).body
        except QueryBroken as error:
            for query in queries if error.step is None else queries[error.step : error.step + 1]:
                self._plans.doubt(query)
            raise

    def _write(
        self,
        work: Work,
        response: falcon.Response,
        attempt: Attempt,
        *,
        group: str,
        deadline: float,
        client: Client | None,
        retry: bool,
    ) -> bytes:
        doubt: GatewayError | None = None  # of an earlier attempt, or of somebody else's with this key
        losses = waits = 0

        def dispel() -> None:
            nonlocal doubt
            doubt = None

        for number in itertools.count():
            run = partial(attempt, patience=KEY_GLANCE if waits else KEY_PATIENCE)
            if doubt is not None:
                run = partial(run, on_claimed=dispel)
            try:
                answer = self._runner.write(response, group, run, deadline, client)
            except Unresolved as lost:
                if work.claim is None:
                    return self._resolve(lost, response, group, deadline)
                # The key keeps the next attempt from running it twice.
                doubt = error = lost.error.but(transaction=None if lost.mark is None else lost.mark.token())
                losses += 1
                is_worth_it = losses < MOST_LOSSES
            except KeyInUse as waited:
                error = waited
                doubt = doubt or error
                waits += 1
                if self._paused_for_key(waits, deadline):
                    continue
                is_worth_it = False
            except GatewayError as failure:
                # The pool's errors know nothing of writes.
                error = failure.but(outcome=failure.outcome or Outcome.NOT_EXECUTED)
                losses += isinstance(failure, ConnectionLost)
                is_worth_it = losses < MOST_LOSSES and _may_be_repeated(failure, work, retry=retry)
            else:
                if answer.replayed:
                    response.set_header("Idempotency-Replayed", "true")
                return answer.body
            if not is_worth_it or not self._paused(number, deadline):
                if doubt is None or doubt is error or isinstance(error, IdempotencyMismatch):
                    raise error
                raise doubt from error
        raise AssertionError("unreachable")

    def _resolve(self, lost: Unresolved, response: falcon.Response, group: str, deadline: float) -> bytes:
        """What a server says of it: committed is a success like any other."""
        if lost.mark is None:
            raise lost.error

        def give_token(lease: Lease[Connection]) -> None:
            self._runner.give_token(response, lease, deadline)

        try:
            outcome = self._outcomes.find(lost.mark, [group], deadline, when_committed=give_token)
        except GatewayError:
            outcome = Outcome.UNKNOWN
        if outcome is Outcome.COMMITTED:
            return lost.body
        transaction = lost.mark.token() if outcome is Outcome.UNKNOWN else None
        raise lost.error.but(outcome=outcome, transaction=transaction)

    def _paused(self, attempt: int, deadline: float) -> bool:
        """Wait a little, at random, longer each time; False if the deadline is too near for another attempt."""
        pause = random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempt, 10))  # noqa: S311 - jitter
        if monotonic() + pause + 2 * _FIRST_PAUSE >= deadline:
            return False
        self._waits.pause(pause)
        return True

    def _paused_for_key(self, waits: int, deadline: float) -> bool:
        """The same where somebody else holds the key; shorter towards the deadline, where the last looks count."""
        left = deadline - monotonic()
        longest = min(_LONGEST_KEY_PAUSE, _FIRST_KEY_PAUSE * 2 ** min(waits, 10), left / 4)
        pause = random.uniform(0.5, 1.0) * longest  # noqa: S311 - jitter
        if pause + SAFETY_MARGIN >= left:
            return False
        self._waits.pause(pause)
        return True


def _may_be_repeated(error: GatewayError, work: Work, *, retry: bool) -> bool:
    """Whether the same request may succeed now, with nothing of it having happened."""
    if isinstance(error, SerializationFailure):
        return retry or error.sqlstate is None  # without one it is ours: the key came free meanwhile
    known = error.outcome in (Outcome.NOT_EXECUTED, Outcome.ROLLED_BACK)
    return isinstance(error, ConnectionLost) and (work.claim is not None or known)
