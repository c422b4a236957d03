"""Idempotency keys: the key, what was asked and what was answered, in the transaction of the write itself.

Whoever repeats a key stops at its INSERT, on the unique index, until the first has ended: if that committed, its
answer is read and given again; if it did not, the key is free and the repeat is the first. Only what committed is
kept. ``ON CONFLICT DO NOTHING`` would not do: it finds nothing while the first is still committing.
"""

import secrets
from typing import NamedTuple

import psycopg2

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.errors import GatewayError, Outcome
from gateway.postgres.session import Session

TABLE = "gateway_idempotency"
SWEPT_AT_ONCE = 1000
DDL = f"""\
CREATE TABLE IF NOT EXISTS {TABLE} (
    caller       pg_catalog.text NOT NULL,
    key          pg_catalog.text NOT NULL,
    request_hash pg_catalog.text NOT NULL,
    status       int,
    answer       pg_catalog.text,
    created_at   pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (caller, key)
);
CREATE INDEX IF NOT EXISTS {TABLE}_created_at ON {TABLE} (created_at);
"""

_MISSING = f"there is no table {TABLE} for idempotency keys: run gateway init-db"
_LOST = "the row of its idempotency key was not there any more: a step deleted it, or changed the search_path"
_FORBIDDEN = f"the gateway's role needs SELECT, INSERT, UPDATE and DELETE on {TABLE}: see gateway init-db --print"


_GONE = f"gateway-{secrets.token_hex(8)}"
"""No one outside this process knows it, so that no error of a query is taken for ours."""


class Claim(NamedTuple):
    """The right to run a request once."""

    caller: str
    """To whom the key belongs; empty: anybody."""
    key: str
    request_hash: str


class KeyInUse(errors.DeadlineExceeded):
    """Another request with this key was still running when the wait for it ended."""


class Kept(NamedTuple):
    """What was kept of the first request with a key."""

    request_hash: str
    answer: bytes


def claiming(claim: Claim) -> str:
    """The statement that takes the key, or waits until whoever has it is done."""
    values = ", ".join(map(literal, claim))
    return f"INSERT INTO {TABLE} (caller, key, request_hash) VALUES ({values})"


def keeping(claim: Claim, body: bytes, *, digest: str | None = None) -> str:
    """The statement that notes the answer, just before the COMMIT; fails where the key's row cannot be found.

    ``digest``: the request's hash, where it was not known when the key was taken.
    """
    hashed = "" if digest is None else f", request_hash = {literal(digest)}"
    update = (
        f"UPDATE {TABLE} SET status = 200, answer = {literal(body.decode())}{hashed} WHERE {_is(claim)} RETURNING 1"
    )
    found = f"CASE WHEN n OPERATOR(pg_catalog.=) 1 THEN 1 ELSE pg_catalog.format('{_GONE} %s', n)::int END"
    return f"WITH kept AS ({update}) SELECT {found} FROM (SELECT pg_catalog.count(*) FROM kept) AS found(n)"


def look_up(connection: Session, claim: Claim, deadline: float) -> Kept | None:
    """What was kept under the key, in a statement of its own that sees the latest commit; raises a GatewayError."""
    rows = connection.ask(f"SELECT request_hash, answer FROM {TABLE} WHERE {_is(claim)}", deadline)
    return Kept(rows[0][0] or "", (rows[0][1] or "").encode()) if rows else None


def is_taken(error: psycopg2.Error) -> bool:
    """Whether the key was used before."""
    return error.pgcode == "23505" and error.diag.table_name == TABLE


def trouble(error: psycopg2.Error) -> GatewayError | None:
    """What went wrong with the key itself, rather than with the write; None if it was the write."""
    if error.pgcode == "42P01" and TABLE in (error.diag.message_primary or ""):
        return errors.QueryBroken(_MISSING, outcome=Outcome.NOT_EXECUTED, sqlstate=error.pgcode)
    if error.pgcode == "42501" and TABLE in (error.diag.message_primary or ""):
        return errors.QueryBroken(_FORBIDDEN, outcome=Outcome.NOT_EXECUTED, sqlstate=error.pgcode)
    if error.pgcode == "22P02" and _GONE in (error.diag.message_primary or ""):
        return errors.QueryBroken(_LOST, outcome=Outcome.ROLLED_BACK, sqlstate=error.pgcode)
    if error.pgcode in ("55P03", "57014") and TABLE in (error.diag.context or ""):
        # Where it waited for the key the server names its index in the context.
        sentence = "another request with this key was still running at the deadline"
        return KeyInUse(sentence, outcome=Outcome.UNKNOWN, sqlstate=error.pgcode)
    return None


def sweep(connection: Session, *, retention: float, deadline: float) -> int:
    """Forget keys that are older than ``retention`` seconds, at most ``SWEPT_AT_ONCE`` of them; how many it were.

    Two who sweep at a time do not wait for each other. Without the table there is nothing to do. Raises a GatewayError.
    """
    if connection.ask(f"SELECT pg_catalog.to_regclass('{TABLE}')::pg_catalog.text", deadline) == [(None,)]:
        return 0
    interval = f"interval '{retention:f} seconds'"
    old = f"created_at OPERATOR(pg_catalog.<) (pg_catalog.now() OPERATOR(pg_catalog.-) {interval})"
    chosen = f"SELECT ctid FROM {TABLE} WHERE {old} LIMIT {SWEPT_AT_ONCE} FOR UPDATE SKIP LOCKED"
    delete = f"DELETE FROM {TABLE} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY({chosen})) RETURNING 1"
    return int(
        connection.ask(f"WITH gone AS ({delete}) SELECT pg_catalog.count(*)::pg_catalog.text FROM gone", deadline)[0][0]
        or 0
    )


def _is(claim: Claim) -> str:
    equals = "OPERATOR(pg_catalog.=)"
    return f"caller {equals} {literal(claim.caller)} AND key {equals} {literal(claim.key)}"
