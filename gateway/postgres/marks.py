"""The mark of a write: what must be known before its COMMIT is sent to find out afterwards what became of it.

An xid alone lies. After a promotion that lost the tail, and after a crash that lost what was not flushed yet, the same
xid is handed out again, and ``pg_xact_status`` tells of somebody else's transaction. The position says whether the
server still has what the write had written; the start says whether it has crashed since.
"""

import struct
from collections.abc import Sequence
from typing import Self

import msgspec

from gateway.postgres.positions import INSERTED, TIMELINE
from gateway.postgres.tokens import seal, unseal

ORIGIN = (
    "(SELECT system_identifier FROM pg_catalog.pg_control_system())::pg_catalog.text, (SELECT"
    " (extract(epoch FROM stats_reset) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8"
    " FROM pg_catalog.pg_stat_bgwriter)::pg_catalog.text"
)
"""Which server this is. Counters start anew with a crash, and with nothing else but on demand: so the moment they did
stands for the server's life since its last crash. Both are the same for the whole life of a session, which is not that
of a connection to a pooler."""
POSITION = f"({INSERTED})::pg_catalog.text, ({TIMELINE})::pg_catalog.text"
"""How far the WAL is, and its timeline; an error on a standby."""
FACTS = (
    f"pg_catalog.pg_current_xact_id()::pg_catalog.text, {POSITION}, (extract(epoch FROM pg_catalog.clock_timestamp())"
    " OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8::pg_catalog.text"
)
"""To be selected when all that the transaction writes is written: only then does the position cover its xid."""
FACTS_AND_ORIGIN = f"{FACTS}, {ORIGIN}"
"""What is selected in place of ``FACTS`` where each message may reach another session, of another server: one statement
answers all."""

_FORM = struct.Struct(">BQIQQqq")
_VERSION = 1


class NoMark(Exception):
    """This text is none of our marks."""


class Mark(msgspec.Struct, frozen=True):
    """Which transaction it was, and where."""

    system: int
    """System identifier of the cluster."""
    timeline: int
    xid: int
    """With its epoch (``xid8``)."""
    position: int
    """Insert position of the WAL when all of the transaction's writes were in it and its COMMIT was not."""
    life: int
    """When the server's counters started, in microseconds of the epoch: see ``ORIGIN``."""
    taken: int
    """The server's clock when this mark was made, in microseconds of the epoch."""

    def token(self) -> str:
        """The mark as clients see it: opaque, safe in a path."""
        fields = (self.system, self.timeline, self.xid, self.position, self.life, self.taken)
        return seal(_FORM.pack(_VERSION, *fields))

    @classmethod
    def read(cls, token: str) -> Self:
        """The mark of a token; raises NoMark."""
        try:
            version, *fields = _FORM.unpack(unseal(token))
        except (ValueError, struct.error) as error:
            raise NoMark("not a mark") from error
        if version != _VERSION:
            raise NoMark("not a mark")
        return cls(*fields)


class Origin(msgspec.Struct, frozen=True):
    """Which server a session is on, in which of its lives."""

    system: int
    life: int


def mark_of(origin: Origin, facts: Sequence[bytes | None]) -> Mark:
    """The mark of a transaction from what ``FACTS`` gave in it, or ``FACTS_AND_ORIGIN``, whose origin goes first."""
    xid, position, timeline, taken, *told = (int(fact or 0) for fact in facts)
    if told:
        origin = Origin(*told)
    return Mark(origin.system, timeline, xid, position, origin.life, taken)
