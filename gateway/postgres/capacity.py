"""How many connections a server has for the role and the database that a session is of."""

import msgspec

from gateway.postgres.dsn import APPLICATION
from gateway.postgres.session import Session

_ASK = f"""\
SELECT pg_catalog.current_setting('max_connections'),
       pg_catalog.current_setting('superuser_reserved_connections')::int
           + coalesce(pg_catalog.current_setting('reserved_connections', true), '0')::int,
       (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database)
           - (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE application_name LIKE '{APPLICATION}%'),
       (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"""


class Capacity(msgspec.Struct, frozen=True):
    """What one server says."""

    max_connections: int
    reserved: int
    """Of them, for superusers and members of ``pg_use_reserved_connections``."""
    others: int
    """Sessions of others at this moment."""
    limit: int | None
    """``CONNECTION LIMIT`` of the role or of the database, the smaller one; None: there is none."""

    @property
    def free(self) -> int:
        """How many sessions all gateways together may have."""
        free = max(0, self.max_connections - self.reserved - self.others)
        return free if self.limit is None else min(free, self.limit)


def capacity(connection: Session, deadline: float) -> Capacity:
    """Ask for it; raises a GatewayError."""
    ((most, reserved, others, *limits),) = connection.ask(_ASK, deadline)
    limited = [int(limit) for limit in limits if limit is not None and int(limit) >= 0]
    return Capacity(int(most or 0), int(reserved or 0), max(0, int(others or 0)), min(limited, default=None))
