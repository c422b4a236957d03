"""Learns from the server what a query takes and gives: types are never guessed.

Most statements type at once. Everyday idioms that do not (``:x IS NULL OR id = :x`` is 42P08) go down a ladder:
every occurrence of the parameter is looked at with the others written as NULL, and the types found so are declared,
widest first, for the statement as it stands. What remains is a fault that names the ``@param`` line to add.
"""

import itertools
import re
from collections.abc import Sequence

import psycopg2
import psycopg2.errors

from gateway.catalogue.arguments import Binder, literal
from gateway.catalogue.query import Kind, Query, Verb
from gateway.catalogue.types import Column, Form, Signature, Type
from gateway.catalogue.wrapping import wrap
from gateway.errors import Fault
from gateway.postgres.connection import Connection
from gateway.postgres.declared import CannotLearn, declared_oid
from gateway.postgres.describing import Description, describe
from gateway.postgres.procedures import learn_call
from gateway.postgres.types import TypeBook
from gateway.postgres.waiting import DeadlinePassed

_NAME = "gw_learning"
_UNTYPABLE = ("42P08", "42P18", "42883", "42804", "42725", "42P38")
_WIDEST_FIRST = (1700, 701, 700, 20, 23, 21, 1184, 1114, 1082, 1043, 1042, 25)
"""Of types that one parameter may have: numeric before float8 before int8 …, timestamptz before date, text last."""
_MOST_TRIES = 64
_HARMLESS_THOUGH_VOLATILE = frozenset(
    {"random", "random_normal", "clock_timestamp", "timeofday", "gen_random_uuid", "uuidv4", "uuidv7", "pg_sleep"}
)

_HARMLESS = """
SELECT NOT EXISTS (SELECT FROM unnest(ARRAY[{functions}]::text[]) AS f(name) WHERE NOT coalesce((
           SELECT bool_and(p.provolatile <> 'v' AND p.pronamespace = 'pg_catalog'::regnamespace)
             FROM pg_catalog.pg_proc p WHERE p.proname = f.name), false))
   AND NOT EXISTS (SELECT FROM unnest(ARRAY[{relations}]::text[]) AS r(name) WHERE NOT coalesce((
           SELECT c.relkind IN ('r', 'p') AND NOT c.relrowsecurity AND NOT c.relhasrules AND NOT EXISTS (
                      SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)
             FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(r.name)), false))
"""


def learn(connection: Connection, query: Query, book: TypeBook, deadline: float) -> Signature:
    """Ask the server for the signature of a query, without running it.

    Raises CannotLearn where the query is at fault, and a GatewayError where the connection is.
    """
    connection.deadline, connection.client = deadline, None
    try:
        if query.statement.verb is Verb.CALL:
            signature = learn_call(connection, query, book, deadline)
        else:
            signature = _learn_statement(connection, query, book, deadline)
    except (psycopg2.Error, DeadlinePassed) as error:
        if isinstance(error, psycopg2.Error) and error.pgcode is not None and not connection.closed:
            raise CannotLearn(_sentence(error)) from error
        raise connection.explained(error) from error
    try:
        Binder(query.parameters, signature.parameters)
    except ValueError as error:
        raise CannotLearn(str(error)) from error
    return signature


def fault(query: Query, error: CannotLearn) -> Fault:
    """The fault of a query that cannot be learnt, at its header's line."""
    return Fault(query.file, query.line, f"{query.name}: {error}")


def _learn_statement(connection: Connection, query: Query, book: TypeBook, deadline: float) -> Signature:
    declared = [declared_oid(connection, parameter, deadline) for parameter in query.parameters]
    description = _first_that_types(connection, query, declared, deadline)
    book.read(connection, [*description.parameters, *(oid for _, oid in description.columns)], deadline)
    parameters = tuple(map(book.type, description.parameters))
    return Signature(
        parameters=parameters,
        columns=tuple(Column(name, book.type(oid)) for name, oid in description.columns),
        form=_form(connection, query, parameters),
        harmless=_is_harmless(connection, query, deadline),
    )


def _first_that_types(
    connection: Connection, query: Query, declared: Sequence[int | None], deadline: float
) -> Description:
    try:
        return _prepared(connection, query.statement.bare.render(), declared, deadline)
    except psycopg2.Error as error:
        if error.pgcode not in _UNTYPABLE or all(declared):
            raise
        first = error
    choices = [[oid] if oid else _candidates(connection, query, index, declared) for index, oid in enumerate(declared)]
    for types in itertools.islice(itertools.product(*choices), _MOST_TRIES):
        try:
            return _prepared(connection, query.statement.bare.render(), types, deadline)
        except psycopg2.Error as error:
            if error.pgcode not in _UNTYPABLE:
                raise
    unknown = [
        parameter.name
        for parameter, oid, found in zip(query.parameters, declared, choices, strict=True)
        if not oid and (found == [None] or len(choices) == 1)
    ] or [parameter.name for parameter, oid in zip(query.parameters, declared, strict=True) if not oid]
    lines = " and ".join(f'"-- @param {name} TYPE"' for name in unknown)
    raise CannotLearn(f"the server cannot tell the type of {' and '.join(unknown)} ({_sentence(first)}); add {lines}")


def _candidates(connection: Connection, query: Query, index: int, declared: Sequence[int | None]) -> list[int | None]:
    """Types this parameter has at its occurrences, each looked at alone, widest first; [None] if none says."""
    text = query.statement.bare
    places = [place for place, parameter in enumerate(text.references) if parameter == index]
    found: set[int] = set()
    for place, others_are_null in itertools.product(places, (False, True)):

        def write(
            occurrence: int, parameter: int, *, place: int = place, others_are_null: bool = others_are_null
        ) -> str:
            if occurrence == place:
                return f"${index + 1}"
            return "NULL" if others_are_null or parameter == index else f"${parameter + 1}"

        try:
            description = _prepared(connection, text.render(write), declared, connection.deadline or 0.0)
        except psycopg2.Error as error:
            if error.pgcode is None:
                raise
            continue
        found.add(description.parameters[index])
    order = {oid: rank for rank, oid in enumerate(_WIDEST_FIRST)}
    ranked: list[int | None] = [*sorted(found, key=lambda oid: (order.get(oid, -1), oid))]
    return ranked or [None]


def _prepared(connection: Connection, text: str, types: Sequence[int | None], deadline: float) -> Description:
    """PREPARE, describe, forget. Type OIDs may be None: the server says."""
    connection.deadline = deadline
    cursor = connection.cursor()
    names = "unknown"
    if types:
        known = sorted({oid for oid in types if oid})
        spelled = {}
        if known:
            oids = ", ".join(map(str, known))
            cursor.execute(
                "SELECT t.oid::int8::text, format('%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_type t"
                f" JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE t.oid IN ({oids})"
            )
            spelled = {int(oid): name.decode() for oid, name in cursor.fetchall()}
        names = ", ".join(spelled[oid] if oid else "unknown" for oid in types)
    cursor.execute(f"PREPARE {_NAME}{f'({names})' if types else ''} AS {text}")
    try:
        return describe(connection, _NAME, deadline)
    finally:
        if not connection.closed:
            cursor.execute(f"DEALLOCATE {_NAME}")


def _form(connection: Connection, query: Query, parameters: Sequence[Type]) -> Form:
    """Wrapped where the server takes the wrap; plain for exec, and where rules or its version forbid it."""
    if query.kind is Kind.EXEC:
        return Form.PLAIN
    text = wrap(query.kind, query.statement, max_rows=query.max_rows)
    if text is None:
        return Form.PLAIN
    names = f"({', '.join(parameter.sql for parameter in parameters)})" if parameters else ""
    cursor = connection.cursor()
    try:
        cursor.execute(f"PREPARE {_NAME}{names} AS {text.render()}")
    except psycopg2.errors.FeatureNotSupported:
        return Form.PLAIN
    cursor.execute(f"DEALLOCATE {_NAME}")
    return Form.WRAPPED


def _is_harmless(connection: Connection, query: Query, deadline: float) -> bool:
    """Every function builtin and not volatile, every relation a plain table without triggers or policies.

    Such a query can neither write behind our back nor leave session state behind.
    """
    statement = query.statement
    functions = sorted({name.removeprefix("pg_catalog.") for name in statement.functions} - _HARMLESS_THOUGH_VOLATILE)
    names = ", ".join(map(literal, functions))
    relations = ", ".join(map(literal, statement.relations))
    rows = connection.ask(_HARMLESS.format(functions=names, relations=relations), deadline)
    return rows[0][0] == "t"


def _sentence(error: psycopg2.Error) -> str:
    message = re.sub(r"\s+", " ", error.diag.message_primary or str(error))
    hint = error.diag.message_hint
    return f"{message} [{error.pgcode}]" + (f"; hint: {hint}" if hint else "")
