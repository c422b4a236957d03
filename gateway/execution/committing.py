"""Brings calls that are one transaction each to an end that is known.

They are run again where nothing happened; where something may have, the servers are asked.

A write is never run twice: it is run again only when its transaction is known to be gone, or when an idempotency key
is taken in that transaction, at which a second run ends if the first one committed. Once an attempt's COMMIT is lost,
the failure of a later one says nothing of it unless that one has held the key.
"""

import random
from collections.abc import Callable
from functools import partial
from time import monotonic

from msgspec.structs import replace

from gateway.errors import ConnectionLost, GatewayError, IdempotencyMismatch, Outcome, SerializationFailure
from gateway.execution.call import Answer, Call, TransactionCall, on_primary
from gateway.execution.outcomes import Outcomes
from gateway.execution.running import Runner
from gateway.pool.lease import Lease
from gateway.postgres import transaction
from gateway.postgres.idempotency import KeyInUse
from gateway.postgres.session import SAFETY_MARGIN, Session
from gateway.postgres.work import Done, Unresolved
from gateway.served import Served
from gateway.waiting import Waits

MOST_LOSSES = 3
"""Connections that one request may lose; a query that brings its backend down must not be run for ever."""
KEY_PATIENCE, KEY_GLANCE = 0.1, 0.01
"""Seconds for which a connection waits for a key that another request holds: the first time, and each time after. In
between no connection is held, so that repeats of one slow write do not keep all others from writing."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1
_FIRST_KEY_PAUSE, _LONGEST_KEY_PAUSE = 0.02, 0.25

RunWork = Callable[..., Done]
"""``transaction.run``, or what stands for it in a test."""


class Committer:
    """Runs transactions before their deadline."""

    def __init__(
        self,
        *,
        runner: Runner,
        outcomes: Outcomes,
        max_result_bytes: int,
        waits: Waits,
        run: RunWork = transaction.run,
    ) -> None:
        """``run`` runs a work on a connection."""
        self._run_work = run
        self._runner = runner
        self._outcomes = outcomes
        self._max_result_bytes = max_result_bytes
        self._waits = waits

    def run(self, call: TransactionCall) -> Answer:
        """Run the call's work all or nothing.

        Raises a GatewayError with the outcome, if it writes; where that is unknown, ``transaction`` is what to ask for
        later.
        """
        if not call.work.steps:
            return Answer(body=call.work.encode(()))
        if call.work.writes:
            return self._write(call)
        only_primary = any(step.plan.only_primary for step in call.work.steps)
        done, served = self._runner.read(on_primary(call) if only_primary else call, self._read)
        return Answer(body=done.body, served=served)

    def _read(self, call: TransactionCall, connection: Session, guard: str) -> Done:
        return self._run_work(
            connection,
            call.work,
            deadline=call.deadline,
            client=call.client,
            max_bytes=self._max_result_bytes,
            guard=guard,
            settings=call.settings,
        )

    def _write(self, call: TransactionCall) -> Answer:
        attempts = _Attempts(call, partial(self._run_work, max_bytes=self._max_result_bytes))
        while True:
            try:
                done, served = self._runner.write(call, attempts.run)
            except Unresolved as lost:
                if call.work.claim is None:
                    return self.resolve(call, lost)
                attempts.lost(lost)
            except KeyInUse as error:
                attempts.waited(error)
            except GatewayError as error:
                attempts.failed(error)
            else:
                if call.work.rolls_back:
                    served = replace(served, token=None)  # nothing was committed
                return Answer(body=done.body, served=served, replayed=done.replayed)
            self._waits.pause(attempts.pause())
            self._runner.repeated(call, attempts.failure)

    def resolve(self, call: Call, lost: Unresolved) -> Answer:
        """Ask the servers what became of it: committed is a success like any other. Raises a GatewayError."""
        error, mark = lost.error, lost.mark
        if mark is None:
            raise error
        tokens: list[str | None] = []

        def take_token(lease: Lease[Session]) -> None:
            tokens.append(self._runner.token(lease, call.deadline))

        try:
            outcome = self._outcomes.find(mark, [call.group], call.deadline, when_committed=take_token)
        except GatewayError:
            outcome = Outcome.UNKNOWN
        if outcome is not Outcome.COMMITTED:
            raise error.but(outcome=outcome, transaction=mark.token() if outcome is Outcome.UNKNOWN else None)
        return Answer(body=lost.body, served=_with_token(error.served, tokens))


class _Attempts:
    """The attempts at one call that writes, and what they leave to be known.

    After each that did not succeed one of ``lost``, ``waited`` and ``failed`` is called, and then ``pause``.
    """

    def __init__(self, call: TransactionCall, run: RunWork) -> None:
        self._call = call
        self._run_work = run
        self.failure = GatewayError()
        """What the last attempt failed with."""
        self._doubt: GatewayError | None = None
        """Failure of an attempt that may have committed, be it an earlier one or another request's with this key."""
        self._number = 0
        self._losses = 0
        self._waits = 0
        self._next: Callable[[], float | None] = self._pause

    def run(self, call: TransactionCall, connection: Session) -> Done:
        """Make one attempt."""
        return self._run_work(
            connection,
            call.work,
            deadline=call.deadline,
            client=call.client,
            settings=call.settings,
            patience=KEY_GLANCE if self._waits else KEY_PATIENCE,
            on_claimed=None if self._doubt is None else self._dispel,
        )

    def _dispel(self) -> None:
        """The key is held: no earlier transaction with it has committed, or ever will."""
        self._doubt = None

    def lost(self, lost: Unresolved) -> None:
        """Its COMMIT is not answered. The key keeps the next attempt from running it twice."""
        self.failure = self._doubt = lost.error.but(transaction=None if lost.mark is None else lost.mark.token())
        self._losses += 1
        self._next = self._pause if self._losses < MOST_LOSSES else _never

    def waited(self, error: KeyInUse) -> None:
        """Another request still holds the key."""
        self.failure = error
        self._doubt = self._doubt or error
        self._waits += 1
        self._next = self._pause_for_key

    def failed(self, error: GatewayError) -> None:
        """It ended, and what became of it is known."""
        self.failure = error
        self._losses += isinstance(error, ConnectionLost)
        is_worth_it = self._losses < MOST_LOSSES and _may_be_repeated(error, self._call)
        self._next = self._pause if is_worth_it else _never

    def pause(self) -> float:
        """Seconds to wait before the next attempt; raises the call's failure where another would be of no use."""
        seconds = self._next()
        self._number += 1
        if seconds is not None:
            return seconds
        failure, doubt = self.failure, self._doubt
        if doubt is None or doubt is failure or isinstance(failure, IdempotencyMismatch):
            raise failure
        raise doubt from failure

    def _pause(self) -> float | None:
        """A little, at random, longer each time; None if the deadline is too near for another attempt."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._number, 10))
        pause = random.uniform(0.5, 1.0) * longest  # noqa: S311 - jitter
        return None if monotonic() + pause + 2 * _FIRST_PAUSE >= self._call.deadline else pause

    def _pause_for_key(self) -> float | None:
        """Return the pause while another request holds the key: shorter towards the deadline, the last looks count."""
        left = self._call.deadline - monotonic()
        longest = min(_LONGEST_KEY_PAUSE, _FIRST_KEY_PAUSE * 2 ** min(self._waits, 10), left / 4)
        pause = random.uniform(0.5, 1.0) * longest  # noqa: S311 - jitter
        return None if pause + SAFETY_MARGIN >= left else pause


def _never() -> None:
    """No other attempt."""
    return


def _may_be_repeated(error: GatewayError, call: TransactionCall) -> bool:
    """Whether the same call may succeed now, with nothing of it having happened."""
    if isinstance(error, SerializationFailure):
        return call.retries or error.sqlstate is None  # without one it is ours: the key came free meanwhile
    known = error.outcome in (Outcome.NOT_EXECUTED, Outcome.ROLLED_BACK)
    return isinstance(error, ConnectionLost) and (call.work.claim is not None or known)


def _with_token(served: Served | None, tokens: list[str | None]) -> Served | None:
    return None if served is None else replace(served, token=tokens[-1] if tokens else None)
