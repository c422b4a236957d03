"""One connection to one server: runs plans under a deadline, comes back clean or not at all."""

import select
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from math import floor, inf
from time import monotonic
from typing import Any, NamedTuple, Protocol

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import GatewayError, Outcome
from gateway.pool.driver import ConnectionBroken, Role
from gateway.pool.queue import Client
from gateway.postgres import failures, guarding
from gateway.postgres.attributing import refused_arguments
from gateway.postgres.failures import Stage
from gateway.postgres.marks import ORIGIN, POSITION, Origin
from gateway.postgres.statement import NAME, Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn

SAFETY_MARGIN = 0.05
"""Seconds before our deadline at which the server gives up a write: its end is then known, not guessed."""

KEPT = 65536
"""Bytes of a result that an idle connection may hold on to."""
SILENT = 0.3
"""Seconds without an answer to a read, after which somebody should see what is the matter with the server."""

_RESET = (
    "CLOSE ALL; UNLISTEN *; SET SESSION AUTHORIZATION DEFAULT; RESET ALL;"
    " SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)
_COUNT_PREPARED = "SELECT count(*)::text FROM pg_catalog.pg_prepared_statements"


class Result(NamedTuple):
    """What a query gave."""

    text: bytes
    """JSON: rows as objects joined by commas, one object, or a value; empty where there was no row, and for exec."""
    row_count: int
    """Rows answered, or touched."""


class Watch(Protocol):
    """A loop's eye on the socket of one connection."""

    spoke: bool
    """The server closed the idle connection, or said something unasked."""

    def end_wait(self) -> None:
        """End the wait of who waits for the server, soon, with EndpointWithdrawn. May be called from any thread."""

    def close(self) -> None:
        """Stop looking. To be called before the socket is closed; harmless when called again."""


class Connection(psycopg2.extensions.connection):
    """A psycopg2 connection in autocommit that satisfies ``pool.driver.Connection``.

    Used by one owner at a time. Every method that speaks to the server takes a deadline, a point of
    ``time.monotonic``; past it the connection is closed.
    """

    def __init__(self, dsn: str, *, deadline: float, prepared_limit: int = 200, prepare: bool = True) -> None:
        # NOTE: psycopg2 connects inside __init__, through the wait callback, which reads these two.
        self.deadline: float | None = deadline
        self.client: Client | None = None
        self.watch: Watch | None = None
        """The loop's eye on the socket, where a loop waits for us."""
        self.on_close: Callable[[bool], None] | None = None
        """Called once, when it is closed: with True where the server knows that, or closed it."""
        self._was_ended = False
        """The server said farewell."""
        self.address = ""
        """The IP address it is connected to; empty for a Unix socket."""
        self.on_lost: Callable[[], None] | None = None
        self.on_silent: Callable[[], None] | None = None
        self.lost: str | None = None
        """What was seen when the server broke the connection; None while it lives, or if we closed it."""
        self._is_abandoned = False
        self._reads = False
        """Whether what runs, or ran last, is a read, which may be given up at any moment."""
        self._silent_at: float | None = None
        self.is_established = False
        super().__init__(dsn)
        self.is_established = True
        self.autocommit = True
        self.server_version_text = ""
        self.prepares = prepare
        """Whether statements may be prepared for later: not behind a pooler that hands messages to any session."""
        self._prepared: OrderedDict[str, None] = OrderedDict()
        self._prepared_limit = prepared_limit
        self._origin: Origin | None = None
        self._tells_origin = True
        self._unclean = False
        """Whether a query of this lease may have left session state."""
        self._wrote = False
        self._sequences_stale = False
        """Whether ``lastval`` and ``currval`` may show what an earlier lease did; only a query that is not harmless
        can ask for them, so it is wiped in front of the next one."""
        self._stage = Stage.PREPARING
        self._pinned: dict[str, str] = {}
        self._standby_at_connect = False
        self._role = Role.REPLICA
        self._cursor: Any = None
        """PERF: used again, since making one costs as much as a look at a small result. It keeps the last result."""
        self._peek: select.poll | None = None
        for oid in psycopg2.extensions.string_types:
            self.string_types[oid] = psycopg2.extensions.BYTES

    # -- the pool's side -----------------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        """Primary or replica, as of the last answer: ``in_hot_standby`` comes with every one (PostgreSQL >= 14).

        A closed connection stays what it was when it was last asked.
        """
        # PERF: of a server that is a primary nothing else can come over the same connection.
        if self._role is not Role.PRIMARY and not self.closed:
            standby = self.get_parameter_status("in_hot_standby") if self.prepares else None
            is_standby = self._standby_at_connect if standby is None else standby == "on"
            self._role = Role.REPLICA if is_standby else Role.PRIMARY
        return self._role

    def is_usable(self) -> bool:
        """Look at the idle socket: anything readable is the server's farewell or something unasked."""
        if self.closed:
            return False
        if self.watch is not None:
            return not self.watch.spoke
        if self._peek is None:
            self._peek = select.poll()
            self._peek.register(self.fileno(), select.POLLIN | select.POLLRDHUP)
        return not self._peek.poll(0)

    def abandon(self) -> None:
        """Give up a read that waits for this server, which is gone: soon it ends as if the connection had broken.

        A write goes on. Either way the connection does not settle any more. Harmless where nothing runs.
        """
        self._is_abandoned = True
        if self.is_called_back and self.watch is not None:
            self.watch.end_wait()

    @property
    def is_called_back(self) -> bool:
        """Whether who waits for the server here is to stop."""
        return self._is_abandoned and self._reads

    def gives_up(self, now: float, call: Callable[[Callable[[], None]], object]) -> bool:
        """For whoever waits for the server on our behalf: whether to stop. Has a silence told, once, by ``call``."""
        if not self._reads:
            return False
        if self._silent_at is None:
            self._silent_at = now + SILENT
        elif now >= self._silent_at:
            self._silent_at = inf
            if self.on_silent is not None:
                call(self.on_silent)
        return self._is_abandoned

    def report_lost(self) -> None:
        """For the loop: the server has closed the idle connection."""
        self.lost = "the server closed an idle connection"
        report, self.on_lost = self.on_lost, None
        if report is not None:
            report()

    def close(self) -> None:
        """Close at once, without waiting for the server. Harmless when closed already."""
        if self.watch is not None:
            self.watch.close()
        on_close, self.on_close = self.on_close, None
        if on_close is None:
            super().close()
            return
        is_idle = not self.closed and self.get_transaction_status() == TRANSACTION_STATUS_IDLE
        super().close()
        on_close(is_idle or self._was_ended)

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
        self._reads = False
        if self.closed or self._is_abandoned:
            return False
        status = self.get_transaction_status()
        try:
            if status in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR):
                self.ask("ROLLBACK", deadline)
            elif status != TRANSACTION_STATUS_IDLE:
                return False
            if self._unclean and self.prepares:
                self._wipe(deadline)
        except GatewayError:
            return False
        self._sequences_stale = self._sequences_stale or self._wrote
        self._unclean = self._wrote = False
        return True

    def _wipe(self, deadline: float) -> None:
        """Take away all session state but what we have prepared, unless somebody meddled with that too.

        NOTE: not through a pooler that may hand every message to another session (``prepare = false``): there is
        no session of ours to wipe.
        """
        found = self.ask("; ".join([_RESET, *self._pins("SET"), _COUNT_PREPARED]), deadline)
        if found != [(str(len(self._prepared)),)]:
            self.ask("DEALLOCATE ALL", deadline)
            self._prepared.clear()
        self._wrote = self._sequences_stale = False

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
        self._role = Role.REPLICA if self._standby_at_connect else Role.PRIMARY
        self.server_version_text = str(rows[0][1]).partition(" ")[0]
        self._pinned = {str(name): settings[str(name)] for _, _, name, value in rows if value != settings[str(name)]}
        if self._pinned and self.prepares:
            self.ask("; ".join(self._pins("SET")), deadline)

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        """Run SQL of our own and give its rows as text. Raises a GatewayError."""
        self.deadline, self.client = deadline, None
        try:
            cursor = self.cursor()
            cursor.execute(sql)
            return [tuple(map(_text, row)) for row in cursor.fetchall()] if cursor.description else []
        except (psycopg2.Error, DeadlinePassed, EndpointWithdrawn) as error:
            raise self.explained(error) from error

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
            self._cursor = None
        if max_bytes is not None and size > max_bytes:
            outcome = Outcome.COMMITTED if plan.write else None
            raise errors.ResultTooLarge(f"the result has more than {max_bytes} bytes", outcome=outcome)
        return result

    def explained(self, error: Exception, *, write: bool = False, reads: bool = False) -> GatewayError:
        """Turn what psycopg2 or the wait raised into an error of ours; a connection that broke is closed.

        ``write``: something in the transaction may write; ``reads``: not the statement itself.
        """
        if isinstance(error, DeadlinePassed | ClientLeft):
            return failures.interrupted(deadline=isinstance(error, DeadlinePassed), write=write, stage=self._stage)
        if isinstance(error, EndpointWithdrawn):
            return failures.withdrawn(write=write, stage=self._stage)
        if not isinstance(error, psycopg2.Error):
            raise error
        if self.closed or error.pgcode is None:
            self._was_ended = "FATAL" in str(error)
            self.close()
            if not isinstance(error, psycopg2.InterfaceError):  # which only says that it is closed already
                self.lost = failures.first_line(error)
            return failures.connection_lost(error, write=write, stage=self._stage)
        late = self._deadline_left() <= SAFETY_MARGIN + 0.02
        if guarding.stopped(error):
            return errors.TooStale("the server has not replayed that far yet")
        if error.pgcode == "25006" and not self.prepares:
            self._look_at_role()
        is_replica = self.role is Role.REPLICA
        return failures.refused(error, write=write, stage=self._stage, late=late, replica=is_replica, reads=reads)

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

    def origin(self) -> Origin | None:
        """Which server this is, asked once; None where our role may not know. Raises a GatewayError.

        Through a pooler it may be another one by now: see ``marks.FACTS_AND_ORIGIN``.
        """
        if self._origin is None and self._tells_origin:
            try:
                system, life, *_ = self.ask(f"SELECT {ORIGIN}, {POSITION}", self.deadline or 0.0)[0]
            except GatewayError as error:
                if error.sqlstate is None:
                    raise
                self._tells_origin = self.role is Role.REPLICA  # which has no position until it is promoted
                return None
            self._origin = Origin(int(system or 0), int(life or 0))
        return self._origin

    def make_ready(self, plan: Plan) -> None:
        """Have a plan prepared, if that is how it runs."""
        if plan.form is Form.CALL or not self.prepares:
            return
        if plan.name in self._prepared:
            self._prepared.move_to_end(plan.name)
        else:
            self._prepare(plan)

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

    def forgot(self, error: psycopg2.Error) -> bool:
        """Whether the server does not know one of our statements any more.

        A function that a query calls may raise the same for a statement of its own.
        """
        is_unknown = isinstance(error, psycopg2.errors.InvalidSqlStatementName)
        return is_unknown and NAME.search(error.diag.message_primary or "") is not None

    def prepare_afresh(self) -> None:
        """Have nothing prepared any more, as somebody deallocated behind our back; ends an open transaction."""
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self.cursor().execute("ROLLBACK")
        self._stage = Stage.PREPARING
        self._prepared.clear()
        self.cursor().execute("DEALLOCATE ALL")

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
        texts = [["NULL" if value is None else literal(_text(value) or "") for value in row] for row in rows]
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

    def _prepare(self, plan: Plan) -> None:
        make_room = ""
        if len(self._prepared) >= self._prepared_limit:
            oldest, _ = self._prepared.popitem(last=False)
            make_room = f"DEALLOCATE {oldest}; "
        self.cursor().execute(make_room + plan.prepare())
        self._prepared[plan.name] = None

    def _pins(self, verb: str) -> list[str]:
        return [f"{verb} {name} = {literal(value)}" for name, value in self._pinned.items()]

    def _deadline_left(self) -> float:
        return (self.deadline or 0.0) - monotonic()

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

    def _look_at_role(self) -> None:
        """Ask for what answers do not tell through a pooler: whether the server has become a replica."""
        try:
            ((standby,),) = self.ask("ROLLBACK; SELECT pg_is_in_recovery()::text", self.deadline or 0.0)
        except GatewayError:
            return
        self._standby_at_connect = standby == "true"
        self._role = Role.REPLICA if self._standby_at_connect else Role.PRIMARY


def _fetched(cursor: Any) -> Result:
    """The answer of a wrapped query: a text, or how many there are and all of them joined."""
    row = cursor.fetchone()
    if row is None:
        return Result(b"", 0)
    return Result(row[0], 1) if len(row) == 1 else Result(row[1], int(row[0]))


def _text(value: Any) -> str | None:
    """A value as the text the server sent: bytes for types psycopg2 knows, str for others."""
    return value.decode() if isinstance(value, bytes) else value
