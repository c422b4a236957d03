"""``gateway check`` against the servers: every query is prepared and planned on every endpoint."""

from collections.abc import Callable, Collection
from time import monotonic

from gateway.catalogue.query import Access, Catalogue, Query
from gateway.catalogue.types import Form, Signature
from gateway.errors import Fault, GatewayError
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, fault, learn
from gateway.postgres.objects import Book
from gateway.postgres.policies import asked_per_row
from gateway.postgres.session import Session
from gateway.postgres.statement import explained
from gateway.rotation.endpoint import Role
from gateway.settings import Settings

CONNECT_TIMEOUT = 5.0
QUERY_TIMEOUT = 10.0
_SEES_REPLICATION = "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')::pg_catalog.text"


def check(settings: Settings, catalogue: Catalogue, report: Callable[[str], None]) -> list[Fault]:
    """Prepare and plan every query on every endpoint; all faults, and progress and warnings through ``report``."""
    driver = Driver(addresses(settings.endpoints), read_only=True, time_zone=settings.server.time_zone)
    faults: dict[Fault, None] = {}
    by_caller = {name for name, group in settings.groups.items() if group.settings and "role" in settings.auth.settings}
    for name in settings.endpoints:
        try:
            connection = driver.connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            faults[Fault(f"endpoints.{name}", 0, f"cannot connect: {error.message}")] = None
            continue
        report(f"{name}: {connection.role}, PostgreSQL {connection.server_version_text}")
        try:
            with briefly(connection, QUERY_TIMEOUT):
                faults |= dict.fromkeys(_check_endpoint(name, connection, catalogue, report, by_caller))
        except GatewayError as error:
            faults[Fault(f"endpoints.{name}", 0, error.server_message or error.detail)] = None
        finally:
            connection.close()
    return list(faults)


def learn_all(settings: Settings, catalogue: Catalogue) -> tuple[dict[str, Signature], list[Fault]]:
    """Return the signature of every query by the first endpoint that answers, and the faults of those without one."""
    driver = Driver(addresses(settings.endpoints), read_only=True, time_zone=settings.server.time_zone)
    signatures: dict[str, Signature] = {}
    faults = []
    for name in settings.endpoints:
        try:
            connection = driver.connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            faults.append(Fault(f"endpoints.{name}", 0, f"cannot connect: {error.message}"))
            continue
        faults, book = [], Book()
        try:
            with briefly(connection, QUERY_TIMEOUT):
                for query in catalogue.queries.values():
                    try:
                        signatures[query.name] = learn(connection, query, book, monotonic() + QUERY_TIMEOUT)
                    except (CannotLearn, TryLater) as error:
                        faults.append(fault(query, error))
        finally:
            connection.close()
        break
    return signatures, faults


def _check_endpoint(
    name: str, connection: Session, catalogue: Catalogue, report: Callable[[str], None], by_caller: Collection[str]
) -> list[Fault]:
    """Check every query on one endpoint; ``by_caller`` are groups whose queries run with a role of the caller's."""
    if connection.ask(_SEES_REPLICATION, monotonic() + QUERY_TIMEOUT)[0][0] != "true":
        report(f"{name}: warning: the role is no member of pg_monitor, so a replica's timeline cannot be seen")
    for table, policy in asked_per_row(connection, monotonic() + QUERY_TIMEOUT):
        report(
            f"{name}: warning: policy {policy} on {table} calls current_setting for every row:"
            " write (SELECT current_setting(...))"
        )
    book = Book()
    faults = []
    for query in catalogue.queries.values():
        try:
            signature = learn(connection, query, book, monotonic() + QUERY_TIMEOUT)
        except (CannotLearn, TryLater) as error:
            faults.append(fault(query, error))
            continue
        if signature.unproven:
            report(f"{query.file}:{query.line}: {query.name}: its sessions are reset, as it {signature.unproven}")
        if query.group not in by_caller and (fault_of_plan := _planned(connection, query, signature)):
            faults.append(fault_of_plan)
        writes = _called_to_write(query, signature, book)
        if writes:
            report(
                f"{query.file}:{query.line}: warning: {query.name}: it calls {', '.join(writes)}, which may write:"
                ' add "-- @access write", or declare the function STABLE'
            )
        names = [column.name for column in signature.columns]
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            report(f"{query.file}:{query.line}: warning: {query.name}: duplicate columns: {', '.join(twice)}")
    return faults


def _planned(connection: Session, query: Query, signature: Signature) -> Fault | None:
    """The fault of a query that the server prepares and cannot plan, or that our role may not run.

    An ON CONFLICT without a constraint is found by the planner, and missing privileges are when a plan is opened.
    Nothing runs, and parameters have no values.
    """
    on_replica = connection.role is Role.REPLICA
    if signature.form is Form.CALL or (on_replica and (query.access is Access.WRITE or signature.primary_only)):
        return None
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
