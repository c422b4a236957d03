"""Learns from the server what a query takes and gives, what it depends on, and whether it is harmless."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

import psycopg2
from msgspec.structs import replace

from gateway.catalogue.arguments import Binder, literal
from gateway.catalogue.dependencies import Dependencies
from gateway.catalogue.paging import keys_of
from gateway.catalogue.query import Access, Kind, Query, Verb
from gateway.catalogue.types import Column, Family, Form, Signature
from gateway.catalogue.wrapping import quoted, wrap
from gateway.errors import GatewayError
from gateway.faults import Fault
from gateway.postgres.describing import Undescribed, rewritten
from gateway.postgres.expecting import expectations
from gateway.postgres.identifying import identifies, query_id
from gateway.postgres.inferring import LOCK_TIMEOUT, CannotLearn, TryLater, described
from gateway.postgres.objects import Book
from gateway.postgres.proving import Proof, prove
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan, label_of
from gateway.postgres.waiting import DeadlinePassed

_PASSING = frozenset({"55P03", "57014", "40", "53"})
"""Codes, and classes of codes, of what may be otherwise in a moment: a lock, a cancellation, missing resources."""
_NOT_SUPPORTED = "0A000"
_VARIANT = "gw_variant"


@contextmanager
def briefly(connection: Session, seconds: float) -> Iterator[None]:
    """Have what is learnt on this connection wait for locks only briefly; a GatewayError after so many seconds.

    Through a pooler every question sets this for itself.
    """
    if connection.is_pooled:
        yield
        return
    connection.ask(f"SET {LOCK_TIMEOUT}", monotonic() + seconds)
    try:
        yield
    finally:
        if not connection.closed:
            connection.ask("RESET lock_timeout", monotonic() + seconds)


def learn(connection: Session, query: Query, book: Book, deadline: float) -> Signature:
    """Ask the server for the signature of a query, without running it.

    It waits for a lock as long as the connection does: see ``briefly``. Raises CannotLearn where the query is at fault,
    TryLater where the server cannot tell now, and a GatewayError where the connection is gone.
    """
    try:
        signature = _learn(connection, query, book, deadline)
    except Undescribed as error:
        raise _unlearnt(error.sqlstate, str(error)) from error
    except GatewayError as error:
        if connection.closed or error.sqlstate is None:
            raise
        raise _unlearnt(error.sqlstate, f"{error.server_message or error.detail} [{error.sqlstate}]") from error
    except (psycopg2.Error, DeadlinePassed) as error:
        raise connection.explained(error) from error
    if query.media and (value := signature.columns[0].type).family not in (Family.BYTEA, Family.TEXT):
        raise CannotLearn(f"@media is for a value of bytea or text, not of {value.name}")
    try:
        Binder(query.parameters, signature.parameters)
    except ValueError as error:
        raise CannotLearn(str(error)) from error
    return signature


def fault(query: Query, error: CannotLearn | TryLater) -> Fault:
    """The fault of a query that cannot be learnt, at its header's line."""
    return Fault(query.file, query.line, f"{query.name}: {error}")


def _unlearnt(sqlstate: str, message: str) -> CannotLearn | TryLater:
    if sqlstate in _PASSING or sqlstate[:2] in _PASSING:
        return TryLater(message)
    return CannotLearn(message)


def _learn(connection: Session, query: Query, book: Book, deadline: float) -> Signature:
    description = described(connection, query, deadline)
    columns = description.columns
    book.types.read(connection, [*description.parameters, *(oid for _, oid in columns)], deadline)
    for oid in description.parameters:
        row = book.types.row(oid)
        if row is not None and not row.usable:
            raise CannotLearn(f"the type {row.name} is in a schema that the role may not use")
    types = [book.types.type(oid) for oid in description.parameters]
    form, proof = _proven(connection, query, [type_.sql for type_ in types], book, deadline)
    expected, checked = expectations(connection, query, types, proof, deadline)
    # What a write expects must be what it was learnt with: a migration may have come in between.
    if (expected or checked) and described(connection, query, deadline).parameters != description.parameters:
        raise TryLater("the database changed while the query was learnt")
    signature = Signature(
        parameters=tuple(types),
        columns=tuple(Column(name, book.types.type(oid)) for name, oid in columns),
        form=form,
        unproven=proof.unproven,
        dependencies=_dependencies(query, proof, book),
        expected=expected,
        checked=checked,
        primary_only=proof.unlogged,
        varies=proof.varies,
    )
    _prepare_variants(connection, query, signature, deadline)
    return replace(signature, query_id=_identified(connection, query, signature, book, deadline))


def _prepare_variants(connection: Session, query: Query, signature: Signature, deadline: float) -> None:
    """Prepare what runs for each order and page that callers may choose. Raises CannotLearn."""
    plans = [Plan.of(replace(query, statement=sort.statement), signature) for sort in query.sorts if sort.statement]
    try:
        for key in keys_of(query):
            plans += [Plan.paged(query, signature, key, after) for after in (None, (True,) * len(key))]
    except ValueError as error:
        raise CannotLearn(f"@page: {error}") from None
    for plan in plans:
        connection.ask(f"{plan.prepare(_VARIANT)}\n; DEALLOCATE {_VARIANT}", deadline)


def _identified(connection: Session, query: Query, signature: Signature, book: Book, deadline: float) -> str | None:
    """Return the id of the statement that runs the query, where the server computes any and plans it with nulls."""
    if book.identifies is None:
        book.identifies = connection.prepares and identifies(connection, deadline)
    if not book.identifies or signature.form is Form.CALL:
        return None
    plan = Plan.of(query, signature, max_bytes=1)  # which constants are in a statement is no part of its id
    return query_id(connection, plan, deadline)


def _refuse_missing_relations(connection: Session, query: Query, deadline: float) -> None:
    """Raise CannotLearn where a utility statement names what is not there: the server looks only when it runs."""
    names = [".".join(map(quoted, name.split("."))) for name in query.statement.relations]
    if not names:
        return
    listed = ", ".join(map(literal, names))
    asked = f"SELECT n FROM pg_catalog.unnest(ARRAY[{listed}]) AS n WHERE pg_catalog.to_regclass(n) IS NULL"
    for (name,) in connection.ask(asked, deadline):
        raise CannotLearn(f"there is no relation {name}")


def _proven(connection: Session, query: Query, types: Sequence[str], book: Book, deadline: float) -> tuple[Form, Proof]:
    """How the query runs, wrapped where the server takes the wrap, and what follows from its tree.

    Rules, and the version, may forbid the wrap.
    """
    statement = query.statement
    book.read(connection, (), deadline)
    if not statement.verb.is_prepared:
        if statement.verb is not Verb.CALL:
            _refuse_missing_relations(connection, query, deadline)
        what = "calls a procedure" if statement.verb is Verb.CALL else f"is a statement {statement.verb.upper()}"
        return Form.CALL, Proof(unproven=what)
    label = label_of(query.name)
    text = None if query.kind is Kind.EXEC else wrap(query.kind, statement, max_rows=query.max_rows)
    form, tree = Form.PLAIN, None
    if text is not None:
        try:
            tree = rewritten(connection, text.render(), types, deadline, label=label, quiet=book.is_quiet)
            form = Form.WRAPPED
        except GatewayError as error:
            if error.sqlstate != _NOT_SUPPORTED or connection.closed:
                raise
    if tree is None:
        tree = rewritten(connection, statement.bare.render(), types, deadline, label=label, quiet=book.is_quiet)
    return form, prove(connection, tree, book, deadline, writes=query.access is Access.WRITE)


def _dependencies(query: Query, proof: Proof, book: Book) -> Dependencies:
    """What was found, and the names that may come to mean something else."""
    relations = [tuple(name.rpartition(".")[::2]) for name in query.statement.relations]
    functions = [tuple(name.rpartition(".")[::2]) for name in query.statement.functions]
    called = [book.functions[oid] for oid in proof.functions]
    rows = [row for oid in proof.types if (row := book.types.row(oid)) is not None]
    found = [book.relations[oid].schema for oid in proof.relations if oid in book.relations]
    schemas = {
        *(schema for schema, _ in (*relations, *functions)),
        *(function.schema for function in called),
        *(row.schema for row in rows),
        *found,
    }
    return Dependencies(
        relations=proof.relations,
        types=proof.types,
        relation_names=frozenset(name for _, name in relations),
        type_names=frozenset(row.own for row in rows),
        function_names=frozenset({*(name for _, name in functions), *(function.name for function in called)}),
        schemas=frozenset(schemas - {"", "pg_catalog"}),
    )
