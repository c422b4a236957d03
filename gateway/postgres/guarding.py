"""Statements that stop a message: a read on a server that has not come far enough, results that grow too large.

A server's position must be looked at before the data's snapshot is taken: in one statement with the data it is not,
so the guard is a statement of its own in the same message (under READ COMMITTED, which is pinned).

A guard fails by reading a text as a number. The text begins with a word that no one outside this process knows, so
that no error of the query itself, nor one a caller provokes, is taken for it.
"""

import secrets
from collections.abc import Iterable

import psycopg2

from gateway.postgres.positions import RECOVERS, TIMELINE
from gateway.postgres.statement import STALE, Plan
from gateway.postgres.tokens import Token

READ_COMMITTED = "SET LOCAL transaction_isolation = 'read committed'; "
"""To go before a guard where the session's settings are not ours."""

_WORD = f"gateway-{secrets.token_hex(8)}"
_REVALIDATES = "RevalidateCachedQuery"
_TOO_LONG = f"gateway-{secrets.token_hex(8)}"
_REPLAYED = "pg_catalog.pg_last_wal_replay_lsn()"


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
        f"SELECT CASE WHEN {RECOVERS} THEN pg_catalog.format('{_WORD} %s', {RECOVERS})::int"
        f" WHEN {TIMELINE} OPERATOR(pg_catalog.>=) {token.timeline}::pg_catalog.int8 THEN 0"
        f" ELSE pg_catalog.format('{_WORD} %s', {RECOVERS})::int END; "
    )


def is_no_longer_than(most: int, setting: str) -> str:
    """Stop where the value of a setting has more than ``most`` bytes."""
    length = f"pg_catalog.octet_length(pg_catalog.current_setting('{setting}'))"
    complaint = f"pg_catalog.format('{_TOO_LONG} %s', {length})::int"
    return f"SELECT CASE WHEN {length} OPERATOR(pg_catalog.<=) {most} THEN 0 ELSE {complaint} END"


def was_too_long(error: psycopg2.Error) -> bool:
    """Whether it was ``is_no_longer_than`` that failed."""
    return error.pgcode == "22P02" and _TOO_LONG in (error.diag.message_primary or "")


def in_front(plans: Iterable[Plan], *, prepared: bool) -> list[str]:
    """Return the statements that run these plans' guards, each once; ``prepared`` says whether those are.

    They wait for whoever migrates, so the limits to that must be set in front of them.
    """
    guards = {plan.guard.name: plan.guard for plan in plans if plan.guard is not None}
    return [f"EXECUTE {guard.name}" if prepared else guard.text for guard in guards.values()]


def found_stale(error: psycopg2.Error) -> bool:
    """Whether the types of parameters or of a result are not those that were learnt.

    Either a plan's check found that, or the server, which says it in words that depend on ``lc_messages`` but from one
    place in its sources.
    """
    if error.pgcode == "0A000":
        return error.diag.source_function == _REVALIDATES
    return error.pgcode == "22P02" and STALE in (error.diag.message_primary or "")


def stopped(error: psycopg2.Error) -> bool:
    """Whether it was a guard of a read that failed."""
    return error.pgcode == "22P02" and _WORD in (error.diag.message_primary or "")
