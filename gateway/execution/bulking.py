"""Runs writes whose records come while they run: one transaction, never run again once it has read a record."""

import random
from functools import partial
from math import inf
from time import monotonic

from msgspec.structs import replace

from gateway.errors import IdempotencyMismatch, Outcome, SerializationFailure, UnexpectedAffected
from gateway.execution.call import Answer, BulkCall
from gateway.execution.committing import KEY_GLANCE, KEY_PATIENCE, Committer
from gateway.execution.results import COMMITTED
from gateway.execution.running import Runner
from gateway.postgres import bulk, idempotency
from gateway.postgres.bulk import Bulk, KeyTaken
from gateway.postgres.idempotency import Kept, KeyInUse
from gateway.postgres.session import Session
from gateway.postgres.work import Done, Unresolved
from gateway.waiting import Waits

_PAUSE = 0.1
"""Seconds, about, between two looks whether a key has come free."""


class Bulks:
    """Runs bulk writes."""

    def __init__(self, *, runner: Runner, committer: Committer, waits: Waits) -> None:
        self._runner = runner
        self._committer = committer
        self._waits = waits

    def run(self, call: BulkCall) -> Answer:
        """Run it, all or nothing. Raises a GatewayError with the outcome, and the first record that failed as its step.

        Where the COMMIT is not answered the servers are asked what became of it.
        """
        work = Bulk(
            plan=call.plan,
            summing=call.summing,
            records=call.records,
            claim=call.claim,
            digest=call.digest,
            encode=partial(_encoded, most=call.most),
            seconds=call.query.timeout,
            ends=call.deadline if call.ends else inf,
        )
        patience = KEY_PATIENCE

        def attempt(call: BulkCall, connection: Session) -> Done:
            return bulk.run(connection, work, deadline=call.deadline, settings=call.settings, patience=patience)

        while True:
            try:
                done, served = self._runner.write(call, attempt)
            except Unresolved as lost:
                return self._committer.resolve(_later(call), lost)
            except KeyTaken:
                return self._replay(call)
            except KeyInUse:  # nothing of the records has been read
                patience = KEY_GLANCE
                pause = random.uniform(0.5, 1.0) * _PAUSE  # noqa: S311 - jitter
                if monotonic() + pause >= call.deadline:
                    raise
                self._waits.pause(pause)
            else:
                return Answer(body=done.body, served=served)

    def _replay(self, call: BulkCall) -> Answer:
        """Give the answer that was kept under the key, once all of the body is known to be the same."""
        call.drain()
        claim = call.claim
        if claim is None:
            raise AssertionError("no key can be taken")
        call = _later(call)

        def look_up(call: BulkCall, connection: Session) -> Kept | None:
            connection.run.wrote = False
            return idempotency.look_up(connection, claim, call.deadline)

        kept, served = self._runner.write(call, look_up)
        if kept is None:
            raise SerializationFailure("the key came free meanwhile", outcome=Outcome.NOT_EXECUTED)
        if kept.request_hash != call.digest():
            raise IdempotencyMismatch("its body differs from that of now", outcome=Outcome.NOT_EXECUTED)
        return Answer(body=kept.answer, served=replace(served, token=None), replayed=True)


def _encoded(touched: int, *, most: int | None) -> bytes:
    if most is not None and touched > most:
        raise UnexpectedAffected(f"the records touch {touched} rows, and may touch {most}")
    return b'{"affected":%d,%b' % (touched, COMMITTED)


def _later(call: BulkCall) -> BulkCall:
    """The same call with time for one message more: its body took as long as it took."""
    return call if call.ends else replace(call, deadline=max(call.deadline, monotonic() + call.query.timeout))
