"""Finds the types of a query's parameters.

Most statements type at once. Everyday idioms that do not (``:x IS NULL OR id = :x`` is 42P08) go down a ladder:
every occurrence of a parameter is looked at alone, with all others written as NULL, and the types found so are
declared, widest first, for the statement as it stands. What remains is a fault that names the ``@param`` line to add.
"""

import itertools
import re
from collections.abc import Sequence

from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Parameter, Query, Text, Verb
from gateway.postgres.describing import Description, Undescribed, describe
from gateway.postgres.session import Session
from gateway.postgres.statement import label_of

_UNTYPABLE = frozenset({"42P08", "42P18", "42P38", "42883", "42804", "42725"})
_WIDEST_FIRST = (1700, 701, 700, 20, 23, 21, 1184, 1114, 1082, 1043, 1042, 25)
"""Of types that one parameter may have: numeric before float8 before int8 …, timestamptz before date, text last."""
_MOST_TRIES = 64
_NUMBER = re.compile(r"\$(\d{1,5})")
_SYNTAX = "42601"
_UNKNOWN = "unknown"
"""The type of a NULL of which nothing more is known, as server messages in every language have it."""
_COMMON = (1186, 23, 25, 1184, 1700, 3802, 16, 1082, 1009)
"""interval, int4, text, timestamptz, numeric, jsonb, bool, date, text[]."""
_MOST_TOGETHER = 3
"""Parameters for which those are tried in every combination."""
_RECORDS = frozenset({2249, 2287})
"""record and record[], as in ``composite = :x``: the server reads no value as one."""
LOCK_TIMEOUT = "lock_timeout = 50"
"""Milliseconds for which one query's learning may wait for a lock that a migration holds: the others wait for it."""


class CannotLearn(Exception):
    """The server does not take a query, or not say what its parameters are; the message is for its author."""


class TryLater(Exception):
    """The server cannot tell now, as somebody holds a lock, and may a moment later; the message says what it was."""


def described(connection: Session, query: Query, deadline: float) -> Description:
    """What the parameters and columns of a query are.

    Raises CannotLearn, Undescribed, or whatever ``describing.describe`` raises.
    """
    declared = [_declared_oid(connection, parameter, deadline) for parameter in query.parameters]
    description = _first_that_types(connection, query, declared, deadline)
    records = [index for index, oid in enumerate(description.parameters) if oid in _RECORDS]
    if records:
        raise CannotLearn(_what_to_add(query, records, "any row would fit"))
    return description


def _first_that_types(
    connection: Session, query: Query, declared: Sequence[int | None], deadline: float
) -> Description:
    text = query.statement.bare
    sql = label_of(query.name) + text.render()
    try:
        return _described(connection, sql, declared, deadline)
    except Undescribed as error:
        if error.sqlstate not in _UNTYPABLE or all(declared):
            raise
        first = error
    choices = [
        [oid] if oid else _candidates(connection, query, index, declared, deadline)
        for index, oid in enumerate(declared)
    ]
    for types in itertools.islice(itertools.product(*choices), _MOST_TRIES):
        try:
            return _described(connection, sql, types, deadline)
        except Undescribed as error:
            if error.sqlstate not in _UNTYPABLE:
                raise
    unknown = _unknown(declared, choices)
    culprits = _culprits(connection, text, declared, unknown, deadline)
    if not culprits:
        _refuse_what_no_type_mends(connection, query, deadline)
    raise CannotLearn(_what_to_add(query, culprits or unknown, _with_names(query, str(first))))


def _refuse_what_no_type_mends(connection: Session, query: Query, deadline: float) -> None:
    """Raise CannotLearn where a statement that no type helped has another fault.

    Its parameters are written as NULLs for that. What the server then has against it concerns none of them, unless it
    speaks of a value whose type is unknown: functions and operators are looked up by the types of all their arguments.
    """

    def null(_occurrence: int, parameter: int) -> str:
        known = query.parameters[parameter].type
        return f"NULL::{known}" if known else "NULL"

    try:
        _described(connection, query.statement.bare.render(null), [], deadline)
    except Undescribed as error:
        if error.sqlstate == _SYNTAX:
            return  # ORDER BY takes a parameter and no NULL
        if _UNKNOWN not in str(error):
            raise CannotLearn(str(error)) from error
        missing = _missing_functions(connection, query, deadline) if error.sqlstate == "42883" else []
        if missing:
            kind = "procedure" if query.statement.verb is Verb.CALL else "function"
            raise CannotLearn(f"there is no {kind} {' or '.join(missing)} [{error.sqlstate}]") from error


def _missing_functions(connection: Session, query: Query, deadline: float) -> list[str]:
    """Functions that the statement calls and the database has none of, whatever their arguments."""
    called = query.statement.functions
    if not called:
        return []
    listed = ", ".join(literal(name.rpartition(".")[2]) for name in called)
    found = connection.ask(
        "SELECT DISTINCT proname::pg_catalog.text FROM pg_catalog.pg_proc"
        f" WHERE proname OPERATOR(pg_catalog.=) ANY (ARRAY[{listed}]::pg_catalog.name[])",
        deadline,
    )
    names = {name for (name,) in found}
    return [name for name in called if name.rpartition(".")[2] not in names]


def _with_names(query: Query, message: str) -> str:
    """A message of the server that speaks of ``$1``, with the parameter's name in its place."""

    def name(number: re.Match[str]) -> str:
        index = int(number[1]) - 1
        return query.parameters[index].name if index < len(query.parameters) else number[0]

    return _NUMBER.sub(name, message)


def _unknown(declared: Sequence[int | None], choices: Sequence[Sequence[int | None]]) -> list[int]:
    """Which parameters keep the statement from being typed, as far as what was found tells."""
    left = [index for index, oid in enumerate(declared) if not oid]
    return (
        [index for index in left if choices[index] == [None]]
        or [index for index in left if len(choices[index]) > 1]
        or left
    )


def _culprits(
    connection: Session, text: Text, declared: Sequence[int | None], unknown: Sequence[int], deadline: float
) -> Sequence[int]:
    """The parameters whose types are all that is missing; empty where no type that was tried is enough.

    Nothing is chosen here: the types tried only tell whose line to ask for. One parameter comes before several.
    """
    several = unknown if 1 < len(unknown) <= _MOST_TOGETHER else ()
    for indices in (*((index,) for index in unknown), several):
        for types in itertools.product(_COMMON, repeat=len(indices)) if indices else ():
            given = dict(zip(indices, types, strict=True))
            tried = [given.get(index, oid) for index, oid in enumerate(declared)]
            try:
                _described(connection, text.render(), tried, deadline)
            except Undescribed:
                continue
            return indices
    return ()


def _what_to_add(query: Query, indices: Sequence[int], reason: str) -> str:
    names = [query.parameters[index].name for index in indices]
    lines = " and ".join(f'"-- @param {name} TYPE"' for name in names)
    return f"the server cannot tell the type of {' and '.join(names)} ({reason}); add {lines}"


def _candidates(
    connection: Session, query: Query, index: int, declared: Sequence[int | None], deadline: float
) -> list[int | None]:
    """Types this parameter has at its occurrences, each looked at alone, widest first; [None] if none says."""
    text = query.statement.bare
    found: set[int] = set()
    for place in (place for place, parameter in enumerate(text.references) if parameter == index):

        def alone(occurrence: int, parameter: int, *, place: int = place) -> str:
            if occurrence == place:
                return "$1"
            known = query.parameters[parameter].type
            return f"NULL::{known}" if known else "NULL"

        def beside_others(occurrence: int, parameter: int, *, place: int = place) -> str:
            return "NULL" if parameter == index and occurrence != place else f"${parameter + 1}"

        looks = ((text.render(alone), [None], 0), (text.render(beside_others), declared, index))
        for sql, types, position in looks:
            try:
                found.add(_described(connection, sql, types, deadline).parameters[position])
            except Undescribed:
                continue
    order = {oid: rank for rank, oid in enumerate(_WIDEST_FIRST)}
    ranked: list[int | None] = [*sorted(found, key=lambda oid: (order.get(oid, -1), oid))]
    return ranked or [None]


def _described(connection: Session, sql: str, types: Sequence[int | None], deadline: float) -> Description:
    if not connection.is_pooled:
        return describe(connection, sql, types, deadline)
    # Behind a pooler the two questions must reach the same session.
    connection.ask(f"BEGIN; SET LOCAL {LOCK_TIMEOUT}", deadline)
    try:
        return describe(connection, sql, types, deadline)
    finally:
        if not connection.closed:
            connection.ask("ROLLBACK", deadline)


def _declared_oid(connection: Session, parameter: Parameter, deadline: float) -> int | None:
    """The OID of a declared type, None if none was; a modifier (``numeric(10,2)``) is the column's business.

    Raises CannotLearn where the server does not know the type, and a GatewayError where the connection is at fault.
    """
    if parameter.type is None:
        return None
    rows = connection.ask(
        f"SELECT pg_catalog.to_regtype({literal(parameter.type)})::pg_catalog.oid::int8::text", deadline
    )
    if rows[0][0] is None:
        raise CannotLearn(f"parameter {parameter.name}: there is no type {parameter.type}")
    return int(rows[0][0])
