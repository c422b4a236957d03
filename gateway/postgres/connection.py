"""One connection to one server: runs plans under a deadline, comes back clean or not at all."""

import select
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import floor
from time import monotonic
from typing import Any, NamedTuple

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import ArgumentFault, GatewayError, Outcome
from gateway.pool.driver import ConnectionBroken, Role
from gateway.postgres import failures
from gateway.postgres.failures import Stage
from gateway.postgres.statement import Plan, encode_rows
from gateway.postgres.waiting import ClientLeft, ClientSocket, DeadlinePassed

SAFETY_MARGIN = 0.05
"""Seconds before our deadline at which the server gives up a write: its end is then known, not guessed."""

_RESET = (
    "CLOSE ALL; UNLISTEN *; SET SESSION AUTHORIZATION DEFAULT; RESET ALL;"
    " SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)


class Result(NamedTuple):
    """What a query gave: JSON texts (objects for rows, a value for a scalar) and the number of rows touched."""

    rows: list[bytes]
    affected: int


class Connection(psycopg2.extensions.connection):
    """A psycopg2 connection in autocommit that satisfies ``pool.driver.Connection``.

    Used by one owner at a time. Every method that speaks to the server takes a deadline, a point of
    ``time.monotonic``; past it the connection is closed.
    """

    def __init__(self, dsn: str, *, deadline: float, prepared_limit: int = 200, prepare: bool = True) -> None:
        # NOTE: psycopg2 connects inside __init__, through the wait callback, which reads these two.
        self.deadline: float | None = deadline
        self.client: ClientSocket | None = None
        super().__init__(dsn)
        self.autocommit = True
        self.server_version_text = ""
        self._prepares = prepare
        self._prepared: OrderedDict[str, None] = OrderedDict()
        self._prepared_limit = prepared_limit
        self._unclean = False
        self._stage = Stage.PREPARING
        self._pinned: dict[str, str] = {}
        self._standby_at_connect = False
        for oid in psycopg2.extensions.string_types:
            self.string_types[oid] = psycopg2.extensions.BYTES
        self._peek = select.poll()
        self._peek.register(self.fileno(), select.POLLIN | select.POLLRDHUP)

    # -- the pool's side -----------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Primary or replica, as of the last answer: ``in_hot_standby`` comes with every one (PostgreSQL >= 14)."""
        standby = self.get_parameter_status("in_hot_standby") if self._prepares else None
        if standby is None:
            return Role.REPLICA if self._standby_at_connect else Role.PRIMARY
        return Role.REPLICA if standby == "on" else Role.PRIMARY

    def is_usable(self) -> bool:
        """Look at the idle socket: anything readable is the server's farewell or something unasked."""
        return not self.closed and not self._peek.poll(0)

    def ping(self, deadline: float) -> None:
        """Ask the server for a sign of life; raises ConnectionBroken."""
        try:
            self.ask("SELECT 1", deadline)
        except GatewayError as error:
            self.close()
            raise ConnectionBroken(error.detail) from error

    def settle(self, deadline: float) -> bool:
        """Make clean for the next lease: end what is open, wipe session state a query may have left."""
        self.client = None
        if self.closed:
            return False
        status = self.get_transaction_status()
        try:
            if status in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR):
                self.ask("ROLLBACK", deadline)
            elif status != TRANSACTION_STATUS_IDLE:
                return False
            if self._unclean:
                self.ask("; ".join([_RESET, *self._pins("SET")]), deadline)
                self._unclean = False
        except GatewayError:
            return False
        return True

    # -- the gateway's side --------------------------------------------------------------------------------------

    def establish(self, settings: Mapping[str, str], deadline: float) -> None:
        """Learn role and version, and make sure that every setting asked for in the connect options has taken.

        A pooler in between may have dropped the options; what differs is SET for the session, or, where statements
        of one client may meet several servers (``prepare = false``), in front of every message.
        """
        names = ", ".join(literal(name) for name in settings)
        rows = self.ask(
            "SELECT pg_is_in_recovery()::text, current_setting('server_version'), name, current_setting(name)"
            f" FROM unnest(ARRAY[{names}]::text[]) AS name",
            deadline,
        )
        self._standby_at_connect = rows[0][0] == "true"
        self.server_version_text = str(rows[0][1]).partition(" ")[0]
        self._pinned = {str(name): settings[str(name)] for _, _, name, value in rows if value != settings[str(name)]}
        if self._pinned and self._prepares:
            self.ask("; ".join(self._pins("SET")), deadline)

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        """Run SQL of our own and give its rows as text. Raises a GatewayError."""
        self.deadline, self.client = deadline, None
        try:
            cursor = self.cursor()
            cursor.execute(sql)
            return [tuple(map(_text, row)) for row in cursor.fetchall()] if cursor.description else []
        except (psycopg2.Error, DeadlinePassed) as error:
            raise self.explained(error) from error

    def run(
        self,
        plan: Plan,
        literals: Sequence[str],
        *,
        deadline: float,
        client: ClientSocket | None = None,
        max_bytes: int | None = None,
    ) -> Result:
        """Run a plan with its literals (in the order of ``$1`` …) and give what it answered.

        A read ends when ``client`` hangs up; a write runs to its end. A plain write is one message and its own
        transaction. Raises a GatewayError, with the outcome for a write.
        """
        self.deadline = deadline
        self.client = None if plan.write else client
        self._unclean = self._unclean or not plan.harmless
        self._stage = Stage.PREPARING
        try:
            try:
                result = self._execute(plan, literals)
            except psycopg2.errors.InvalidSqlStatementName:
                # Somebody deallocated it. The message failed before anything ran, so it may run again.
                self._stage = Stage.PREPARING
                self._prepared.pop(plan.name, None)
                if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                    self.cursor().execute("ROLLBACK")
                result = self._execute(plan, literals)
        except (psycopg2.Error, DeadlinePassed, ClientLeft) as error:
            explained = self.explained(error, write=plan.write)
            self._attribute(explained, plan, literals)
            raise explained from error
        if max_bytes is not None and sum(map(len, result.rows)) > max_bytes:
            outcome = Outcome.COMMITTED if plan.write else None
            raise errors.ResultTooLarge(f"the result has more than {max_bytes} bytes", outcome=outcome)
        return result

    def explained(self, error: Exception, *, write: bool = False) -> GatewayError:
        """Turn what psycopg2 or the wait raised into an error of ours; a connection that broke is closed."""
        if isinstance(error, DeadlinePassed | ClientLeft):
            return failures.interrupted(deadline=isinstance(error, DeadlinePassed), write=write, stage=self._stage)
        if not isinstance(error, psycopg2.Error):
            raise error
        if self.closed or error.pgcode is None:
            self.close()
            return failures.connection_lost(error, write=write, stage=self._stage)
        late = self._deadline_left() <= SAFETY_MARGIN + 0.02
        return failures.refused(error, write=write, stage=self._stage, late=late, replica=self.role is Role.REPLICA)

    def _execute(self, plan: Plan, literals: Sequence[str]) -> Result:
        inline = plan.form is Form.CALL or not self._prepares
        if not inline:
            self._prepare(plan)
        head = self._head(plan)
        statement = plan.inline(literals) if inline else plan.execute(literals)
        cursor = self.cursor()
        if not plan.transaction:
            self._stage = Stage.COMMITTING
            cursor.execute(head + statement)
            if plan.form is Form.WRAPPED:
                return Result([row[0] for row in cursor.fetchall()], cursor.rowcount)
            return Result([], max(cursor.rowcount, 0))
        self._stage = Stage.OPEN
        cursor.execute(f"BEGIN; {head}{statement}")
        affected = max(cursor.rowcount, 0) if plan.form is Form.PLAIN else 0
        rows = self._encode(plan, cursor) if plan.kind is not Kind.EXEC else []
        self._stage = Stage.COMMITTING
        cursor.execute("COMMIT")
        if cursor.statusmessage != "COMMIT":
            raise errors.QueryBroken("the server rolled the transaction back", outcome=Outcome.ROLLED_BACK)
        return Result(rows, affected)

    def _encode(self, plan: Plan, cursor: Any) -> list[bytes]:
        """Have the server write the JSON of rows it sent as text."""
        if cursor.description is None:
            return []
        rows = cursor.fetchall()
        if plan.kind is not Kind.MANY:
            rows = rows[:1]
        if not rows:
            return []
        texts = [["NULL" if value is None else literal(_text(value) or "") for value in row] for row in rows]
        cursor.execute(encode_rows(plan.columns, texts, scalar=plan.kind is Kind.SCALAR))
        return [row[0] for row in cursor.fetchall()]

    def _head(self, plan: Plan) -> str:
        """What must be set for this message alone, in front of the statement."""
        parts = [] if self._prepares else self._pins("SET LOCAL")
        if plan.write:
            left = max(1, floor((self._deadline_left() - SAFETY_MARGIN) * 1000))
            # The lock gives up a little earlier, so that the answer can name it.
            parts += [f"SET LOCAL statement_timeout = {left}", f"SET LOCAL lock_timeout = {max(1, left - 10)}"]
        elif not plan.harmless and self.role is Role.PRIMARY:
            # SECURITY: a read-only session can be switched off by a plain SELECT of an earlier lease.
            parts.append("SET LOCAL transaction_read_only = on")
        return "; ".join([*parts, ""]) if parts else ""

    def _prepare(self, plan: Plan) -> None:
        if plan.name in self._prepared:
            self._prepared.move_to_end(plan.name)
            return
        cursor = self.cursor()
        if len(self._prepared) >= self._prepared_limit:
            oldest, _ = self._prepared.popitem(last=False)
            cursor.execute(f"DEALLOCATE {oldest}")
        cursor.execute(plan.prepare())
        self._prepared[plan.name] = None

    def _pins(self, verb: str) -> list[str]:
        return [f"{verb} {name} = {literal(value)}" for name, value in self._pinned.items()]

    def _deadline_left(self) -> float:
        return (self.deadline or 0.0) - monotonic()

    def _attribute(self, error: GatewayError, plan: Plan, literals: Sequence[str]) -> None:
        """Find out which arguments the server's input functions refuse (PostgreSQL >= 16), all of them at once."""
        if not isinstance(error, errors.InvalidArguments) or self.closed or self.server_version < 160000:
            return
        candidates = [index for index, value in enumerate(literals) if value != "NULL"]
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE or not candidates:
            return
        looks = " UNION ALL ".join(
            f"SELECT {index}, sql_error_code FROM pg_input_error_info({literals[index]},"
            f" {literal(plan.types[index].sql)})"
            for index in candidates
        )
        try:
            rows = self.ask(looks, self.deadline or 0.0)
        except GatewayError:
            return
        found: list[ArgumentFault] = []
        for index, sqlstate in rows:
            if sqlstate is not None:
                position = int(index or 0)
                found.append(failures.input_fault(plan.parameters[position], plan.types[position].name, sqlstate))
        if found:
            error.faults = tuple(found)


def _text(value: Any) -> str | None:
    """A value as the text the server sent: bytes for types psycopg2 knows, str for others."""
    return value.decode() if isinstance(value, bytes) else value
