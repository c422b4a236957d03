"""Several statements in one transaction, or one whose outcome must be known: what is sent, in which messages.

Only the last result of a message comes back. So steps that need each other's results, and queries that nothing can
be wrapped around, go one a message; the same query many times accumulates its results in a setting and goes as one
message (100 INSERTs: less than half the time). The COMMIT is a message of its own, sent when everything is known:
results, answer, and the mark under which its outcome can be found out should the connection break.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import floor, inf
from time import monotonic
from typing import Any

import psycopg2

from gateway import errors
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import GatewayError, Outcome
from gateway.postgres import guarding, idempotency
from gateway.postgres.failures import Stage
from gateway.postgres.idempotency import Claim
from gateway.postgres.marks import FACTS, FACTS_AND_ORIGIN, Origin, mark_of
from gateway.postgres.piling import AT_ONCE, BEGIN, READ, TAMPERED, measured, unpiled
from gateway.postgres.prepared import is_forgotten
from gateway.postgres.session import SAFETY_MARGIN, Session
from gateway.postgres.single import KEPT, Result, attributed, checks_of, fetch, make_ready, statement
from gateway.postgres.statement import Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.postgres.work import Done, Unresolved, Work
from gateway.waiting import Client

IDLE_GRACE = 1.0
"""Seconds behind the deadline after which the server ends a transaction that nobody goes on with."""

TO_ASK = 0.25
"""Seconds left, at most, to ask what became of a marked transaction whose COMMIT is not answered."""

_OF_ONE_STEP = (errors.InvalidArguments, errors.Conflict, errors.Raised, errors.Forbidden, errors.QueryBroken)
"""Failures that some step is to blame for; the others would have met any."""
_INTERRUPTIONS = (psycopg2.Error, DeadlinePassed, ClientLeft, EndpointWithdrawn)
"""What a message may end with."""
_CANNOT_ACCUMULATE = "0A000"
_READING = ("SAVEPOINT gw_read", "SET LOCAL transaction_read_only = on")
_READ = "RELEASE SAVEPOINT gw_read"


def run(
    session: Session,
    work: Work,
    *,
    deadline: float,
    client: Client | None = None,
    max_bytes: int | None = None,
    guard: str = "",
    settings: Mapping[str, str] = {},
    patience: float = inf,
    on_claimed: Callable[[], None] | None = None,
) -> Done:
    """Run it all or nothing, and give the answer.

    ``client`` waits for the answer: a work that only reads ends when it hangs up, and ``guard`` (one of ``guarding``)
    may stop that: TooStale. ``settings`` hold for this transaction alone. For a key that another request holds it waits
    ``patience`` seconds, and at most until the deadline: KeyInUse.
    ``on_claimed`` is called when the key is held, before anything else is sent: from then on no earlier transaction
    with this key has committed, or ever will. It costs a message.
    Raises Unresolved, or a GatewayError with the outcome, if it writes, and the step that failed.
    """
    client = None if work.writes else client
    try:
        _undertake(session, [step.plan for step in work.steps], deadline, client)
        session.run.settings = settings
        try:
            return _Attempt(session, work, deadline, max_bytes, guard, patience, on_claimed).run()
        except _Forgotten:
            session.prepare_afresh()
            return _Attempt(session, work, deadline, max_bytes, guard, patience, on_claimed).run()
    except _Forgotten as error:
        raise session.explained(error.error, write=work.writes) from error
    except _INTERRUPTIONS as error:
        raise session.explained(error, write=work.writes) from error


def _undertake(session: Session, plans: Sequence[Plan], deadline: float, client: Client | None) -> None:
    """Get ready to run these in one transaction; ``client``: whose hanging up ends it, None: nobody's."""
    use = session.run
    use.stage = Stage.PREPARING
    use.deadline, use.client = deadline, client
    if client is not None and client.gone_at is not None and client.gone_at <= monotonic():
        raise ClientLeft
    use.leaves_state = use.leaves_state or not all(plan.harmless for plan in plans)
    writes = any(plan.write for plan in plans)
    use.wrote = use.wrote or writes
    use.reads = not writes
    use.silent_at = None
    if any(plan.form is Form.CALL for plan in plans):
        session.make_clean()  # its text is read with the settings that hold when the message comes


class _Forgotten(Exception):
    """The server does not know a statement of ours any more; nothing of the transaction has happened."""

    def __init__(self, error: psycopg2.Error) -> None:
        super().__init__()
        self.error = error


class _Attempt:
    """One transaction, from BEGIN to COMMIT."""

    def __init__(
        self,
        session: Session,
        work: Work,
        deadline: float,
        max_bytes: int | None,
        guard: str,
        patience: float,
        on_claimed: Callable[[], None] | None,
    ) -> None:
        self._session = session
        self._guard = guard
        self._patience = patience
        self._on_claimed = on_claimed
        self._work = work
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._writes = work.writes
        self._plans: Sequence[Plan] = [step.plan for step in work.steps]
        """What is run."""
        self._front = self._opening
        """Makes what goes in front of the next message."""
        self._origin: Origin | None = None
        self._to_mark = FACTS if session.prepares else FACTS_AND_ORIGIN
        self._facts: Sequence[bytes | None] = ()
        self._bytes = 0

    def run(self) -> Done:
        claim = self._work.claim
        try:
            return self._commit(self._body(self._results()))
        except psycopg2.Error as error:
            if is_forgotten(error):
                raise _Forgotten(error) from error
            if claim is None or self._session.closed:
                raise
            if (trouble := idempotency.trouble(error)) is not None:
                raise trouble from error
            if not idempotency.is_taken(error) and error.pgcode != "40001":
                raise
            # Under serializable isolation a repeat may be told 40001 rather than that the key is taken.
            replay = self._replay(claim)
            if replay is None and error.pgcode == "40001":
                raise
            if replay is None:
                raise errors.SerializationFailure("the key came free meanwhile", outcome=Outcome.ROLLED_BACK) from error
            return replay

    # -- messages --------------------------------------------------------------------------------------------------

    def _opening(self) -> list[str]:
        work = self._work
        # Should this process be frozen or cut off in the middle, its locks go not long after the deadline.
        idle = max(1, floor((self._left() + IDLE_GRACE) * 1000))
        abandoned = f"SET LOCAL idle_in_transaction_session_timeout = {idle}"
        guard: list[str] = []
        if self._guard and not self._session.prepares:
            # Through a pooler another message may reach another session. A transaction of its own, as the snapshot of
            # a repeatable read must not be older than what the guard sees.
            guard = ["BEGIN ISOLATION LEVEL READ COMMITTED", self._guard.rstrip("; "), "COMMIT"]
        guards = guarding.in_front(self._plans, prepared=self._session.prepares)
        own = [*self._limits(), abandoned, *self._claiming(), *guards]
        return [*guard, work.begin, *self._session.preface(self._plans, *own)]

    def _claiming(self) -> list[str]:
        """What takes the key, with a limit of its own to the wait for who has it."""
        if self._work.claim is None:
            return []
        claiming = idempotency.claiming(self._work.claim)
        left = self._left() - SAFETY_MARGIN
        if self._patience >= left:
            return [claiming]
        return [_lock_timeout(self._patience * 1000), claiming, _lock_timeout(left * 1000 - 10)]

    def _limits(self) -> list[str]:
        """A write gives up by itself a little before the deadline, so that its end is known."""
        if not self._writes:
            return []
        if not self._session.run.is_wanted:
            raise ClientLeft
        if self._left() <= 0:
            raise DeadlinePassed
        left = max(1, floor((self._left() - SAFETY_MARGIN) * 1000))
        return [f"SET LOCAL statement_timeout = {left}", _lock_timeout(left - 10)]

    def _send(self, *statements: str, stage: Stage = Stage.OPEN) -> Any:
        """Send one message of the transaction; a cursor on the result of its last statement."""
        session = self._session
        front, self._front = self._front(), self._limits
        session.run.stage = stage
        cursor = session.cursor()
        message = "; ".join([*front, *statements])
        if session.prepared.is_doubtful:  # only ever in front of the first one
            cursor.execute(session.front() + message)
            session.was_reset()
        else:
            cursor.execute(message)
        return cursor

    def _take_key(self) -> None:
        """In a message of its own, where somebody wants to know that it is held."""
        if self._on_claimed is not None:
            self._send()
            self._on_claimed()

    def _left(self) -> float:
        return self._deadline - monotonic()

    # -- results ---------------------------------------------------------------------------------------------------

    def _results(self) -> Sequence[Result]:
        work, session = self._work, self._session
        if self._guard and session.prepares:
            # Before the BEGIN: the snapshot of a repeatable read must not be older than what the guard sees.
            session.send(self._guard)
        self._origin = session.origin() if work.tracked else None
        if work.accumulated is not None and self._accepts(work.accumulated):
            one_by_one, self._plans = self._plans, [work.accumulated]
            try:
                return self._pile_up(work.accumulated)
            except psycopg2.Error as error:
                if guarding.was_too_long(error):
                    raise self._too_large() from error
                if not self._is_worth_a_loop(error):
                    raise
            session.send("ROLLBACK")
            session.run.stage = Stage.PREPARING
            self._plans, self._front = one_by_one, self._opening
            self._bytes = 0
        return self._one_by_one()

    def _accepts(self, plan: Plan) -> bool:
        """Whether the server takes the form that accumulates."""
        try:
            make_ready(self._session, plan)
        except psycopg2.Error as error:
            if error.pgcode != _CANNOT_ACCUMULATE:
                raise
            return False
        return True

    def _pile_up(self, plan: Plan) -> Sequence[Result]:
        """All steps, many a message."""
        results: list[Result] = []
        steps = self._work.steps
        self._take_key()
        for begin in range(0, len(steps), AT_ONCE):
            is_last = begin + AT_ONCE >= len(steps)
            facts = f", {self._to_mark}" if is_last and self._origin is not None else ""
            statements = [statement(self._session, plan, bind(results)) for _, bind in steps[begin : begin + AT_ONCE]]
            most = None if self._max_bytes is None or plan.kind is Kind.EXEC else self._max_bytes - self._bytes
            own = self._session.run.as_ourselves() if facts else []
            cursor = self._send(BEGIN, *measured(statements, most), *own, f"{READ}{facts}")
            piled, *self._facts = cursor.fetchone()
            found = unpiled(piled)
            if len(found) != len(statements):
                raise errors.QueryBroken(TAMPERED, outcome=Outcome.ROLLED_BACK if self._writes else None)
            self._weigh(found)
            results += found
        return results

    def _is_worth_a_loop(self, error: psycopg2.Error) -> bool:
        """Whether the steps one by one would tell which of them is to blame; they may even succeed."""
        session = self._session
        if session.closed or error.pgcode is None or self._is_ours(error) or self._left() <= SAFETY_MARGIN:
            return False
        return isinstance(session.explained(error, write=self._writes), _OF_ONE_STEP)

    def _one_by_one(self) -> Sequence[Result]:
        results: list[Result] = []
        steps = self._work.steps
        # Before the BEGIN: a statement that is not known any more could not be prepared again inside.
        firsts: dict[str, tuple[int, Plan]] = {}
        for index, step in enumerate(steps):
            firsts.setdefault(step.plan.name, (index, step.plan))
        for index, plan in firsts.values():
            with self._blaming(index, plan):
                make_ready(self._session, plan)
        self._take_key()
        for index, (plan, bind) in enumerate(steps):
            with self._blaming(index, plan):
                literals = bind(results)
            with self._blaming(index, plan, literals):
                results.append(self._step(plan, literals))
            self._weigh(results[-1:])
        if self._origin is not None:
            self._facts = self._send(*self._session.run.as_ourselves(), f"SELECT {self._to_mark}").fetchone()
        return results

    def _step(self, plan: Plan, literals: Sequence[str]) -> Result:
        text = statement(self._session, plan, literals)
        if not self._writes or plan.write or plan.harmless:
            return fetch(plan, self._send(text))
        # SECURITY: a read stays one among writes; what it calls could write otherwise.
        result = fetch(plan, self._send(*_READING, text))
        self._front = lambda: [_READ, *self._limits()]
        return result

    @contextmanager
    def _blaming(self, index: int, plan: Plan, literals: Sequence[str] = ()) -> Iterator[None]:
        """Name the step in what it fails with; but not in what is the key's business, or has us begin again."""
        work, session = self._work, self._session
        try:
            yield
        except _INTERRUPTIONS as error:
            if isinstance(error, psycopg2.Error) and self._is_ours(error):
                raise
            explained = session.explained(error, write=self._writes, reads=not plan.write)
            blamed = attributed(session, error, explained, plan, literals)
            raise blamed.but(step=index if work.numbered else None) from error
        except GatewayError as error:
            outcome = Outcome.ROLLED_BACK if self._writes else None
            raise error.but(step=index if work.numbered else None, outcome=outcome) from error

    def _is_ours(self, error: psycopg2.Error) -> bool:
        """Whether this is for ``run`` to look at, whichever step met it."""
        if is_forgotten(error):
            return True
        if self._work.claim is None or error.pgcode is None:
            return False
        is_the_keys = idempotency.is_taken(error) or idempotency.trouble(error) is not None
        return is_the_keys or error.pgcode == "40001"

    def _weigh(self, results: Sequence[Result]) -> None:
        size = sum(len(result.text) for result in results)
        if size > KEPT:
            self._session.outgrow(size)
        self._bytes += size
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> GatewayError:
        outcome = Outcome.ROLLED_BACK if self._writes else None
        return errors.ResultTooLarge(f"the results have more than {self._max_bytes} bytes", outcome=outcome)

    def _body(self, results: Sequence[Result]) -> bytes:
        try:
            return self._work.encode(results)
        except GatewayError as error:
            raise error.but(outcome=Outcome.ROLLED_BACK if self._writes else None) from error

    # -- the end ---------------------------------------------------------------------------------------------------

    def _commit(self, body: bytes) -> Done:
        work, session = self._work, self._session
        if self._origin is not None:
            self._deadline = session.run.deadline = self._deadline - min(TO_ASK, self._left() / 10)
        if self._writes and self._left() <= SAFETY_MARGIN:
            raise DeadlinePassed
        mark = None if self._origin is None else mark_of(self._origin, self._facts)
        # What is deferred to the COMMIT is the caller's again.
        as_caller = session.run.as_caller() if session.run.as_ourselves() else []
        keeping = [] if work.claim is None else [*session.run.as_ourselves(), idempotency.keeping(work.claim, body)]
        try:
            checks = checks_of(step.plan for step in work.steps)
            end = ["SET CONSTRAINTS ALL IMMEDIATE", "ROLLBACK"] if work.rolls_back else ["COMMIT"]
            stage = Stage.OPEN if work.rolls_back else Stage.COMMITTING
            cursor = self._send(*checks, *keeping, *as_caller, *end, stage=stage)
        except _INTERRUPTIONS as error:
            explained = session.explained(error, write=self._writes)
            if explained.outcome is Outcome.UNKNOWN:
                raise Unresolved(explained, mark, body) from error
            raise
        if cursor.statusmessage != end[-1]:
            outcome = Outcome.ROLLED_BACK if self._writes else None
            raise errors.QueryBroken("the server rolled the transaction back", outcome=outcome)
        return Done(body)

    def _replay(self, claim: Claim) -> Done | None:
        """The answer that was kept under the key; raises IdempotencyMismatch where it was another request's."""
        try:
            self._session.ask("ROLLBACK", self._deadline)
            kept = idempotency.look_up(self._session, claim, self._deadline)
        except GatewayError as error:
            raise error.but(outcome=Outcome.UNKNOWN) from error  # of the first request with this key
        if kept is None:
            return None
        if kept.request_hash != claim.request_hash:
            raise errors.IdempotencyMismatch("its arguments differ from those of now", outcome=Outcome.NOT_EXECUTED)
        return Done(kept.answer, replayed=True)


def _lock_timeout(milliseconds: float) -> str:
    return f"SET LOCAL lock_timeout = {max(1, floor(milliseconds))}"
