"""Where a primary is: what a consistency token is made of."""

from typing import Protocol

from gateway.errors import GatewayError
from gateway.postgres.tokens import Token, written_to

TIMELINE = (
    "pg_catalog.concat('x', pg_catalog.substr("
    "pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::pg_catalog.int8"
)
"""The timeline a primary writes, right at once after a promotion; an error on a standby."""

RECOVERS = "pg_catalog.pg_is_in_recovery()"
"""Whether the server is a standby."""
INSERTED = "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::pg_catalog.int8"
"""How far the WAL of a primary is, in bytes; an error on a standby."""

_HERE = f"SELECT ({INSERTED})::pg_catalog.text, ({TIMELINE})::pg_catalog.text"
_AND_SYSTEM = ", (SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text"

_RECEIVED = (
    "pg_catalog.pg_wal_lsn_diff(GREATEST(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn()),"
    " '0/0')::pg_catalog.int8"
)
_SHOWN = (
    f"SELECT (CASE WHEN {RECOVERS} THEN {_RECEIVED} ELSE {INSERTED} END)::pg_catalog.text,"
    f" (CASE WHEN {RECOVERS} THEN NULL ELSE {TIMELINE} END)::pg_catalog.text"
)


class Asked(Protocol):
    """Whom to ask; a ``connection.Connection``."""

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        """Run SQL of our own and give its rows as text. Raises a GatewayError."""


def shown(connection: Asked, deadline: float) -> tuple[int, int | None] | None:
    """Ask how far a server must have come to show nothing older than what ``connection`` has just read.

    That position, and on a primary its timeline; None if the server does not tell before ``deadline``. On a standby it
    is what has been received: a commit is visible a moment before the position up to which it has replayed says so.
    """
    try:
        ((position, timeline),) = connection.ask(_SHOWN, deadline)
    except GatewayError:
        return None
    return None if position is None else (written_to(int(position)), None if timeline is None else int(timeline))


def token_after_commit(connection: Asked, *, system: str | None, deadline: float) -> Token | None:
    """Ask for the token of what was just committed on ``connection``, in one round trip.

    ``system``: the cluster's identifier, if it is known already. None if the server does not tell before
    ``deadline``: the write is committed all the same.
    """
    try:
        ((position, timeline, *asked),) = connection.ask(_HERE if system else _HERE + _AND_SYSTEM, deadline)
    except GatewayError:
        return None
    identifier = system or asked[0]
    return Token.after(system=int(identifier or 0), timeline=int(timeline or 0), position=int(position or 0))
