"""What is to happen in one transaction, and what came of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.postgres.idempotency import Claim
from gateway.postgres.marks import Mark
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan


class Step(NamedTuple):
    """One query, and its literals once the results before it are known."""

    plan: Plan
    bind: Callable[[Sequence[Result]], Sequence[str]]
    """Raises InvalidArguments where a result is not what the arguments need."""


class Work(NamedTuple):
    """What is to happen in one transaction."""

    steps: Sequence[Step]
    encode: Callable[[Sequence[Result]], bytes]
    """The body of the answer, made before the COMMIT is sent; may raise ResultTooLarge."""
    begin: str = "BEGIN"
    accumulated: Plan | None = None
    """How the one query of all steps runs where its results pile up; None: one message a step."""
    numbered: bool = True
    """Whether failures say which step it was."""
    tracked: bool = False
    """Whether a mark is taken before the COMMIT, where the server lets us."""
    claim: Claim | None = None
    rolls_back: bool = False
    """Whether it ends with ROLLBACK, once all is known to be ready for a COMMIT."""

    @property
    def writes(self) -> bool:
        """Whether any step may write; otherwise there is no outcome to speak of."""
        return any(step.plan.write for step in self.steps)


class Done(NamedTuple):
    """What a transaction came to: the body of a success."""

    body: bytes
    replayed: bool = False
    """It is what an earlier request with this key was answered."""


class Unresolved(Exception):
    """The connection broke after the COMMIT had left: nobody knows yet.

    With the mark, if there is one, and the answer if it was committed.
    """

    def __init__(self, error: GatewayError, mark: Mark | None, body: bytes) -> None:
        super().__init__(error.detail)
        self.error = error
        self.mark = mark
        self.body = body
