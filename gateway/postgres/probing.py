"""One look at an endpoint: how long it takes to answer, what it is, how far it has come."""

from time import monotonic

import msgspec

from gateway.errors import DeadlineExceeded, GatewayError
from gateway.postgres.positions import TIMELINE
from gateway.postgres.session import Session
from gateway.postgres.tokens import written_to
from gateway.rotation.endpoint import Role

# NOTE: the timeline is never the control file's, which lags a checkpoint. A standby's is that of its receiver, which
# only pg_monitor may see, as its status; others see that there is one. OFFSET 0: asked once, though a promotion comes.
# pg_last_wal_receive_lsn() stays where it was when the receiver is gone.
_LOOK = f"""
SELECT pg_catalog.json_build_object(
    'standby', standby,
    'position', pg_catalog.pg_wal_lsn_diff(CASE WHEN standby THEN pg_catalog.pg_last_wal_replay_lsn()
                                           ELSE pg_catalog.pg_current_wal_insert_lsn() END, '0/0')::pg_catalog.int8,
    'timeline', CASE WHEN standby THEN received_tli
                ELSE {TIMELINE} END,
    'streaming', CASE WHEN standby
                 THEN pid IS NOT NULL AND coalesce(status, 'streaming') OPERATOR(pg_catalog.=) 'streaming' END,
    'received', CASE WHEN standby
                THEN pg_catalog.pg_wal_lsn_diff(
                    greatest(latest_end_lsn, pg_catalog.pg_last_wal_receive_lsn()), '0/0')::pg_catalog.int8 END,
    'replayed_at', CASE WHEN standby THEN extract(epoch FROM pg_catalog.pg_last_xact_replay_timestamp()) END,
    'clock', extract(epoch FROM pg_catalog.clock_timestamp()))::pg_catalog.text
FROM (SELECT pg_catalog.pg_is_in_recovery() AS standby OFFSET 0) AS server
     LEFT JOIN pg_catalog.pg_stat_wal_receiver ON standby
"""
_ROLE_ONLY = """
SELECT pg_catalog.json_build_object('standby', pg_catalog.pg_is_in_recovery(),
                                    'clock', extract(epoch FROM pg_catalog.clock_timestamp()))::pg_catalog.text
"""
_AURORA = """
SELECT pg_catalog.json_build_object('standby', pg_catalog.pg_is_in_recovery(),
                                    'clock', extract(epoch FROM pg_catalog.clock_timestamp()),
                                    'lag_ms', (SELECT replica_lag_in_msec
                                                 FROM pg_catalog.aurora_replica_status()
                                                WHERE server_id OPERATOR(pg_catalog.=)
                                                      pg_catalog.aurora_db_instance_identifier()))::pg_catalog.text
"""
_FORMS = (_LOOK, _AURORA, _ROLE_ONLY)
"""Each asks for less than the one before it, for servers that do not have, or do not allow, all of it."""
_REFUSALS = frozenset({"0A000", "42501", "55000", "42883", "42P01", "42703"})
"""Not supported, not allowed, not in this state; no such function, relation or column."""
FULL_AGAIN = 60.0
"""Seconds after which everything is asked for again: rights may have been granted, and roles change."""
_IDENTIFY = "SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a probe saw."""

    role: Role
    ping_ms: float
    server_version: str
    began: float
    ended: float
    """Points of our own ``time.monotonic`` between which the server was as it says here."""
    position: int | None
    """In bytes of WAL, None where the server does not tell: where a primary inserts (or the start of the page, where
    nothing but its header follows that: no standby replays a header alone), how far a standby has replayed."""
    timeline: int | None
    """None on a standby whose receiver the gateway's role may not see (pg_monitor may), or that has none."""
    streaming: bool | None
    """Whether a standby has a receiver that streams; None on a primary."""
    received: int | None
    """Of a standby: the furthest position that it has heard of from its primary."""
    replayed_at: float | None
    """Of a standby: when the last transaction that it has replayed was committed, by its primary's clock."""
    clock: float
    """The server's own clock. Both in seconds of the Unix epoch."""
    lag_ms: float | None = None
    """Of a standby that tells its lag itself, and no position."""


class _Answer(msgspec.Struct):
    standby: bool
    clock: float
    position: int | None = None
    timeline: int | None = None
    streaming: bool | None = None
    received: int | None = None
    replayed_at: float | None = None
    lag_ms: float | None = None


class Looker:
    """Looks at the server behind one connection, and remembers what it may not be asked for.

    Managed servers (Aurora's readers, Neon, AlloyDB), and others for a role with few rights, refuse the functions of
    the write-ahead log or do not have them. Of these only the role is known, and that they answer; of Aurora's the lag,
    too.
    """

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self._form = 0
        self._again_at = 0.0

    def look(self, deadline: float) -> Look:
        """Look; raises a GatewayError."""
        if self._form and monotonic() >= self._again_at:
            self._form = 0
        while True:
            try:
                return _look(self._connection, _FORMS[self._form], deadline)
            except GatewayError as error:
                if error.sqlstate not in _REFUSALS or self._form == len(_FORMS) - 1:
                    raise
            self._form += 1
            self._again_at = monotonic() + FULL_AGAIN


def _look(connection: Session, form: str, deadline: float) -> Look:
    began = monotonic()
    rows = connection.ask(form, deadline)
    ended = monotonic()
    answer = msgspec.json.decode(rows[0][0] or "", type=_Answer)
    position = answer.position
    if position is not None and not answer.standby:
        position = written_to(position)
    return Look(
        role=Role.REPLICA if answer.standby else Role.PRIMARY,
        ping_ms=round((ended - began) * 1000, 3),
        server_version=connection.server_version_text,
        began=began,
        ended=ended,
        position=position,
        timeline=answer.timeline,
        streaming=answer.streaming,
        received=answer.received,
        replayed_at=answer.replayed_at,
        clock=answer.clock,
        lag_ms=answer.lag_ms,
    )


def identify(connection: Session, deadline: float) -> str | None:
    """The system identifier of the server's cluster, which stays while the server runs; None, if it is not told.

    Raises a GatewayError, if the connection did not survive the question.
    """
    try:
        return connection.ask(_IDENTIFY, deadline)[0][0]
    except DeadlineExceeded:
        raise
    except GatewayError:  # somebody revoked the right to call it
        if connection.closed:
            raise
        return None
