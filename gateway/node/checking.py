"""Checks what a node is about to serve on its servers, within its connection cap, while it serves something else."""

from pathlib import Path

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.events import ignore
from gateway.faults import Fault
from gateway.node.ledger import Ledger
from gateway.pool.driver import ConnectError
from gateway.postgres.checking import check, reading
from gateway.postgres.session import Session
from gateway.settings import Settings


class Checked(msgspec.Struct, frozen=True):
    """What was found."""

    faults: tuple[Fault, ...]
    warnings: tuple[str, ...]


def check_beside(settings: Settings, catalogue: Catalogue, directory: Path) -> Checked:
    """Connect to every endpoint of the node with this runtime directory, and prepare these queries there.

    A server that is down now is no fault, as it would be none while the node runs; one that refuses the login is.
    """
    ledger = Ledger(directory, workers=settings.server.workers, is_draining=lambda: False, observe=ignore)
    driver = reading(settings)
    counted = [
        (group.endpoints, ledger.for_group(name, driver, size=group.size, endpoints=group.endpoints))
        for name, group in settings.groups.items()
    ]

    def connect(endpoint: str, deadline: float) -> Session:
        for endpoints, own in counted:
            if endpoint in endpoints:
                return own.connect(endpoint, deadline)
        raise ConnectError(None, "no group names it, so that no connection to it is left for the check")

    try:
        found = check(settings, catalogue, connect, lambda _line: None).findings
    finally:
        ledger.close()
    faults = tuple(each.fault for each in found if each.level == "error" and each.rule != "unreachable")
    return Checked(faults, tuple(str(each) for each in found if each.rule == "unreachable"))
