"""One look at an endpoint: how long it takes to answer, what it is, how far it has replayed."""

from time import monotonic

import msgspec

from gateway.catalogue.arguments import literal
from gateway.pool.driver import Role
from gateway.postgres.connection import Connection

_LOOK = """
SELECT json_build_object(
    'standby', pg_is_in_recovery(),
    'lsn', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text,
    'timeline', CASE WHEN pg_is_in_recovery() THEN (SELECT received_tli FROM pg_stat_wal_receiver)
                ELSE ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int END,
    'replayed_ms_ago', (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::int8,
    'behind', {behind})::text
"""


class Look(msgspec.Struct, frozen=True):
    """What a probe saw."""

    role: Role
    ping_ms: float
    server_version: str
    position: str
    """Insert position of a primary, replay position of a replica, as ``0/16B3748``."""
    timeline: int | None
    """None on a replica whose receiver the gateway's role may not see (pg_monitor may)."""
    lag_ms: int | None
    lag_bytes: int | None


class _Answer(msgspec.Struct):
    standby: bool
    lsn: str | None
    timeline: int | None
    replayed_ms_ago: int | None
    behind: int | None


def look(connection: Connection, deadline: float, primary_position: str | None = None) -> Look:
    """Look at the server behind ``connection``; raises a GatewayError.

    ``primary_position`` is the last known insert position of the primary: a replica that has replayed it has no
    lag, however long ago its last transaction was (an idle primary never looks like lag).
    """
    behind = "NULL"
    if primary_position is not None:
        distance = f"pg_wal_lsn_diff({literal(primary_position)}, pg_last_wal_replay_lsn())::int8"
        behind = f"CASE WHEN pg_is_in_recovery() THEN {distance} END"
    started = monotonic()
    rows = connection.ask(_LOOK.format(behind=behind), deadline)
    took = (monotonic() - started) * 1000
    answer = msgspec.json.decode(rows[0][0] or "", type=_Answer)
    lag_bytes = None if answer.behind is None else max(0, answer.behind)
    return Look(
        role=Role.REPLICA if answer.standby else Role.PRIMARY,
        ping_ms=round(took, 3),
        server_version=connection.server_version_text,
        position=answer.lsn or "0/0",
        timeline=answer.timeline,
        lag_ms=None if lag_bytes is None else (0 if lag_bytes == 0 else answer.replayed_ms_ago),
        lag_bytes=lag_bytes,
    )
