"""Learns from the server what a query takes and gives: types are never guessed.

Most statements type at once. Everyday idioms that do not (``:x IS NULL OR id = :x`` is 42P08) go down a ladder:
every occurrence of a parameter is looked at alone, with all others written as NULL, and the types found so are
declared, widest first, for the statement as it stands. What remains is a fault that names the ``@param`` line to add.
"""

import itertools
from collections.abc import Sequence

import psycopg2

from gateway.catalogue.arguments import Binder
from gateway.catalogue.dependencies import Dependencies
from gateway.catalogue.query import Kind, Query, Text, Verb
from gateway.catalogue.types import Column, Form, Signature
from gateway.catalogue.wrapping import wrap
from gateway.errors import Fault, GatewayError
from gateway.postgres.connection import Connection
from gateway.postgres.declared import CannotLearn, TryLater, declared_oid
from gateway.postgres.describing import Description, Undescribed, describe
from gateway.postgres.harmlessness import is_harmless
from gateway.postgres.types import TypeBook
from gateway.postgres.waiting import DeadlinePassed

_UNTYPABLE = frozenset({"42P08", "42P18", "42P38", "42883", "42804", "42725"})
_PASSING = frozenset({"55P03", "57014", "40", "53"})
"""Codes, and classes of codes, of what may be otherwise in a moment: a lock, a cancellation, missing resources."""
_NOT_SUPPORTED = "0A000"
_WIDEST_FIRST = (1700, 701, 700, 20, 23, 21, 1184, 1114, 1082, 1043, 1042, 25)
"""Of types that one parameter may have: numeric before float8 before int8 …, timestamptz before date, text last."""
_MOST_TRIES = 64
_COMMON = (1186, 23, 25, 1184, 1700, 3802, 16, 1082, 1009)
"""interval, int4, text, timestamptz, numeric, jsonb, bool, date, text[]."""
_RECORDS = frozenset({2249, 2287})
"""record and record[], as in ``composite = :x``: the server reads no value as one."""


def learn(connection: Connection, query: Query, book: TypeBook, deadline: float) -> Signature:
    """Ask the server for the signature of a query, without running it.

    Raises CannotLearn where the query is at fault, TryLater where the server cannot tell now, and a GatewayError where
    the connection is gone.
    """
    try:
        signature = _learn(connection, query, book, deadline)
    except Undescribed as error:
        raise _unlearnt(error.sqlstate, str(error)) from error
    except GatewayError as error:
        if connection.closed or error.sqlstate is None:
            raise
        raise _unlearnt(error.sqlstate, error.server_message or error.detail) from error
    except (psycopg2.Error, DeadlinePassed) as error:
        raise connection.explained(error) from error
    try:
        Binder(query.parameters, signature.parameters)
    except ValueError as error:
        raise CannotLearn(str(error)) from error
    return signature


def _unlearnt(sqlstate: str, message: str) -> CannotLearn | TryLater:
    if sqlstate in _PASSING or sqlstate[:2] in _PASSING:
        return TryLater(message)
    return CannotLearn(message)


def fault(query: Query, error: CannotLearn) -> Fault:
    """The fault of a query that cannot be learnt, at its header's line."""
    return Fault(query.file, query.line, f"{query.name}: {error}")


def _learn(connection: Connection, query: Query, book: TypeBook, deadline: float) -> Signature:
    declared = [declared_oid(connection, parameter, deadline) for parameter in query.parameters]
    description = _first_that_types(connection, query, declared, deadline)
    records = [index for index, oid in enumerate(description.parameters) if oid in _RECORDS]
    if records:
        raise CannotLearn(_what_to_add(query, records, "any row would fit"))
    book.read(connection, [*description.parameters, *(oid for _, oid in description.columns)], deadline)
    return Signature(
        parameters=tuple(map(book.type, description.parameters)),
        columns=tuple(Column(name, book.type(oid)) for name, oid in description.columns),
        form=_form(connection, query, description.parameters, deadline),
        unproven=""
        if query.statement.verb is not Verb.CALL and is_harmless(connection, query, deadline)
        else "not proven",
        dependencies=Dependencies(
            relation_names=frozenset(name.rpartition(".")[2] for name in query.statement.relations),
            function_names=frozenset(name.rpartition(".")[2] for name in query.statement.functions),
        ),
    )


def _first_that_types(
    connection: Connection, query: Query, declared: Sequence[int | None], deadline: float
) -> Description:
    text = query.statement.bare
    try:
        return _described(connection, text.render(), declared, deadline)
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
            return _described(connection, text.render(), types, deadline)
        except Undescribed as error:
            if error.sqlstate not in _UNTYPABLE:
                raise
    unknown = _unknown(declared, choices)
    if len(unknown) > 1:
        unknown = _culprit(connection, text, declared, unknown, deadline) or unknown
    raise CannotLearn(_what_to_add(query, unknown, str(first)))


def _unknown(declared: Sequence[int | None], choices: Sequence[Sequence[int | None]]) -> list[int]:
    """Which parameters keep the statement from being typed, as far as what was found tells."""
    left = [index for index, oid in enumerate(declared) if not oid]
    return (
        [index for index in left if choices[index] == [None]]
        or [index for index in left if len(choices[index]) > 1]
        or left
    )


def _culprit(
    connection: Connection, text: Text, declared: Sequence[int | None], unknown: Sequence[int], deadline: float
) -> list[int]:
    """The one parameter whose type is all that is missing; empty where there is none, or more than one is missing.

    Nothing is chosen here: the types tried only tell whose line to ask for.
    """
    for index, oid in itertools.product(unknown, _COMMON):
        types = [*declared[:index], oid, *declared[index + 1 :]]
        try:
            _described(connection, text.render(), types, deadline)
        except Undescribed:
            continue
        return [index]
    return []


def _what_to_add(query: Query, indices: Sequence[int], reason: str) -> str:
    names = [query.parameters[index].name for index in indices]
    lines = " and ".join(f'"-- @param {name} TYPE"' for name in names)
    return f"the server cannot tell the type of {' and '.join(names)} ({reason}); add {lines}"


def _candidates(
    connection: Connection, query: Query, index: int, declared: Sequence[int | None], deadline: float
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


def _form(connection: Connection, query: Query, parameters: Sequence[int], deadline: float) -> Form:
    """Wrapped where the server takes the wrap; plain for exec, and where rules or its version forbid it."""
    if query.statement.verb is Verb.CALL:
        return Form.CALL
    text = None if query.kind is Kind.EXEC else wrap(query.kind, query.statement, max_rows=query.max_rows)
    if text is None:
        return Form.PLAIN
    try:
        _described(connection, text.render(), parameters, deadline)
    except Undescribed as error:
        if error.sqlstate != _NOT_SUPPORTED:
            raise
        return Form.PLAIN
    return Form.WRAPPED


def _described(connection: Connection, sql: str, types: Sequence[int | None], deadline: float) -> Description:
    if connection.prepares:
        return describe(connection, sql, types, deadline)
    connection.ask("BEGIN", deadline)  # behind a pooler, the two questions must reach the same session
    try:
        return describe(connection, sql, types, deadline)
    finally:
        if not connection.closed:
            connection.ask("ROLLBACK", deadline)
