"""Asks the server how it would run a call, or how it ran it, and undoes what that did."""

from collections.abc import Mapping, Sequence
from math import floor
from time import monotonic

from gateway.catalogue.types import Form
from gateway.errors import DeadlineExceeded, InvalidRequest
from gateway.postgres import single
from gateway.postgres.session import SAFETY_MARGIN, Session
from gateway.postgres.statement import Plan

_OPTIONS = "VERBOSE, SETTINGS, FORMAT JSON"


def explain(
    session: Session,
    plan: Plan,
    literals: Sequence[str],
    *,
    deadline: float,
    analyze: bool,
    settings: Mapping[str, str] = {},
) -> str:
    """Return the server's EXPLAIN of a plan with its literals, as JSON.

    ``analyze``: run it, too; the transaction is rolled back, but sequences go on, and what triggers and functions do
    elsewhere stays. Raises a GatewayError; InvalidRequest for a CALL, which has no plan.
    """
    if plan.form is Form.CALL:
        raise InvalidRequest(f"{plan.query} is a CALL, which has no plan")
    use = session.run
    use.deadline, use.client, use.settings = deadline, None, settings
    use.leaves_state = True
    limit = floor((deadline - monotonic() - SAFETY_MARGIN) * 1000)
    if limit <= 0:
        raise DeadlineExceeded("no time is left to explain it in")
    statement = _prepared(session, plan, literals)
    options = f"ANALYZE, BUFFERS, {_OPTIONS}" if analyze else _OPTIONS
    front = "; ".join(["BEGIN", *session.preface([plan], f"SET LOCAL statement_timeout = {limit}")])
    ((text,),) = session.ask(f"{front}; EXPLAIN ({options}) {statement}", deadline)
    session.ask("ROLLBACK", deadline)
    return text or "[]"


def _prepared(session: Session, plan: Plan, literals: Sequence[str]) -> str:
    """Return the statement that runs the plan. Raises a GatewayError where the server does not take it any more."""
    try:
        return single.statement(session, plan, literals)
    except Exception as error:
        raise session.explained(error) from error
