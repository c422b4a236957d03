"""Statements that stop a message: a read on a server that has not come far enough, results that grow too large.

A server's position must be looked at before the data's snapshot is taken: in one statement with the data it is not,
so the guard is a statement of its own in the same message (under READ COMMITTED, which is pinned).

A guard fails by reading a text as a number. The text begins with a word that no one outside this process knows, so
that no error of the query itself, nor one a caller provokes, is taken for it.
"""

import secrets

import psycopg2

from gateway.catalogue.types import Expectation
from gateway.postgres.positions import TIMELINE
from gateway.postgres.statement import STALE
from gateway.postgres.tokens import Token

READ_COMMITTED = "SET LOCAL transaction_isolation = 'read committed'; "
"""To go before a guard where the session's settings are not ours."""

_WORD = f"gateway-{secrets.token_hex(8)}"
_STALE = f"gateway-{secrets.token_hex(8)}"
_TOO_LONG = f"gateway-{secrets.token_hex(8)}"
_REPLAYED, _RECOVERS = "pg_catalog.pg_last_wal_replay_lsn()", "pg_catalog.pg_is_in_recovery()"


def has_replayed(token: Token) -> str:
    """Stop on a standby that has not replayed up to the token's position. Says nothing of timelines."""
    position = f"{token.position >> 32:X}/{token.position & 0xFFFFFFFF:X}"
    # NOTE: format, as || would make NULL of a NULL position (a server that never was a standby), and pass it.
    return (
        f"SELECT CASE WHEN {_REPLAYED} OPERATOR(pg_catalog.>=) '{position}' THEN 0"
        f" ELSE pg_catalog.format('{_WORD} %s', {_REPLAYED})::int END; "
    )


def writes_timeline(token: Token) -> str:
    """Stop on whatever is not a primary of the token's timeline or a later one."""
    # NOTE: nothing here is constant, so that nothing is computed before its turn comes in the CASE.
    return (
        f"SELECT CASE WHEN {_RECOVERS} THEN pg_catalog.format('{_WORD} %s', {_RECOVERS})::int"
        f" WHEN {TIMELINE} OPERATOR(pg_catalog.>=) {token.timeline}::pg_catalog.int8 THEN 0"
        f" ELSE pg_catalog.format('{_WORD} %s', {_RECOVERS})::int END; "
    )


def is_no_longer_than(most: int, setting: str) -> str:
    """Stop where the value of a setting has more than ``most`` bytes."""
    length = f"pg_catalog.octet_length(pg_catalog.current_setting('{setting}'))"
    complaint = f"pg_catalog.format('{_TOO_LONG} %s', {length})::int"
    return f"SELECT CASE WHEN {length} OPERATOR(pg_catalog.<=) {most} THEN 0 ELSE {complaint} END"


def holds(expectation: Expectation) -> str:
    """Stop where what a write was learnt with is not as it was: with an error of ours, or as a name is gone."""
    # PERF: without a column in the result, and one that is never there, 2 µs less than a SELECT of the CASE.
    return (
        f"SELECT FROM (SELECT) AS gw{expectation.joins} WHERE (CASE WHEN {expectation.condition} THEN '0'"
        f" ELSE '{_STALE}' END)::pg_catalog.int4 OPERATOR(pg_catalog.<>) 0"
    )


def is_stale(error: psycopg2.Error) -> bool:
    """Whether it was ``holds`` that failed."""
    return error.pgcode == "22P02" and _STALE in (error.diag.message_primary or "")


def was_too_long(error: psycopg2.Error) -> bool:
    """Whether it was ``is_no_longer_than`` that failed."""
    return error.pgcode == "22P02" and _TOO_LONG in (error.diag.message_primary or "")


def found_stale(error: psycopg2.Error) -> bool:
    """Whether a plan's guard found that the types are not those expected any more, or the server found it itself.

    A prepared statement whose result has other columns, "cached plan must not change result type", is never run again.
    """
    if error.pgcode == "0A000":
        return error.diag.source_function == "RevalidateCachedQuery"
    return error.pgcode == "22P02" and STALE in (error.diag.message_primary or "")


def stopped(error: psycopg2.Error) -> bool:
    """Whether it was a guard of a read that failed."""
    return error.pgcode == "22P02" and _WORD in (error.diag.message_primary or "")
