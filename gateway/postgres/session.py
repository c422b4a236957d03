"""One session with one server, from the connect to the close: watched, asked, and clean for the next lease or gone."""

import select
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.catalogue.types import Form
from gateway.errors import GatewayError
from gateway.pool.driver import ConnectionBroken
from gateway.postgres import failures, guarding
from gateway.postgres.failures import Stage
from gateway.postgres.marks import ORIGIN, POSITION, Origin
from gateway.postgres.statement import NAME, Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.rotation.endpoint import Role
from gateway.waiting import Client

SAFETY_MARGIN = 0.05
"""Seconds before our deadline at which the server gives up a write: its end is then known, not guessed."""

SILENT = 0.3
"""Seconds without an answer to a read, after which somebody should see what is the matter with the server."""

_RESET = (
    "CLOSE ALL; UNLISTEN *; SET SESSION AUTHORIZATION DEFAULT; RESET ALL;"
    " SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES"
)
_COUNT_PREPARED = "SELECT count(*)::text FROM pg_catalog.pg_prepared_statements"


class Watch(Protocol):
    """A loop's eye on the socket of one connection."""

    spoke: bool
    """The server closed the idle connection, or said something unasked."""

    def end_wait(self) -> None:
        """End the wait of who waits for the server, soon, with EndpointWithdrawn. May be called from any thread."""

    def close(self) -> None:
        """Stop looking. To be called before the socket is closed; harmless when called again."""


class Session(psycopg2.extensions.connection):
    """A psycopg2 connection in autocommit that satisfies ``pool.driver.Connection``.

    Used by one owner at a time. Every method that speaks to the server takes a deadline, a point of
    ``time.monotonic``; past it the connection is closed.
    """

    client: Client | None
    """Whose hanging up ends what runs, if it is a read."""

    def __init__(self, dsn: str, *, deadline: float, prepared_limit: int = 200, prepare: bool = True) -> None:
        # NOTE: psycopg2 connects inside __init__, through the wait callback, which reads these two.
        self.deadline: float | None = deadline
        self.client = None
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
        self._is_swollen = False
        """Whether it holds more memory than one that is idle should."""
        self._sequences_stale = False
        """Whether ``lastval`` and ``currval`` may show what an earlier lease did; only a query that is not harmless
        can ask for them, so it is wiped in front of the next one."""
        self._stage = Stage.PREPARING
        self._pinned: dict[str, str] = {}
        self._standby_at_connect = False
        self._role = Role.REPLICA
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
        if self.closed or self._is_abandoned or self._is_swollen:
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
            return [tuple(map(text_of, row)) for row in cursor.fetchall()] if cursor.description else []
        except (psycopg2.Error, DeadlinePassed, EndpointWithdrawn) as error:
            raise self.explained(error) from error

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

    # -- statements prepared in it --------------------------------------------------------------------------------

    def make_ready(self, plan: Plan) -> None:
        """Have a plan prepared, if that is how it runs."""
        if plan.form is Form.CALL or not self.prepares:
            return
        if plan.name in self._prepared:
            self._prepared.move_to_end(plan.name)
        else:
            self._prepare(plan)

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

    def _prepare(self, plan: Plan) -> None:
        make_room = ""
        if len(self._prepared) >= self._prepared_limit:
            oldest, _ = self._prepared.popitem(last=False)
            make_room = f"DEALLOCATE {oldest}; "
        self.cursor().execute(make_room + plan.prepare())
        self._prepared[plan.name] = None

    # -- what is set, and who is there ----------------------------------------------------------------------------

    def _pins(self, verb: str) -> list[str]:
        return [f"{verb} {name} = {literal(value)}" for name, value in self._pinned.items()]

    def _deadline_left(self) -> float:
        return (self.deadline or 0.0) - monotonic()

    def _look_at_role(self) -> None:
        """Ask for what answers do not tell through a pooler: whether the server has become a replica."""
        try:
            ((standby,),) = self.ask("ROLLBACK; SELECT pg_is_in_recovery()::text", self.deadline or 0.0)
        except GatewayError:
            return
        self._standby_at_connect = standby == "true"
        self._role = Role.REPLICA if self._standby_at_connect else Role.PRIMARY


def text_of(value: Any) -> str | None:
    """A value as the text the server sent: bytes for types psycopg2 knows, str for others."""
    return value.decode() if isinstance(value, bytes) else value
