"""What became of a write whose answer was lost: the rules, and the question to the server.

``pg_xact_status`` is believed only where the server still has all that the transaction had written when its mark was
made: then its xid is known there and cannot be another's. Everything else is decided by positions: what a server lost
was rolled back, and what nobody can tell is unknown.
"""

from collections.abc import Mapping
from enum import Enum

import msgspec

from gateway.errors import GatewayError
from gateway.postgres.marks import Mark
from gateway.postgres.positions import TIMELINE
from gateway.postgres.session import Session

ONE_CRASH = 5_000_000
"""Microseconds from a mark to the server's recovery within which there was one crash, not two: the first of two could
have lost what the second did not."""

_ASK = f"""
SELECT pg_catalog.json_build_object(
    'system', (SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text,
    'writable', NOT pg_catalog.pg_is_in_recovery(),
    'life', (SELECT (extract(epoch FROM stats_reset) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8
               FROM pg_catalog.pg_stat_bgwriter),
    'timeline', CASE WHEN pg_catalog.pg_is_in_recovery() THEN 0 ELSE {TIMELINE} END,
    'recovered_to', pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::pg_catalog.int8,
    'promoted', NOT pg_catalog.pg_is_in_recovery() AND pg_catalog.pg_last_wal_receive_lsn() IS NOT NULL,
    'may_read', pg_catalog.has_function_privilege(
        'pg_catalog.pg_read_file(pg_catalog.text, bigint, bigint, boolean)', 'EXECUTE'))::pg_catalog.text
"""
_HISTORY_LENGTH = 1_000_000


class Verdict(Enum):
    """What the answer of one server means for a write."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "this server cannot tell, now or later"
    LATER = "nothing yet: ask again"
    FOREIGN = "a server of another cluster"


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a server said of itself and of the transaction."""

    system: str
    writable: bool
    timeline: int
    life: int | None
    recovered_to: int | None
    """End of the WAL that was replayed when this server was started (None: nothing had to be) or promoted; from there
    on it wrote by itself."""
    promoted: bool
    """It was a standby when it was started: ``recovered_to`` is where its timeline began."""
    may_read: bool = False
    forks: Mapping[int, int] | None = None
    """Timelines of the server's history with the position at which each was left; None if it may not be read."""
    status: str | None = None
    """``pg_xact_status``: None for what is too old to be known, ``future`` for an xid not handed out yet."""


def judge(mark: Mark, said: Said) -> Verdict:
    """The rules, pure."""
    if said.system != str(mark.system):
        return Verdict.FOREIGN
    if not said.writable or said.timeline < mark.timeline:
        return Verdict.LATER
    kept = _kept(mark, said) if said.timeline == mark.timeline else _kept_by_a_successor(mark, said)
    if kept is None:
        return Verdict.UNKNOWN
    if not kept:
        return Verdict.ROLLED_BACK
    match said.status:
        case "committed":
            # A successor may have followed a primary that crashed, lost the write and gave its xid to another.
            return Verdict.COMMITTED if said.timeline == mark.timeline else Verdict.UNKNOWN
        case "aborted":
            return Verdict.ROLLED_BACK
        case "in progress":
            return Verdict.LATER
    return Verdict.UNKNOWN


def _kept(mark: Mark, said: Said) -> bool | None:
    """Whether a server of the mark's timeline still has all up to the mark; None if that cannot be told."""
    if said.life == mark.life:
        return True
    if said.recovered_to is None or said.life is None:
        return None
    if said.recovered_to < mark.position:
        return False
    return True if 0 <= said.life - mark.taken <= ONE_CRASH else None


def _kept_by_a_successor(mark: Mark, said: Said) -> bool | None:
    """Whether the history of a later timeline has all up to the mark; None if that cannot be told."""
    if said.forks is not None:
        fork = said.forks.get(mark.timeline)
        return None if fork is None else fork >= mark.position
    if said.recovered_to is None:
        return None
    if said.recovered_to < mark.position:
        return False  # whatever the history: what is behind that point this server has written by itself
    # A promoted server takes the number after the newest it knows, so its predecessor was the mark's timeline.
    return True if said.promoted and said.timeline == mark.timeline + 1 else None


def ask(connection: Session, mark: Mark, deadline: float) -> Said:
    """Ask the server behind ``connection``; raises a GatewayError."""
    said = msgspec.json.decode(connection.ask(_ASK, deadline)[0][0] or "", type=Said)
    if not said.writable or said.system != str(mark.system):
        return said
    if said.may_read and said.timeline > mark.timeline:
        said = msgspec.structs.replace(said, forks=_history(connection, said.timeline, deadline))
    return msgspec.structs.replace(said, status=_status(connection, mark.xid, deadline))


def _status(connection: Session, xid: int, deadline: float) -> str | None:
    try:
        return connection.ask(f"SELECT pg_catalog.pg_xact_status('{xid:d}')", deadline)[0][0]
    except GatewayError as error:
        if error.sqlstate == "22023":
            return "future"
        raise


def _history(connection: Session, timeline: int, deadline: float) -> dict[int, int] | None:
    """The history file of a timeline: lines of ``number<tab>position<tab>reason``."""
    name = f"pg_wal/{timeline:08X}.history"
    text = connection.ask(f"SELECT pg_catalog.pg_read_file('{name}', 0, {_HISTORY_LENGTH}, true)", deadline)[0][0]
    return None if text is None else history(text)


def history(text: str) -> dict[int, int]:
    """Timelines with the position at which each was left, from the text of a history file."""
    forks = {}
    for line in text.splitlines():
        fields = line.partition("#")[0].split()
        if len(fields) >= 2:
            high, _, low = fields[1].partition("/")
            forks[int(fields[0])] = (int(high, 16) << 32) + int(low, 16)
    return forks
