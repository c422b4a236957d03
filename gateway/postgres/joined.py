"""Runs one plan for several calls at once: one statement, and for each call the result that it would have had alone."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec
import psycopg2

from gateway.catalogue.joining import join
from gateway.catalogue.query import Kind
from gateway.errors import InternalError
from gateway.postgres.failures import Stage
from gateway.postgres.prepared import is_forgotten
from gateway.postgres.session import Session
from gateway.postgres.single import KEPT, Result
from gateway.postgres.statement import Plan, label_of
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.rotation.endpoint import Role
from gateway.waiting import Client

_NO_ROW = Result(b"", 0)


class JoinedPlan(msgspec.Struct, frozen=True):
    """How several calls of one query run together, on connections that keep statements prepared."""

    plan: Plan
    """Of one call: a read whose result the server writes, with parameters."""
    name: str
    text: str

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """Make it of the plan of one call."""
        text = join(plan.text, [type_.sql for type_ in plan.types])
        return cls(plan, f"gw_{hashlib.sha256(f'{plan.name} {text}'.encode()).hexdigest()[:16]}", text)

    def prepare(self) -> str:
        """The PREPARE message."""
        types = ", ".join(["pg_catalog._text"] * len(self.plan.types))
        return f"PREPARE {label_of(self.plan.query)}{self.name}({types}) AS {self.text}"

    def execute(self, calls: Sequence[Sequence[str]]) -> str:
        """The statement that runs the prepared form for calls with these literals."""
        arrays = ", ".join([f"ARRAY[{', '.join(literals)}]" for literals in zip(*calls, strict=True)])
        return f"{self.plan.tag}EXECUTE {self.name}({arrays})"


def run(
    session: Session,
    joined: JoinedPlan,
    calls: Sequence[Sequence[str]],
    *,
    deadline: float,
    client: Client | None = None,
    guard: str = "",
    settings: Mapping[str, str] = {},
) -> list[Result | None]:
    """Run it for the literals of each call, and give what each is answered, in their order.

    None: the server does not send the result, as it is too large. It ends when ``client`` hangs up. ``guard`` and
    ``settings`` are as those of ``single.run``, for all of the calls. Raises a GatewayError, to which any of the calls
    may have led.
    """
    use = session.run
    use.deadline, use.client = deadline, client
    use.stage, use.reads, use.silent_at = Stage.PREPARING, True, None
    use.settings = settings
    if not joined.plan.harmless:
        use.leaves_state = True
    try:
        try:
            rows = _execute(session, joined, calls, guard)
        except psycopg2.Error as error:
            if not is_forgotten(error):
                raise
            session.prepare_afresh()
            if not session.prepares:
                raise  # each call is run by itself then
            rows = _execute(session, joined, calls, guard)
    except (psycopg2.Error, DeadlinePassed, ClientLeft, EndpointWithdrawn) as error:
        raise session.explained(error) from error
    if joined.plan.kind is Kind.MANY:
        results = [None if text is None else Result(text, int(count)) for count, text in rows]
    else:
        results = [_NO_ROW if text is None else Result(text, 1) for (text,) in rows]
    size = sum([len(result.text) for result in results if result is not None])
    if size > KEPT:
        session.outgrow(size)
    return results


def _execute(session: Session, joined: JoinedPlan, calls: Sequence[Sequence[str]], guard: str) -> list[Any]:
    """The rows that the server has for the calls."""
    plan, prepared = joined.plan, session.prepared
    if joined.name in prepared.names:
        prepared.names.move_to_end(joined.name)
    else:
        session.make_ready(joined)
    front = session.front() if prepared.is_doubtful else ""
    parts = []
    if session.run.settings or not plan.harmless:
        # SECURITY: a read-only session can be switched off by a plain SELECT of an earlier use.
        is_guarded = not plan.harmless and session.role is Role.PRIMARY
        parts = session.preface([plan], *(["SET LOCAL transaction_read_only = on"] if is_guarded else []))
    head = "".join(f"{part}; " for part in parts)
    cursor = session.kept_cursor
    if cursor is None:
        cursor = session.kept_cursor = session.cursor()
    session.run.stage = Stage.COMMITTING
    cursor.execute(f"{front}{head}{guard}{joined.execute(calls)}")
    if front:
        session.was_reset()
    rows: list[Any] = cursor.fetchall()
    if len(rows) != len(calls):
        raise InternalError("a statement for several calls gave another number of rows")
    return rows
