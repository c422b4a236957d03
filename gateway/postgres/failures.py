"""From what psycopg2 and the wait raise to errors of ours, with the outcome of a write.

The outcome's rule: a message that ended in an error over a living connection was rolled back; a connection that
broke before the statement left means it was not executed, before a COMMIT left that it was rolled back, and after
that nobody knows.
"""

from collections.abc import Sequence
from enum import Enum

import psycopg2.errorcodes

from gateway import errors
from gateway.errors import ArgumentFault, GatewayError, Outcome
from gateway.postgres.sqlstate import error_class


class Stage(Enum):
    """How far a query has come when something goes wrong."""

    PREPARING = "nothing of the statement has been sent"
    OPEN = "sent inside a transaction whose COMMIT has not been sent"
    COMMITTING = "sent, and committed when it succeeds"


_IF_LOST = {
    Stage.PREPARING: Outcome.NOT_EXECUTED,
    Stage.OPEN: Outcome.ROLLED_BACK,
    Stage.COMMITTING: Outcome.UNKNOWN,
}
_ON_A_STANDBY = ("25006", "0A000")
"""What refuses a write there, or the serializable transaction it is to be in."""
_MOST_IN_DETAIL = 3
_JOINS = "enlargeStringInfo"
"""The server's function that the rows of a result outgrow; its message may be in any language."""
_EXPLAINED = {
    "22001": "is too long",
    "22003": "is out of range for {type}",
    "23514": "does not satisfy the constraints of {type}",
    "23502": "must not be null",
}


def interrupted(*, deadline: bool, write: bool, stage: Stage) -> GatewayError:
    """The wait was cut short by the deadline or by the client; the connection is closed."""
    outcome = _IF_LOST[stage] if write else None
    if not deadline:
        return errors.ClientGone("the client hung up while its query was running", outcome=outcome)
    return errors.DeadlineExceeded("the database had not answered by the deadline", outcome=outcome)


def connection_lost(error: psycopg2.Error, *, write: bool, stage: Stage) -> GatewayError:
    """The connection broke with the query on it."""
    return errors.ConnectionLost(
        "the connection broke while the query was on it",
        outcome=_IF_LOST[stage] if write else None,
        sqlstate=error.pgcode,
        server_message=first_line(error),
    )


def withdrawn(*, write: bool, stage: Stage) -> GatewayError:
    """What ran was called back because its endpoint left the rotation; the connection is closed."""
    return errors.ConnectionLost(
        "the endpoint was withdrawn while the query was running there", outcome=_IF_LOST[stage] if write else None
    )


def stale(*, write: bool, stage: Stage, sqlstate: str | None) -> GatewayError:
    """The types that a statement was learnt with are not those of the database any more."""
    outcome = None
    if write:
        outcome = Outcome.NOT_EXECUTED if stage is Stage.PREPARING else Outcome.ROLLED_BACK
    sentence = "the database was migrated since the query was learnt"
    return errors.CatalogueStale(sentence, outcome=outcome, sqlstate=sqlstate)


def refused(
    error: psycopg2.Error, *, write: bool, stage: Stage, late: bool, replica: bool, reads: bool = False
) -> GatewayError:
    """The server answered with an error and the connection lives.

    ``late``: our own deadline was at hand, so a cancelled statement means that, not somebody's cancel.
    ``replica``: the server is a standby, where 40001 is a recovery conflict and says nothing of the query.
    ``reads``: it was a read among writes, which on a primary may not write by itself.
    """
    sqlstate = error.pgcode or "XX000"
    outcome = None
    if write:
        outcome = Outcome.NOT_EXECUTED if stage is Stage.PREPARING else Outcome.ROLLED_BACK
    message = first_line(error)
    kind = error_class(sqlstate)
    detail = _condition(sqlstate)
    faults: list[ArgumentFault] = []
    title = None
    if sqlstate == "57014" and late:
        kind, detail = errors.DeadlineExceeded, "the statement was still running at the deadline"
    elif write and replica and sqlstate in _ON_A_STANDBY:
        outcome = Outcome.NOT_EXECUTED
        kind, detail = errors.NoEndpoint, "the server has become a replica and takes no writes"
    elif write and sqlstate == "25006" and not reads:
        outcome = Outcome.NOT_EXECUTED
        kind, detail = errors.BackendUnavailable, "writes are switched off on the primary"
    elif sqlstate == "25006":
        detail = "the query writes, and its author has not declared that: it needs `-- @access write`"
    elif replica and kind is errors.SerializationFailure:
        kind, detail = errors.BackendUnavailable, "the replica cancelled the query to go on replaying"
    elif sqlstate == "54000" and error.diag.source_function == _JOINS:
        kind, detail = errors.ResultTooLarge, "the server does not put together more than 1 GB"
    elif kind is errors.Raised:
        title = error.diag.message_primary or detail
    elif sqlstate.startswith("23"):
        faults = [_constraint_fault(error, sqlstate)]
    elif kind is errors.InvalidArguments:
        faults = [ArgumentFault(parameter=None, message=detail)]
    return kind(detail, outcome=outcome, sqlstate=sqlstate, faults=faults, title=title, server_message=message)


def input_fault(parameter: str, type_name: str, sqlstate: str) -> ArgumentFault:
    """Say in our words what the server's input function has against one argument; the value is not repeated."""
    sentence = _EXPLAINED.get(sqlstate, "is not a valid {type}")
    return ArgumentFault(parameter=parameter, message=sentence.format(type=type_name))


def wrong_arguments(refused: GatewayError, faults: Sequence[ArgumentFault]) -> GatewayError:
    """The same refusal once it is known that arguments were its cause."""
    told = [f"{fault.parameter} {fault.message}" for fault in faults[:_MOST_IN_DETAIL]]
    rest = len(faults) - len(told)
    return errors.InvalidArguments(
        "; ".join(told) + (f"; and {rest} more" if rest else ""),
        outcome=refused.outcome,
        sqlstate=refused.sqlstate,
        faults=faults,
        server_message=refused.server_message,
    )


def unfit_value(refused: GatewayError, parameters: Sequence[str]) -> GatewayError:
    """The same refusal once it is known that a value of one of these parameters was its cause."""
    parameter = parameters[0] if len(parameters) == 1 else None
    message = f"the query cannot work with this value: {refused.detail}"
    return errors.InvalidArguments(
        message,
        outcome=refused.outcome,
        sqlstate=refused.sqlstate,
        faults=[ArgumentFault(parameter=parameter, message=message)],
        server_message=refused.server_message,
    )


def raised_inside(error: BaseException) -> bool:
    """Whether the server's error came from a function that users have made, or from a trigger."""
    return isinstance(error, psycopg2.Error) and bool(error.diag.context)


def _constraint_fault(error: psycopg2.Error, sqlstate: str) -> ArgumentFault:
    diagnostics = error.diag
    if sqlstate == "23502" and diagnostics.column_name:
        return ArgumentFault(parameter=None, message=f"column {diagnostics.column_name} must not be null")
    name = diagnostics.constraint_name
    return ArgumentFault(
        parameter=None,
        message=f"{_condition(sqlstate)}: {name}" if name else _condition(sqlstate),
        constraint=name,
    )


def _condition(sqlstate: str) -> str:
    """The condition's name from appendix A in plain words: ``division by zero``."""
    try:
        return str(psycopg2.errorcodes.lookup(sqlstate)).replace("_", " ").lower()
    except KeyError:
        return f"SQLSTATE {sqlstate}"


def first_line(error: psycopg2.Error) -> str:
    """What the server or libpq said, in one line."""
    return (error.diag.message_primary or str(error)).strip().partition("\n")[0]
