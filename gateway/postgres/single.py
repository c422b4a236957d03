"""Runs one plan on a session: one message, and the result as the server wrote it."""

from collections.abc import Iterable, Mapping, Sequence
from math import floor
from time import monotonic
from typing import Any

import msgspec
import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR

from gateway import errors
from gateway.catalogue.arguments import NULL, literal
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import GatewayError, Outcome
from gateway.postgres import failures, guarding
from gateway.postgres.attributing import refused_arguments
from gateway.postgres.failures import Stage
from gateway.postgres.prepared import is_forgotten
from gateway.postgres.session import SAFETY_MARGIN, Session, text_of
from gateway.postgres.statement import Plan, explained
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.rotation.endpoint import Role
from gateway.waiting import Client

# PERF: Python 3.11 takes four times as long to find a member in its enum as a name in a module.
CALL, WRAPPED = Form.CALL, Form.WRAPPED
PREPARING, COMMITTING = Stage.PREPARING, Stage.COMMITTING

KEPT = 65536
"""Bytes of a result that an idle connection may hold on to."""
EARLY = 300
"""Milliseconds by which a write may be given up too early, so that its limit need not be set anew."""
LONG = 1000
"""Milliseconds from which on that is little."""
_NOT_UTF8 = "the database holds text that is not UTF-8, and does not know its encoding (SQL_ASCII)"
_SYNTAX_OR_ACCESS = "42"
"""Class of codes; ``errors.QueryBroken``, unless a value is to blame."""
_AGAIN = "gw_again"
"""Name of a plan that is prepared to see whether that can be done, and is gone at once."""


class Result(msgspec.Struct, frozen=True):
    """What a query gave."""

    text: bytes
    """JSON: rows as objects joined by commas, one object, or a value; empty where there was no row, and for exec."""
    row_count: int
    """Rows answered, or touched."""


_NOTHING = Result(b"", 0)


def run(
    session: Session,
    plan: Plan,
    literals: Sequence[str],
    *,
    deadline: float,
    client: Client | None = None,
    max_bytes: int | None = None,
    guard: str = "",
    settings: Mapping[str, str] = {},
) -> Result:
    """Run a plan with its literals (in the order of ``$1`` …) and give what it answered.

    A read ends when ``client`` hangs up; a write runs to its end. A plain write is one message and its own
    transaction. ``guard`` (one of ``guarding``) goes in front of a read and may stop it: TooStale.
    ``settings`` hold for this plan alone. Raises a GatewayError, with the outcome for a write.
    """
    use = session.run
    use.deadline = deadline
    if plan.write:
        use.client, use.reads, use.wrote = None, False, True
    else:
        use.client, use.reads = client, True
        if client is not None and client.gone_at is not None and client.gone_at <= monotonic():
            raise failures.interrupted(deadline=False, write=False, stage=PREPARING)
    if not plan.harmless:
        use.leaves_state = True
    use.stage = PREPARING
    use.silent_at = None
    use.limit = 0
    use.settings = settings
    try:
        try:
            result = _execute(session, plan, literals, guard)
        except psycopg2.Error as error:
            # Whatever the message did before it failed was rolled back with it.
            if not is_forgotten(error):
                raise
            session.prepare_afresh()
            result = _execute(session, plan, literals, guard)
    except (DeadlinePassed, ClientLeft, EndpointWithdrawn) as error:
        raise session.explained(error, write=plan.write) from error
    except psycopg2.Error as error:
        raise attributed(session, error, session.explained(error, write=plan.write), plan, literals) from error
    except errors.ResultTooLarge as error:
        is_over = session.get_transaction_status() == TRANSACTION_STATUS_IDLE
        became = Outcome.COMMITTED if is_over else Outcome.ROLLED_BACK
        raise error.but(outcome=became if plan.write else None) from error
    if use.limit:
        session.left.write_limit, use.limit = use.limit, 0
    size = len(result.text)
    if size > KEPT:
        session.outgrow(size)
    if max_bytes is not None and size > max_bytes:
        outcome = Outcome.COMMITTED if plan.write else None
        raise errors.ResultTooLarge(f"the result has more than {max_bytes} bytes", outcome=outcome)
    return result


def make_ready(session: Session, plan: Plan) -> None:
    """Have a plan prepared, if that is how it runs, and its guard."""
    if session.prepares:
        if plan.form is not CALL:
            session.make_ready(plan)
        if plan.guard is not None:
            session.make_ready(plan.guard)


def checks_of(plans: Iterable[Plan]) -> list[str]:
    """Return the statements that must succeed behind these plans before what they did is committed, each once."""
    return list({plan.check.text: None for plan in plans if plan.check is not None})


def statement(session: Session, plan: Plan, literals: Sequence[str]) -> str:
    """Return the text that runs a plan, which is prepared first if that is how it runs."""
    if plan.form is CALL or not session.prepares:
        return plan.inline(literals)
    session.make_ready(plan)
    return plan.execute(literals)


def fetch(plan: Plan, cursor: Any) -> Result:
    """Return the result of a plan whose statement was the last one ``cursor`` ran, inside a transaction."""
    if plan.form is WRAPPED:
        row = cursor.fetchone()
        if row is None:
            return _NOTHING
        return Result(row[0], 1) if len(row) == 1 else _joined(plan, row)
    if plan.kind is Kind.EXEC:
        return Result(b"", max(cursor.rowcount, 0) if plan.form is Form.PLAIN else 0)
    rows = _encoded(plan, cursor)
    return Result(b",".join(rows), len(rows))


def attributed(
    session: Session, error: BaseException, refused: GatewayError, plan: Plan, literals: Sequence[str]
) -> GatewayError:
    """Name the arguments that are no values of their types, if that is why the server refused the statement.

    Some types say so with a syntax error or a missing object (tsquery, jsonpath, regclass), which by the code
    alone would be the catalogue's fault. Where the plan, or what goes with it, cannot even be analysed any more it was
    a migration. Where it can, and be planned without values, it was a value that a builtin function takes for a text of
    its own language or a name (``to_tsquery``, ``current_setting``). Ends the transaction if it must ask.
    """
    if session.closed or not isinstance(refused, errors.InvalidArguments | errors.QueryBroken):
        return refused
    deadline = session.run.deadline
    try:
        if session.get_transaction_status() == TRANSACTION_STATUS_INERROR:
            session.ask("ROLLBACK", deadline)
        if _is_stale(session, plan, refused):
            return failures.stale(write=plan.write, stage=session.run.stage, sqlstate=refused.sqlstate)
        faults = refused_arguments(
            lambda sql: session.ask(sql, deadline), plan, literals, server_version=session.server_version
        )
        if not faults and not failures.raised_inside(error) and _needs_other_values(session, plan, refused):
            given = [name for name, text in zip(plan.parameters, literals, strict=True) if text != NULL]
            return failures.unfit_value(refused, given) if given else refused
    except GatewayError:
        return refused
    if faults:
        return failures.wrong_arguments(refused, faults)
    if refused.sqlstate == "22021" and session.get_parameter_status("server_encoding") == "SQL_ASCII":
        return errors.QueryBroken(_NOT_UTF8, outcome=refused.outcome, sqlstate=refused.sqlstate)
    return refused


def _is_stale(session: Session, plan: Plan, refused: GatewayError) -> bool:
    """Whether a statement would fail by itself that the server took when the plan was learnt.

    Raises a GatewayError when the connection breaks.
    """
    looks = [guard.text for guard in (plan.guard, plan.check) if guard is not None]
    if plan.form is not CALL and (plan.write or isinstance(refused, errors.QueryBroken)):
        looks.append(f"{plan.prepare(_AGAIN)}\n; DEALLOCATE {_AGAIN}")
    for look in looks:
        try:
            session.ask(look, session.run.deadline)
        except GatewayError as error:
            if error.sqlstate is None:
                raise
            return True
    return False


def _needs_other_values(session: Session, plan: Plan, refused: GatewayError) -> bool:
    """Whether the query, which is known to be analysed, can be planned without values.

    Raises a GatewayError when the connection breaks.
    """
    if plan.form is CALL or (refused.sqlstate or "")[:2] != _SYNTAX_OR_ACCESS:
        return False
    try:
        session.ask(explained(plan.text, plan.types, server_version=session.server_version), session.run.deadline)
    except GatewayError as error:
        if error.sqlstate is None:
            raise
        return False
    return True


def _execute(session: Session, plan: Plan, literals: Sequence[str], guard: str) -> Result:
    prepared, prepares, form = session.prepared, session.prepares, plan.form
    front = ""
    if form is CALL or not prepares:
        if prepared.is_doubtful:
            session.make_clean()
        make_ready(session, plan)
        text = plan.inline(literals)
    else:
        name = plan.name
        if name in prepared.names:
            prepared.names.move_to_end(name)
        else:
            session.make_ready(plan)
        # PERF: as plan.execute() would write it, without a call of it.
        text = f"{plan.tag}EXECUTE {name}({', '.join(literals)})" if literals else plan.execute(literals)
        if plan.guard is not None and plan.guard.name not in prepared.names:
            session.make_ready(plan.guard)
        if prepared.is_doubtful:
            front = session.front()
    if guard:
        text = (guard if prepares else guarding.READ_COMMITTED + guard) + text
    run = session.run
    if plan.write or not plan.harmless or not prepares or run.settings:
        text = _head(session, plan) + text
    if form is not WRAPPED or plan.check is not None:
        return _run_unwrapped(session, plan, front, text)
    cursor = session.kept_cursor
    if cursor is None:
        cursor = session.kept_cursor = session.cursor()
    run.stage = COMMITTING
    if front:
        cursor.execute(front + text)
        session.was_reset()
    else:
        cursor.execute(text)
    row = cursor.fetchone()  # PERF: as fetch()
    if row is None:
        return _NOTHING
    return Result(row[0], 1) if len(row) == 1 else _joined(plan, row)


def _joined(plan: Plan, row: tuple[bytes, bytes | None]) -> Result:
    """The rows that the server has counted and joined; raises ResultTooLarge where it sends only their number."""
    count, text = int(row[0]), row[1]
    if text is None:
        _require_few(plan, count)
        raise errors.ResultTooLarge(f"the result has more than {plan.max_bytes} bytes")
    return Result(text, count)


def _require_few(plan: Plan, rows: int) -> None:
    if plan.max_rows is not None and rows > plan.max_rows:
        raise errors.ResultTooLarge(f"more than {plan.max_rows} rows")


def _run_unwrapped(session: Session, plan: Plan, front: str, text: str) -> Result:
    """Run what answers no JSON by itself, or must be checked before it is committed."""
    cursor = session.cursor()
    if not plan.transaction:
        session.run.stage = COMMITTING
        cursor.execute(front + text)
        if front:
            session.was_reset()
        return Result(b"", max(cursor.rowcount, 0))
    session.run.stage = Stage.OPEN
    cursor.execute(f"{front}BEGIN; {text}")
    if front:
        session.was_reset()
    result = fetch(plan, cursor)
    session.run.stage = COMMITTING
    cursor.execute("; ".join([*checks_of([plan]), "COMMIT"]))
    if cursor.statusmessage != "COMMIT":
        raise errors.QueryBroken("the server rolled the transaction back", outcome=Outcome.ROLLED_BACK)
    return result


def _encoded(plan: Plan, cursor: Any) -> list[bytes]:
    """Have the server write the JSON of rows it sent as text."""
    if cursor.description is None:
        return []
    if [column[:2] for column in cursor.description] != [(column.name, column.type.oid) for column in plan.columns]:
        raise failures.stale(write=plan.write, stage=Stage.OPEN, sqlstate=None)
    if plan.kind is Kind.MANY:
        _require_few(plan, cursor.rowcount)
    rows = cursor.fetchall() if plan.kind is Kind.MANY else cursor.fetchmany(1)
    if not rows:
        return []
    texts = [["NULL" if value is None else literal(text_of(value) or "") for value in row] for row in rows]
    cursor.execute(plan.encode_rows(texts))
    return [row[0] for row in cursor.fetchall()]


def _limits(session: Session, plan: Plan, most: int) -> str:
    """What has the server give up a write after so many milliseconds; the lock a little earlier, so that it is named.

    PERF: to set both costs the server a fifth of an INSERT. What the session was told for an earlier write holds on, if
    it ends this one in time and not much too early. It is believed once the message that told it has succeeded: had
    that failed, it would have been rolled back, or not.
    """
    if most < LONG or not session.prepares or not plan.harmless:
        return f"SET LOCAL statement_timeout = {most}; SET LOCAL lock_timeout = {max(1, most - 10)}; "
    if most - EARLY <= session.left.write_limit <= most:
        return ""
    session.left.write_limit, session.run.limit = 0, most - EARLY // 2
    return f"SET statement_timeout = {session.run.limit}; SET lock_timeout = {session.run.limit - 10}; "


def _head(session: Session, plan: Plan) -> str:
    """What must be set for this message alone, in front of the statement."""
    prepares, own = session.prepares, ""
    if plan.write:
        if not session.run.is_wanted:
            raise ClientLeft
        left = session.run.deadline - monotonic()
        if left <= 0:
            raise DeadlinePassed
        own = _limits(session, plan, max(1, floor((left - SAFETY_MARGIN) * 1000)))
        if plan.guard is not None:
            own += f"EXECUTE {plan.guard.name}; " if prepares else f"{plan.guard.text}; "
    elif not plan.harmless and session.role is Role.PRIMARY:
        # SECURITY: a read-only session can be switched off by a plain SELECT of an earlier use.
        own = "SET LOCAL transaction_read_only = on; "
    if prepares and not session.run.settings and (plan.harmless or not session.left.sequences_stale):
        return own  # PERF: there is nothing else
    parts = session.preface([plan], *([own.removesuffix("; ")] if own else []))
    return "".join([f"{part}; " for part in parts])
