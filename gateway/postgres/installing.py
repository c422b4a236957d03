"""``gateway init-db`` against the servers: makes the one table that idempotency keys need, on each primary."""

from collections.abc import Callable
from time import monotonic

from gateway.errors import GatewayError
from gateway.faults import Fault
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.idempotency import DDL, TABLE
from gateway.rotation.endpoint import Role
from gateway.settings import Settings

CONNECT_TIMEOUT = 5.0
CREATE_TIMEOUT = 30.0


def install(settings: Settings, report: Callable[[str], None]) -> list[Fault]:
    """Create the table, where it is not there yet, on the primary of every group that writes; the faults.

    It belongs to the role the gateway connects as, in the schema where that role finds it. Replicas get it from
    their primary.
    """
    driver = Driver(addresses(settings.endpoints), read_only=False, time_zone=settings.server.time_zone)
    faults: list[Fault] = []
    found: set[str] = set()
    writing = {label: group.endpoints for label, group in settings.groups.items() if group.access == "write"}
    for name in dict.fromkeys(name for endpoints in writing.values() for name in endpoints):
        where = f"endpoints.{name}"
        try:
            connection = driver.connect(name, monotonic() + CONNECT_TIMEOUT)
        except ConnectError as error:
            report(f"{name}: cannot connect: {error.message}")
            continue
        try:
            if connection.role is Role.PRIMARY:
                found.add(name)
                connection.ask(DDL, monotonic() + CREATE_TIMEOUT)
                report(f"{name}: {TABLE} is there")
        except GatewayError as error:
            faults.append(Fault(where, 0, error.server_message or error.detail))
        finally:
            connection.close()
    faults += [
        Fault(f"groups.{label}", 0, "none of its endpoints is a primary that can be reached")
        for label, endpoints in writing.items()
        if not found & set(endpoints)
    ]
    return faults
