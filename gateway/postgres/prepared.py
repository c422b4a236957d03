"""The statements that are prepared in one session: which they are, and whether they are still ours.

A function that a query calls may deallocate a statement of ours and prepare another one under its name. So each is
known by its name and the time of its preparing, which is the server's and no two share.
"""

import secrets
from collections import OrderedDict
from typing import Protocol

import psycopg2
import psycopg2.errors

from gateway.postgres.statement import NAME

_FINGERPRINT = "pg_catalog.hash_record_extended(ROW(name, prepare_time), 0)"
_WORD = f"gateway-{secrets.token_hex(8)}"
"""No one outside this process knows it, so that no error of a query is taken for that of the check."""

FINGERPRINTS = (
    f"SELECT pg_catalog.concat(pg_catalog.count(*), ':', pg_catalog.bit_xor({_FINGERPRINT}))"
    " FROM pg_catalog.pg_prepared_statements"
)
"""How many statements are prepared in a session, and which: to be compared with ``Prepared.expected``."""


LEAST = 2
"""Statements that one message may execute: a write and its guard."""


class Preparable(Protocol):
    """A statement that can be prepared, such as a plan's or that of the guard in front of a write."""

    @property
    def name(self) -> str:
        """What it is prepared as: one that ``statement.NAME`` matches, the same for the same text and types."""

    def prepare(self) -> str:
        """Return the PREPARE statement."""


class Prepared:
    """What is prepared in one session, at most ``limit`` statements: the one unused for longest goes first."""

    def __init__(self, limit: int) -> None:
        self.names: OrderedDict[str, int] = OrderedDict()
        """Their fingerprints by name, the one used last at the end."""
        self.is_doubtful = False
        """Whether a query may have meddled with them since it was last looked."""
        self._limit = max(limit, LEAST)

    def preparing(self, statement: Preparable) -> str:
        """Return the message that prepares one more statement and answers its fingerprint, for :meth:`add`."""
        make_room = ""
        if len(self.names) >= self._limit:
            oldest, _ = self.names.popitem(last=False)
            make_room = f"DEALLOCATE {oldest}; "
        # The statement may end with a comment.
        look = f"SELECT {_FINGERPRINT}::pg_catalog.text FROM pg_catalog.pg_prepared_statements"
        return f"{make_room}{statement.prepare()}\n; {look} WHERE name OPERATOR(pg_catalog.=) '{statement.name}'"

    def add(self, statement: Preparable, fingerprint: int) -> None:
        """Note that a statement is prepared."""
        self.names[statement.name] = fingerprint

    def clear(self) -> None:
        """Note that nothing is prepared any more."""
        self.names.clear()
        self.is_doubtful = False

    @property
    def expected(self) -> str:
        """What ``FINGERPRINTS`` answers if nobody meddled."""
        if not self.names:
            return "0:"
        xor = 0
        for fingerprint in self.names.values():
            xor ^= fingerprint
        return f"{len(self.names)}:{xor}"

    def check(self) -> str:
        """Return the statement that stops a message where somebody meddled."""
        # NOTE: the text to be cast is no constant, so that nothing is computed before its turn comes in the CASE.
        return (
            f"SELECT CASE WHEN found OPERATOR(pg_catalog.=) '{self.expected}' THEN 0"
            f" ELSE pg_catalog.format('{_WORD} %s', found)::pg_catalog.int4 END FROM ({FINGERPRINTS}) AS now(found)"
        )


def is_forgotten(error: psycopg2.Error) -> bool:
    """Return whether a message failed because a statement of ours is not prepared, or is not ours any more.

    One whose name is taken is likewise not ours. A function that a query calls may raise the same as PostgreSQL does
    for a statement of its own.
    """
    told = error.diag.message_primary or ""
    if isinstance(error, psycopg2.errors.InvalidSqlStatementName | psycopg2.errors.DuplicatePreparedStatement):
        return NAME.search(told) is not None
    return error.pgcode == "22P02" and _WORD in told
