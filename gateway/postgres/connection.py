"""Runs plans on a session: one plan, one message, and the result as the server wrote it."""

from collections.abc import Sequence
from math import floor
from time import monotonic
from typing import Any

import msgspec
import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_INERROR

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import GatewayError, Outcome
from gateway.postgres import failures, guarding
from gateway.postgres.attributing import refused_arguments
from gateway.postgres.failures import Stage
from gateway.postgres.session import SAFETY_MARGIN, Session, text_of
from gateway.postgres.statement import Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.rotation.endpoint import Role
from gateway.waiting import Client

KEPT = 65536
"""Bytes of a result that an idle connection may hold on to."""
LARGEST = 4 << 20
"""Bytes of a result after which a connection is not kept: libpq's buffer has room for all of it, and never shrinks."""


class Result(msgspec.Struct, frozen=True):
    """What a query gave."""

    text: bytes
    """JSON: rows as objects joined by commas, one object, or a value; empty where there was no row, and for exec."""
    row_count: int
    """Rows answered, or touched."""


class Connection(Session):
    """A session that runs plans. ``postgres.transaction`` runs several in one transaction on it."""

    _cursor: Any = None
    """PERF: used again, since making one costs as much as a look at a small result. It keeps the last result."""

    def run(
        self,
        plan: Plan,
        literals: Sequence[str],
        *,
        deadline: float,
        client: Client | None = None,
        max_bytes: int | None = None,
        guard: str = "",
    ) -> Result:
        """Run a plan with its literals (in the order of ``$1`` …) and give what it answered.

        A read ends when ``client`` hangs up; a write runs to its end. A plain write is one message and its own
        transaction. ``guard`` (one of ``guarding``) goes in front of a read and may stop it: TooStale. Raises a
        GatewayError, with the outcome for a write.
        """
        self.deadline = deadline
        self.client = None if plan.write else client
        if self.client is not None and self.client.gone_at is not None and self.client.gone_at <= monotonic():
            raise failures.interrupted(deadline=False, write=False, stage=Stage.PREPARING)
        if not plan.harmless:
            self._unclean = True
        if plan.write:
            self._wrote = True
        self._stage = Stage.PREPARING
        self._reads = not plan.write
        self._silent_at = None
        try:
            try:
                result = self._execute(plan, literals, guard)
            except psycopg2.errors.InvalidSqlStatementName as error:
                # Whatever the message did before it failed was rolled back with it.
                if not self.forgot(error):
                    raise
                self.prepare_afresh()
                result = self._execute(plan, literals, guard)
        except (DeadlinePassed, ClientLeft, EndpointWithdrawn) as error:
            raise self.explained(error, write=plan.write) from error
        except psycopg2.Error as error:
            raise self._attributed(self.explained(error, write=plan.write), plan, literals) from error
        size = len(result.text)
        if size > KEPT:
            self.outgrow(size)
        if max_bytes is not None and size > max_bytes:
            outcome = Outcome.COMMITTED if plan.write else None
            raise errors.ResultTooLarge(f"the result has more than {max_bytes} bytes", outcome=outcome)
        return result

    # -- for postgres.transaction ---------------------------------------------------------------------------------

    def undertake(self, plans: Sequence[Plan], *, deadline: float, client: Client | None) -> None:
        """Get ready to run these in one transaction; ``client``: whose hanging up ends it, None: nobody's."""
        self.deadline, self.client = deadline, client
        if client is not None and client.gone_at is not None and client.gone_at <= monotonic():
            raise ClientLeft
        self._unclean = self._unclean or not all(plan.harmless for plan in plans)
        writes = any(plan.write for plan in plans)
        self._wrote = self._wrote or writes
        self._reads = not writes
        self._silent_at = None

    def outgrow(self, size: int) -> None:
        """Hold on to nothing of a result of so many bytes."""
        self._cursor = None
        self._is_swollen = self._is_swollen or size > LARGEST

    def reach(self, stage: Stage) -> None:
        """Note how far the transaction has come, for the outcome should something go wrong."""
        self._stage = stage

    def preface(self, plans: Sequence[Plan]) -> list[str]:
        """Statements that must come first in a transaction of these plans."""
        parts = [] if self.prepares else self._pins("SET LOCAL")
        if self._sequences_stale and self.prepares and not all(plan.harmless for plan in plans):
            parts.append("DISCARD SEQUENCES")
            self._sequences_stale = False
        return parts

    def statement(self, plan: Plan, literals: Sequence[str]) -> str:
        """The text that runs a plan, which is made ready first."""
        self.make_ready(plan)
        return plan.inline(literals) if plan.form is Form.CALL or not self.prepares else plan.execute(literals)

    def fetch(self, plan: Plan, cursor: Any) -> Result:
        """The result of a plan whose statement was the last one ``cursor`` ran, inside a transaction."""
        if plan.form is Form.WRAPPED:
            return _fetched(cursor)
        if plan.kind is Kind.EXEC:
            return Result(b"", max(cursor.rowcount, 0) if plan.form is Form.PLAIN else 0)
        rows = self._encode(plan, cursor)
        return Result(b",".join(rows), len(rows))

    def blamed(self, error: Exception, plan: Plan, literals: Sequence[str], *, write: bool) -> GatewayError:
        """What a statement of a transaction failed with, in our words; ends the transaction if it must ask why.

        ``write``: something in the transaction may write.
        """
        return self._attributed(self.explained(error, write=write, reads=not plan.write), plan, literals)

    # -- one plan ------------------------------------------------------------------------------------------------

    def _execute(self, plan: Plan, literals: Sequence[str], guard: str) -> Result:
        if plan.form is Form.CALL or not self.prepares:
            statement = plan.inline(literals)
        else:
            if plan.name in self._prepared:
                self._prepared.move_to_end(plan.name)
            else:
                self._prepare(plan)
            statement = plan.execute(literals)
        if guard:
            statement = (guard if self.prepares else guarding.READ_COMMITTED + guard) + statement
        if plan.write or not plan.harmless or not self.prepares:
            statement = self._head(plan) + statement
        if plan.form is Form.WRAPPED:
            self._stage = Stage.COMMITTING
            return self._fetch(statement)
        cursor = self.cursor()
        if not plan.transaction:
            self._stage = Stage.COMMITTING
            cursor.execute(statement)
            return Result(b"", max(cursor.rowcount, 0))
        self._stage = Stage.OPEN
        cursor.execute(f"BEGIN; {statement}")
        result = self.fetch(plan, cursor)
        self._stage = Stage.COMMITTING
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise errors.QueryBroken("the server rolled the transaction back", outcome=Outcome.ROLLED_BACK)
        return result

    def _fetch(self, statement: str) -> Result:
        """Execute a statement that answers JSON text."""
        cursor = self._cursor
        if cursor is None:
            cursor = self._cursor = self.cursor()
        cursor.execute(statement)
        return _fetched(cursor)

    def _encode(self, plan: Plan, cursor: Any) -> list[bytes]:
        """Have the server write the JSON of rows it sent as text."""
        if cursor.description is None:
            return []
        if len(cursor.description) != len(plan.columns):
            outcome = Outcome.ROLLED_BACK if plan.write else None
            raise errors.QueryBroken("the columns are not those described before", outcome=outcome)
        rows = cursor.fetchall()
        if plan.kind is not Kind.MANY:
            rows = rows[:1]
        if not rows:
            return []
        texts = [["NULL" if value is None else literal(text_of(value) or "") for value in row] for row in rows]
        cursor.execute(plan.encode_rows(texts))
        return [row[0] for row in cursor.fetchall()]

    def _head(self, plan: Plan) -> str:
        """What must be set for this message alone, in front of the statement."""
        parts = self.preface([plan])
        if plan.write:
            if self._deadline_left() <= 0:
                raise DeadlinePassed
            left = max(1, floor((self._deadline_left() - SAFETY_MARGIN) * 1000))
            # The lock gives up a little earlier, so that the answer can name it.
            parts += [f"SET LOCAL statement_timeout = {left}", f"SET LOCAL lock_timeout = {max(1, left - 10)}"]
        elif not plan.harmless and self.role is Role.PRIMARY:
            # SECURITY: a read-only session can be switched off by a plain SELECT of an earlier lease.
            parts.append("SET LOCAL transaction_read_only = on")
        return "; ".join([*parts, ""]) if parts else ""

    def _attributed(self, explained: GatewayError, plan: Plan, literals: Sequence[str]) -> GatewayError:
        """Name the arguments that are no values of their types, if that is why the server refused the statement.

        Some types say so with a syntax error or a missing object (tsquery, jsonpath, regclass), which by the code
        alone would be the catalogue's fault.
        """
        if self.closed or not isinstance(explained, errors.InvalidArguments | errors.QueryBroken):
            return explained
        deadline = self.deadline or 0.0
        try:
            if self.get_transaction_status() == TRANSACTION_STATUS_INERROR:
                self.ask("ROLLBACK", deadline)
            faults = refused_arguments(
                lambda sql: self.ask(sql, deadline), plan, literals, server_version=self.server_version
            )
        except GatewayError:
            return explained
        return failures.wrong_arguments(explained, faults) if faults else explained


def _fetched(cursor: Any) -> Result:
    """The answer of a wrapped query: a text, or how many there are and all of them joined."""
    row = cursor.fetchone()
    if row is None:
        return Result(b"", 0)
    return Result(row[0], 1) if len(row) == 1 else Result(row[1], int(row[0]))
