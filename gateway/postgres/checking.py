"""``gateway check`` against the servers: every query is prepared and planned on every endpoint."""

from collections.abc import Callable, Collection, Generator, Iterator
from time import monotonic
from typing import Literal

import msgspec

from gateway.catalogue.contract import Locked, changes, locked
from gateway.catalogue.paging import keys_of
from gateway.catalogue.query import Access, Catalogue, Query
from gateway.catalogue.types import Form, Signature
from gateway.errors import GatewayError
from gateway.faults import Fault, Finding
from gateway.pool.driver import ConnectError
from gateway.postgres import pageable
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, fault, learn
from gateway.postgres.objects import Book
from gateway.postgres.policies import asked_per_row
from gateway.postgres.scanning import Scan, scans
from gateway.postgres.session import Session
from gateway.postgres.statement import Plan, explained
from gateway.rotation.endpoint import Reason, Role
from gateway.settings import Settings

CONNECT_TIMEOUT = 5.0
QUERY_TIMEOUT = 10.0
_SEES_REPLICATION = "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')::pg_catalog.text"

Connect = Callable[[str, float], Session]
"""Connects to an endpoint before a deadline; raises ConnectError."""


class Checked(msgspec.Struct, frozen=True):
    """What was found, once each, and what the first server that took it said of each query."""

    findings: list[Finding]
    signatures: dict[str, Signature]


def check(settings: Settings, catalogue: Catalogue, connect: Connect, report: Callable[[str], None]) -> Checked:
    """Prepare and plan every query on every endpoint; progress is told through ``report``."""
    found: dict[Finding, None] = {}
    signatures: dict[str, Signature] = {}
    by_caller = {name for name, group in settings.groups.items() if group.settings and "role" in settings.auth.settings}
    for name in settings.endpoints:
        where = f"endpoints.{name}"
        try:
            connection = connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            rule = "login-refused" if error.reason in (Reason.AUTH, Reason.TLS) else "unreachable"
            found[Finding(rule, "error", Fault(where, 0, f"cannot connect: {error.message}"))] = None
            continue
        report(f"{name}: {connection.role}, PostgreSQL {connection.server_version_text}")
        try:
            with briefly(connection, QUERY_TIMEOUT):
                found |= dict.fromkeys(_of_endpoint(where, connection, catalogue, by_caller, signatures))
        except GatewayError as error:
            found[Finding("unreachable", "error", Fault(where, 0, error.server_message or error.detail))] = None
        finally:
            connection.close()
    return Checked(list(found), signatures)


def reading(settings: Settings) -> Driver:
    """Return what connects to the servers for a look at queries: read-only, and otherwise as calls are run."""
    return Driver(addresses(settings.endpoints), read_only=True, time_zone=settings.server.time_zone)


def learn_all(settings: Settings, catalogue: Catalogue, connect: Connect) -> tuple[dict[str, Signature], list[Fault]]:
    """Return the signature of every query by the first endpoint that answers, and the faults of those without one.

    An endpoint that goes away meanwhile has a fault, and the next one is asked about everything.
    """
    lost: list[Fault] = []
    for name in settings.endpoints:
        where = f"endpoints.{name}"
        try:
            connection = connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            lost.append(Fault(where, 0, f"cannot connect: {error.message}"))
            continue
        signatures: dict[str, Signature] = {}
        faults, book = [], Book()
        try:
            with briefly(connection, QUERY_TIMEOUT):
                for query in catalogue.queries.values():
                    try:
                        signatures[query.name] = learn(connection, query, book, monotonic() + QUERY_TIMEOUT)
                    except (CannotLearn, TryLater) as error:
                        faults.append(fault(query, error))
        except GatewayError as error:
            lost.append(Fault(where, 0, f"went away while it was asked: {error.server_message or error.detail}"))
            continue
        finally:
            connection.close()
        return signatures, faults
    return {}, lost


def _of_endpoint(
    where: str,
    connection: Session,
    catalogue: Catalogue,
    by_caller: Collection[str],
    signatures: dict[str, Signature],
) -> Iterator[Finding]:
    """Check every query on one endpoint, and compare with, or add to, what others said of it.

    ``by_caller`` are groups whose queries run with a role of the caller's.
    """
    if connection.ask(_SEES_REPLICATION, monotonic() + QUERY_TIMEOUT)[0][0] != "true":
        message = "the role is no member of pg_monitor, so a replica's timeline cannot be seen"
        yield Finding("no-pg-monitor", "warning", Fault(where, 0, message))
    for table, policy in asked_per_row(connection, monotonic() + QUERY_TIMEOUT):
        message = f"policy {policy} on {table} calls current_setting for every row: write (SELECT current_setting(...))"
        yield Finding("policy-per-row", "warning", Fault(where, 0, message))
    book = Book()
    for query in catalogue.queries.values():
        signature = yield from _of_query(query, connection, book, is_planned=query.group not in by_caller)
        if signature is None:
            continue
        known = signatures.setdefault(query.name, signature)
        if differences := [change.message for change in changes(_seen(query, known), _seen(query, signature))]:
            message = f"{query.name}: {where} differs from the servers before it: {'; '.join(differences)}"
            yield Finding("skew", "error", Fault(query.file, query.line, message))


def _seen(query: Query, signature: Signature) -> dict[str, Locked]:
    return {query.name: locked(query, signature)}


def _of_query(
    query: Query, connection: Session, book: Book, *, is_planned: bool
) -> Generator[Finding, None, Signature | None]:
    def finding(rule: str, level: Literal["warning", "note"], message: str) -> Finding:
        return Finding(rule, level, Fault(query.file, query.line, f"{query.name}: {message}"))

    try:
        signature = learn(connection, query, book, monotonic() + QUERY_TIMEOUT)
    except (CannotLearn, TryLater) as error:
        yield Finding("query-broken", "error", fault(query, error))
        return None
    if signature.unproven:
        yield finding("reset", "note", f"its sessions are reset, as it {signature.unproven}")
    if is_planned and _is_plannable(connection, query, signature):
        if fault_of_plan := _planned(connection, query, signature):
            yield Finding("query-broken", "error", fault_of_plan)
        else:
            for scan in _scans(connection, query, signature):
                read = f"it reads all of {scan.table} ({scan.rows:,} rows)"
                if scan.filter:
                    yield finding("filter-without-index", "warning", f"{read}: no index serves {scan.filter}")
                else:
                    yield finding("sequential-scan", "warning", read)
            for rule, message in _of_pages(connection, query, signature):
                yield finding(rule, "warning", message)
    if writes := _called_to_write(query, signature, book):
        message = (
            f'it calls {", ".join(writes)}, which may write: add "-- @access write", or declare the function STABLE'
        )
        yield finding("read-that-writes", "warning", message)
    names = [column.name for column in signature.columns]
    if twice := sorted({column for column in names if names.count(column) > 1}):
        yield finding("duplicate-columns", "warning", f"duplicate columns: {', '.join(twice)}")
    return signature


def _scans(connection: Session, query: Query, signature: Signature) -> list[Scan]:
    """The large tables that a query reads as a whole; where it is answered in pages, for one of them."""
    if query.page is None:
        return scans(connection, query.statement.bare, signature.parameters)
    pages = [Plan.paged(query, signature, key, after) for key in keys_of(query) for after in (None, (True,) * len(key))]
    return list(dict.fromkeys(scan for plan in pages for scan in scans(connection, plan.text, plan.types)))


def _of_pages(connection: Session, query: Query, signature: Signature) -> Iterator[tuple[str, str]]:
    """What may be wrong with a query's pages, each with its rule."""
    if query.page is None:
        return
    key = ", ".join(order.column for order in query.page.key)
    for barrier in pageable.barriers(connection, query, signature):
        yield (
            "page-reads-all",
            f"each page reads all rows before it again: ({key}) cannot be looked up behind {barrier}",
        )
    if not pageable.is_unique(connection, query, signature):
        message = (
            f"rows that have the same ({key}) may be left out at the end of a page: add columns to the key of @page"
            " that are unique together, such as a primary key"
        )
        yield "page-key-not-unique", message


def _is_plannable(connection: Session, query: Query, signature: Signature) -> bool:
    on_replica = connection.role is Role.REPLICA
    return signature.form is not Form.CALL and not (
        on_replica and (query.access is Access.WRITE or signature.primary_only)
    )


def _planned(connection: Session, query: Query, signature: Signature) -> Fault | None:
    """The fault of a query that the server prepares and cannot plan, or that our role may not run.

    An ON CONFLICT without a constraint is found by the planner, and missing privileges are when a plan is opened.
    Nothing runs, and parameters have no values.
    """
    text = explained(query.statement.bare, signature.parameters, server_version=connection.server_version)
    try:
        connection.ask(text, monotonic() + QUERY_TIMEOUT)
    except GatewayError as error:
        if connection.closed or error.sqlstate is None:
            raise
        return fault(query, CannotLearn(f"{error.server_message or error.detail} [{error.sqlstate}]"))
    return None


def _called_to_write(query: Query, signature: Signature, book: Book) -> list[str]:
    """Functions made by users that a read calls and that are declared volatile, as those that write must be."""
    if query.access is not Access.READ:
        return []
    called = signature.dependencies.function_names
    return sorted({each.name for each in book.functions.values() if each.volatile and each.name in called})
