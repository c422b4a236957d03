"""``gateway check`` against the servers: every query is prepared on every endpoint."""

from collections.abc import Callable
from time import monotonic

from gateway.catalogue.query import Catalogue
from gateway.errors import Fault, GatewayError
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, fault, learn
from gateway.postgres.objects import Book
from gateway.postgres.session import Session
from gateway.settings import Settings

CONNECT_TIMEOUT = 5.0
QUERY_TIMEOUT = 10.0
_SEES_REPLICATION = "SELECT pg_catalog.pg_has_role(current_user, 'pg_monitor', 'USAGE')::pg_catalog.text"


def check(settings: Settings, catalogue: Catalogue, report: Callable[[str], None]) -> list[Fault]:
    """Prepare every query on every endpoint; all faults, and progress and warnings through ``report``."""
    driver = Driver(addresses(settings.endpoints), read_only=True, time_zone=settings.server.time_zone)
    faults: dict[Fault, None] = {}
    for name in settings.endpoints:
        try:
            connection = driver.connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            faults[Fault(f"endpoints.{name}", 0, f"cannot connect: {error.message}")] = None
            continue
        report(f"{name}: {connection.role}, PostgreSQL {connection.server_version_text}")
        try:
            with briefly(connection, QUERY_TIMEOUT):
                faults |= dict.fromkeys(_check_endpoint(name, connection, catalogue, report))
        except GatewayError as error:
            faults[Fault(f"endpoints.{name}", 0, error.server_message or error.detail)] = None
        finally:
            connection.close()
    return list(faults)


def _check_endpoint(name: str, connection: Session, catalogue: Catalogue, report: Callable[[str], None]) -> list[Fault]:
    if connection.ask(_SEES_REPLICATION, monotonic() + QUERY_TIMEOUT)[0][0] != "true":
        report(f"{name}: warning: the role is no member of pg_monitor, so a replica's timeline cannot be seen")
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
        names = [column.name for column in signature.columns]
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            report(f"{query.file}:{query.line}: warning: {query.name}: duplicate columns: {', '.join(twice)}")
    return faults
