"""Server sessions by process and start: which one a connection has, and whether sessions that were given up exist."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from gateway.errors import GatewayError

# NOTE: for a session of another role the start is NULL. Ours are of the role that asks, or were: the password file or
# the DSN may have changed. A row without a start is therefore taken for ours.
_SELF = (
    "SELECT pg_catalog.pg_backend_pid()::pg_catalog.text,"
    " pg_catalog.date_part('epoch', backend_start)::pg_catalog.text"
    " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())"
)
_OTHERS = (
    "SELECT pid::pg_catalog.text, pg_catalog.date_part('epoch', backend_start)::pg_catalog.text"
    " FROM pg_catalog.pg_stat_get_activity(NULL)"
    " WHERE pid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.int4[])"
)


class Backend(NamedTuple):
    """A server session. Process numbers are used again, with another start."""

    pid: int
    started: int
    """Microseconds of the Unix epoch, by the server's clock."""


class Asking(Protocol):
    """A connection as far as it is needed here."""

    prepares: bool

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        """Run SQL and return its rows as text; raises a GatewayError."""

    def get_backend_pid(self) -> int:
        """Return the process number that came with the cancellation key when the connection was opened."""


def backend_of(connection: Asking, deadline: float) -> Backend | None:
    """Return the session of a connection; None if it cannot be known because there is a pooler in between.

    A pooler has sessions of its own, which it neither opens nor ends with the connections to it. It can be told by the
    process number that it announces, which is not that of the session that answers.

    Raises a GatewayError if the connection is lost.
    """
    if not connection.prepares:
        return None
    try:
        rows = connection.ask(_SELF, deadline)
    except GatewayError as error:
        if error.sqlstate is None:
            raise
        return None  # somebody revoked the right to call it
    if not rows or rows[0][0] != str(connection.get_backend_pid()) or rows[0][1] is None:
        return None
    return Backend(int(rows[0][0]), _microseconds(rows[0][1]))


def alive(connection: Asking, backends: Iterable[Backend], deadline: float) -> frozenset[Backend]:
    """Return which of these sessions exist on the server. Raises a GatewayError."""
    asked = frozenset(backends)
    rows = connection.ask(_OTHERS.format(",".join(str(backend.pid) for backend in asked)), deadline)
    started = {int(pid or 0): start and _microseconds(start) for pid, start in rows}
    return frozenset(each for each in asked if each.pid in started and started[each.pid] in (None, each.started))


def _microseconds(epoch: str) -> int:
    return round(float(epoch) * 1_000_000)
