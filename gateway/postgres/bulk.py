"""One write run for record after record, in one transaction, whose records come while it runs.

Hundreds of records go in a message, behind a savepoint. Where such a message fails its records are sent again one by
one: so the one that is to blame is known, though all is rolled back in the end.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import floor
from time import monotonic
from typing import NamedTuple

import psycopg2

from gateway import errors
from gateway.catalogue.wrapping import TOTAL
from gateway.errors import GatewayError, Outcome
from gateway.postgres import guarding, idempotency
from gateway.postgres.failures import Stage
from gateway.postgres.idempotency import Claim
from gateway.postgres.marks import FACTS, FACTS_AND_ORIGIN, mark_of
from gateway.postgres.session import SAFETY_MARGIN, Session
from gateway.postgres.single import attributed, checks_of, make_ready, statement
from gateway.postgres.statement import Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.postgres.work import Done, Unresolved

AT_ONCE = 500
"""Records of one message, and"""
MOST_TEXT = 256 << 10
"""characters of one, about."""
LONGEST_PAUSE = 60
"""Seconds without a message after which the server ends the transaction. A client that is slower is given up before."""

_SAVEPOINT, _RELEASE, _BACK = "SAVEPOINT gw_bulk", "RELEASE SAVEPOINT gw_bulk", "ROLLBACK TO SAVEPOINT gw_bulk"
_INTERRUPTIONS = (psycopg2.Error, DeadlinePassed, ClientLeft, EndpointWithdrawn)
_OF_A_RECORD = (errors.InvalidArguments, errors.Conflict, errors.Raised, errors.Forbidden, errors.QueryBroken)
"""Failures that some record is to blame for; the others would have met any."""


class KeyTaken(Exception):
    """The idempotency key was used before; nothing has happened."""


class Bulk(NamedTuple):
    """What is to happen."""

    plan: Plan
    """How the write runs by itself."""
    summing: Plan | None
    """How it runs where it adds the rows it touches to a setting; None: nothing can be put around it."""
    records: Iterator[Sequence[str]]
    """The literals of each record; may raise a GatewayError, once, and gives nothing behind it."""
    claim: Claim | None
    digest: Callable[[], str]
    """The request's hash, once all records have come."""
    encode: Callable[[int], bytes]
    """The answer, from how many rows were touched."""
    seconds: float
    """For each message."""
    ends: float
    """Point of ``time.monotonic`` by which all must have happened."""


def run(session: Session, bulk: Bulk, *, deadline: float, settings: Mapping[str, str], patience: float) -> Done:
    """Run it, all or nothing, and give the answer.

    It must have begun by ``deadline``. For a key that another request holds it waits ``patience`` seconds.

    Nothing of the records is read before the server has begun the transaction and the key is held. Raises KeyInUse,
    KeyTaken, Unresolved, or a GatewayError with the outcome, and the first record that failed as its step. What was
    begun on some records has the outcome ``rolled_back``, and is never to be run again.
    """
    use = session.run
    use.stage = Stage.PREPARING
    use.client, use.reads, use.silent_at = None, False, None
    use.wrote, use.settings, use.deadline = True, settings, deadline
    use.leaves_state = use.leaves_state or not bulk.plan.harmless
    work = _Attempt(session, bulk, patience)
    try:
        work.begin()
    except _INTERRUPTIONS as error:
        raise session.explained(error, write=True) from error
    try:
        return work.go_on()
    except GatewayError as error:
        if error.outcome in (None, Outcome.NOT_EXECUTED):  # of records, or from where a second run would begin anew
            raise error.but(outcome=Outcome.ROLLED_BACK) from error
        raise


class _Attempt:
    """One transaction, from BEGIN to COMMIT."""

    def __init__(self, session: Session, bulk: Bulk, patience: float) -> None:
        self._session = session
        self._bulk = bulk
        self._patience = patience
        self._plan = bulk.summing or bulk.plan
        self._origin = session.origin()
        self._touched = 0
        """Rows touched by what does not sum them up by itself."""
        self._failure: GatewayError | None = None
        """Why no more records can be read."""
        self._done = 0
        """Records that have been sent."""

    # -- messages --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the transaction and take the key."""
        session, bulk = self._session, self._bulk
        if session.prepared.is_doubtful:
            session.make_clean()
        make_ready(session, bulk.plan)
        try:
            if bulk.summing is not None:
                make_ready(session, bulk.summing)
        except psycopg2.Error as error:
            if error.pgcode != "0A000":  # a table with rules
                raise
            self._plan = bulk.plan
        own = [
            f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_PAUSE}s'",
            f"SELECT pg_catalog.set_config('{TOTAL}', '0', true)",
            *self._limits(),
        ]
        if bulk.claim is not None:
            own += [
                f"SET LOCAL lock_timeout = {max(1, floor(self._patience * 1000))}",
                idempotency.claiming(bulk.claim),
            ]
        own += [*self._limits(), *guarding.in_front([bulk.plan], prepared=session.prepares)]
        front = ["BEGIN READ WRITE", *session.preface([bulk.plan], *own)]
        session.run.stage = Stage.OPEN
        try:
            session.send("; ".join(front))
        except psycopg2.Error as error:
            if session.closed:
                raise
            if idempotency.is_taken(error):
                raise KeyTaken from error
            if (trouble := idempotency.trouble(error)) is not None:
                raise trouble from error
            raise

    def go_on(self) -> Done:
        """Send the records as they come, and commit."""
        while chunk := self._next():
            self._send(chunk)
        if self._failure is not None:
            raise self._failure
        return self._commit()

    def _next(self) -> list[Sequence[str]]:
        """The records of the next message; behind the last one none.

        Where a record is none, or no more can be read, that is the failure of all once these are sent: one of them may
        fail as well, and would be the first then.
        """
        chunk: list[Sequence[str]] = []
        size = 0
        try:
            for literals in self._bulk.records:
                chunk.append(literals)
                size += sum(map(len, literals))
                if len(chunk) >= AT_ONCE or size >= MOST_TEXT:
                    break
        except GatewayError as error:
            self._failure = error
        return chunk

    def _limits(self) -> list[str]:
        """A message gives up by itself a little before its deadline, so that its end is known."""
        bulk, now = self._bulk, monotonic()
        if not self._session.run.is_wanted:
            raise ClientLeft
        left = min(bulk.seconds, bulk.ends - now)
        if left <= SAFETY_MARGIN:
            raise DeadlinePassed
        self._session.run.deadline = now + left
        milliseconds = max(1, floor((left - SAFETY_MARGIN) * 1000))
        return [
            f"SET LOCAL statement_timeout = {milliseconds}",
            f"SET LOCAL lock_timeout = {max(1, milliseconds - 10)}",
        ]

    def _send(self, chunk: Sequence[Sequence[str]]) -> None:
        """Send records in one message; raises a GatewayError, with the record to blame."""
        session = self._session
        try:
            if self._plan is not self._bulk.summing:
                self._one_by_one(chunk)
                return
            texts = [statement(session, self._plan, literals) for literals in chunk]
            session.cursor().execute("; ".join([*self._limits(), _SAVEPOINT, *texts, _RELEASE]))
        except _INTERRUPTIONS as error:
            explained = session.explained(error, write=True)
            if not isinstance(explained, _OF_A_RECORD) or session.closed:
                raise explained from error
            session.ask(_BACK, session.run.deadline)
            self._one_by_one(chunk)
        self._done += len(chunk)

    def _one_by_one(self, chunk: Sequence[Sequence[str]]) -> None:
        session, plan = self._session, self._plan
        for index, literals in enumerate(chunk):
            try:
                cursor = session.cursor()
                cursor.execute("; ".join([*self._limits(), statement(session, plan, literals)]))
            except _INTERRUPTIONS as error:
                explained = attributed(session, error, session.explained(error, write=True), plan, literals)
                raise explained.but(step=self._done + index) from error
            if plan is not self._bulk.summing:
                self._touched += max(cursor.rowcount, 0)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _commit(self) -> Done:
        session, bulk, origin = self._session, self._bulk, self._origin
        facts = FACTS if session.prepares else FACTS_AND_ORIGIN
        asked = f"SELECT pg_catalog.current_setting('{TOTAL}'){'' if origin is None else f', {facts}'}"
        try:
            cursor = session.cursor()
            cursor.execute("; ".join([*self._limits(), asked]))
            ((total, *found),) = cursor.fetchall()
        except _INTERRUPTIONS as error:
            raise session.explained(error, write=True) from error
        mark = None if origin is None else mark_of(origin, found)
        body = bulk.encode(self._touched + int(total))
        # What is deferred to the COMMIT is the caller's again.
        as_caller = session.run.as_caller() if session.run.as_ourselves() else []
        keeping = []
        if bulk.claim is not None:
            keeping = [
                *session.run.as_ourselves(),
                idempotency.keeping(bulk.claim, body, digest=bulk.digest()),
                *as_caller,
            ]
        try:
            limits = self._limits()
            session.run.stage = Stage.COMMITTING
            cursor.execute("; ".join([*limits, *checks_of([bulk.plan]), *keeping, "COMMIT"]))
        except _INTERRUPTIONS as error:
            if isinstance(error, psycopg2.Error) and (trouble := idempotency.trouble(error)) is not None:
                raise trouble from error
            explained = session.explained(error, write=True)
            if explained.outcome is Outcome.UNKNOWN:
                raise Unresolved(explained, mark, body) from error
            raise explained from error
        if cursor.statusmessage != "COMMIT":
            raise errors.QueryBroken("the server rolled the transaction back", outcome=Outcome.ROLLED_BACK)
        return Done(body)
