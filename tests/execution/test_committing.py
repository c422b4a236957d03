"""What is answered of a write whose attempts failed in one way or another; real servers are in ``tests/live``."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from gateway import errors
from gateway.errors import GatewayError, Outcome
from gateway.execution.call import TransactionCall
from gateway.execution.committing import Committer
from gateway.postgres.idempotency import Claim, KeyInUse
from gateway.postgres.marks import Mark
from gateway.postgres.work import Done, Step, Unresolved, Work
from gateway.served import Served
from gateway.waiting import ThreadWaits

MARK = Mark(system=1, timeline=1, xid=3, position=1, life=0, taken=0)
Happening = Callable[[Callable[[], None] | None], Done]
"""Given what is to be called when the key is held."""


class Plan:
    """Of a write."""

    write = True


class Scripted:
    """In the place of the runner and of the server: each attempt goes as the next of ``left`` has it."""

    def __init__(self, *happenings: Happening) -> None:
        self.left = list(happenings)
        self.reasons: list[str] = []

    def write(self, call: TransactionCall, attempt: Callable[[TransactionCall, Any], Done]) -> tuple[Done, Served]:
        return attempt(call, None), Served(endpoint="p")

    def repeated(self, _call: TransactionCall, error: GatewayError) -> None:
        self.reasons.append(error.code)

    def run(self, _connection: Any, _work: Work, *, on_claimed: Callable[[], None] | None, **_: Any) -> Done:
        return self.left.pop(0)(on_claimed)


def fails(error: GatewayError) -> Happening:
    """Without having held the key."""

    def happen(_: Callable[[], None] | None) -> Done:
        raise error

    return happen


def fails_with_the_key(error: GatewayError) -> Happening:
    def happen(on_claimed: Callable[[], None] | None) -> Done:
        assert on_claimed is not None
        on_claimed()
        raise error

    return happen


def loses_its_commit(_: Callable[[], None] | None) -> Done:
    raise Unresolved(errors.ConnectionLost("lost", outcome=Outcome.UNKNOWN), MARK, b"")


def lost(outcome: Outcome) -> Happening:
    return fails(errors.ConnectionLost("lost", outcome=outcome))


def end_of(*happenings: Happening) -> GatewayError:
    """What a write with a key is answered when its attempts end like this."""
    plan: Any = Plan()
    work = Work([Step(plan, lambda _: [])], lambda _: b"", claim=Claim("", "k", "h"))
    runner: Any = Scripted(*happenings)
    nobody: Any = None
    committer = Committer(runner=runner, outcomes=nobody, max_result_bytes=1, waits=ThreadWaits(), run=runner.run)
    with pytest.raises(GatewayError) as caught:
        committer.run(TransactionCall(group="g", deadline=monotonic() + 5, queries=[], work=work))
    assert runner.left == []
    return caught.value


@pytest.mark.parametrize(
    "later",
    [
        [lost(Outcome.ROLLED_BACK), lost(Outcome.ROLLED_BACK)],
        [lost(Outcome.NOT_EXECUTED), fails(errors.NoEndpoint("nobody is left"))],
        [fails(errors.DeadlineExceeded("late", outcome=Outcome.NOT_EXECUTED))],
        [fails(errors.BackendUnavailable("it goes", outcome=Outcome.NOT_EXECUTED, sqlstate="57P01"))],
        [fails(errors.PoolTimeout("all are busy"))],
        [fails(errors.QueryBroken("no table for keys", outcome=Outcome.NOT_EXECUTED))],
    ],
)
def test_a_lost_commit_stays_in_doubt_whatever_an_attempt_without_the_key_fails_with(later: list[Happening]) -> None:
    error = end_of(loses_its_commit, *later)
    assert (error.code, error.outcome, error.transaction) == ("connection_lost", "unknown", MARK.token())


def test_a_key_that_is_in_use_leaves_it_open_what_became_of_the_request_that_has_it() -> None:
    error = end_of(fails(in_use()), fails(in_use()), fails(errors.PoolTimeout("all are busy")))
    assert (error.code, error.outcome) == ("deadline_exceeded", "unknown")


def in_use() -> GatewayError:
    return KeyInUse("another still runs", outcome=Outcome.UNKNOWN)


def test_who_has_held_the_key_knows_that_nobody_committed_before() -> None:
    error = end_of(loses_its_commit, fails_with_the_key(errors.Conflict("no", outcome=Outcome.ROLLED_BACK)))
    assert (error.code, error.outcome) == ("conflict", "rolled_back")


def test_what_was_certain_once_stays_so() -> None:
    gone = errors.ConnectionLost("gone", outcome=Outcome.ROLLED_BACK)
    error = end_of(loses_its_commit, fails_with_the_key(gone), lost(Outcome.NOT_EXECUTED))
    assert (error.code, error.outcome) == ("connection_lost", "not_executed")


def test_a_key_that_another_request_has_kept_is_not_ours() -> None:
    mismatch = errors.IdempotencyMismatch("another's", outcome=Outcome.NOT_EXECUTED)
    error = end_of(loses_its_commit, fails(mismatch))
    assert (error.code, error.outcome) == ("idempotency_mismatch", "not_executed")
