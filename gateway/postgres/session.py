"""A conversation with one server, from the connect to the close: asked, settled, and clean for whoever is next."""

import select
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR, TRANSACTION_STATUS_INTRANS

from gateway import errors
from gateway.catalogue.arguments import literal
from gateway.errors import GatewayError
from gateway.pool.driver import ConnectionBroken
from gateway.postgres import failures, guarding
from gateway.postgres.failures import Stage
from gateway.postgres.marks import ORIGIN, POSITION, Origin
from gateway.postgres.positions import RECOVERS
from gateway.postgres.prepared import FINGERPRINTS, Preparable, Prepared
from gateway.postgres.resetting import Leftovers
from gateway.postgres.run import Run
from gateway.postgres.statement import Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn, Watcher
from gateway.rotation.endpoint import Role

SAFETY_MARGIN = 0.05
"""Seconds before our deadline at which the server gives up a write: its end is then known, not guessed."""

LARGEST = 4 << 20
"""Bytes of a result after which a connection is not kept: libpq's buffer has room for all of it, and never shrinks."""


class Session(psycopg2.extensions.connection):
    """A psycopg2 connection in autocommit that satisfies ``pool.driver.Connection``.

    Used by one owner at a time. Every method that speaks to the server takes a deadline, a point of
    ``time.monotonic``; past it the connection is closed. ``run`` is the state of the use under way, ``prepared`` what
    is prepared here; ``single`` and ``transaction`` run plans.

    What a use may have left behind (a setting, a lock, a temporary table) is reset in front of the next message,
    which costs the server microseconds and no round trip. Until then it is there: locks too. So whoever lets a
    session rest calls :meth:`clean` soon.
    """

    def __init__(self, dsn: str, *, deadline: float, prepared_limit: int = 200, prepare: bool = True) -> None:
        # NOTE: psycopg2 connects inside __init__, through the wait callback, which reads these.
        self.run = Run(deadline)
        self.watcher: Watcher | None = None
        """Looks at the socket, where a loop waits for us."""
        self.is_established = False
        super().__init__(dsn)
        self.is_established = True
        self.autocommit = True
        self.prepares = prepare
        """Whether statements may be prepared for later: not behind a pooler that hands messages to any session."""
        self.is_pooled = False
        """Whether there is a pooler in between: who answers is not the process that was announced at the connect."""
        self.prepared = Prepared(prepared_limit)
        self.kept_cursor: Any = None
        """PERF: used again, since making one costs as much as a look at a small result. It keeps the last result."""
        self.left = Leftovers()
        self.address = ""
        """The IP address it is connected to; empty for a Unix socket."""
        self.server_version_text = ""
        self.on_close: Callable[[bool], None] | None = None
        """Called once, when it is closed: with True where the server knows that, or closed it."""
        self.on_lost: Callable[[], None] | None = None
        self.on_unprepared: Callable[[], object] | None = None
        """Called once, when a pooler in between turns out to lose what is prepared."""
        self.lost: str | None = None
        """What was seen when the server broke the connection; None while it lives, or if we closed it."""
        self._was_ended = self.was_lost = False
        """The server said that it ends the session; once closed: the server, or the way to it, ended the connection."""
        self._origin: Origin | None = None
        self._tells_origin = True
        self._is_oversized = False
        """Whether it holds more memory than one that is idle should."""
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
        is_open = self._role is not Role.PRIMARY and self.prepares and not self.closed
        if is_open and self.get_parameter_status("in_hot_standby") == "off":
            self._role = Role.PRIMARY
        return self._role

    @property
    def owes_reset(self) -> bool:
        """Whether session state of an earlier use may still be there."""
        return self.left.needs_reset

    @property
    def on_silent(self) -> Callable[[], None] | None:
        """Called once for a read that has had no answer for a while."""
        return self.run.on_silent

    @on_silent.setter
    def on_silent(self, call: Callable[[], None] | None) -> None:
        self.run.on_silent = call

    def is_usable(self) -> bool:
        """Look at the idle socket: if it is readable, the server closed the connection, or data arrived unasked."""
        if self.closed:
            return False
        if self.watcher is not None:
            return not self.watcher.data_arrived
        if self._peek is None:
            self._peek = select.poll()
            self._peek.register(self.fileno(), select.POLLIN | select.POLLRDHUP)
        return not self._peek.poll(0)

    def abandon(self) -> None:
        """Give up a read that waits for this server, which is gone: soon it ends as if the connection had broken.

        A write goes on. Either way the connection does not settle any more. Harmless where nothing runs.
        """
        self.run.is_abandoned = True
        if self.run.reads and self.watcher is not None:
            self.watcher.end_wait()

    def report_lost(self) -> None:
        """For the loop: the server has closed the idle connection."""
        self.lost = "the server closed an idle connection"
        report, self.on_lost = self.on_lost, None
        if report is not None:
            report()

    def close(self) -> None:
        """Close at once, without waiting for the server. Harmless when closed already."""
        if self.watcher is not None:
            self.watcher.close()
        on_close, self.on_close = self.on_close, None
        if on_close is None:
            super().close()
            return
        self.was_lost = bool(self.closed) or self._was_ended or self.lost is not None
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
        """End what is open after a use, and note what has to be reset; False: not fit for another use."""
        run = self.run
        run.client = run.asker = run.ended = None
        run.reads = False
        if self.closed or run.is_abandoned or self._is_oversized:
            return False
        status = self.get_transaction_status()
        if status != TRANSACTION_STATUS_IDLE and not self._rolls_back(status, deadline):
            return False
        if self.prepares:
            left, told = self.left, self.get_parameter_status
            if run.leaves_state:
                self._owe_reset()
                is_as_before = left.is_as_before(told)
            else:
                if run.wrote:
                    left.sequences_stale = True
                # PERF: the two that a wrong proof would do most harm with; looking at each costs 0.3 µs.
                before = left.reported
                is_as_before = told("TimeZone") == before[0] and told("default_transaction_read_only") == before[1]
            if not is_as_before and not self._restores(deadline):
                return False
        run.leaves_state = run.wrote = False
        return True

    def clean(self, deadline: float) -> bool:
        """Reset at once what earlier uses may have left, for a session that rests; False: close it."""
        self.run.deadline, self.run.client = deadline, None
        try:
            self.make_clean()
        except (psycopg2.Error, DeadlinePassed, EndpointWithdrawn):
            self.close()
            return False
        return True

    def _restores(self, deadline: float) -> bool:
        """Reset at once where a setting that the server reports is not what it was; False if it still is not.

        The encoding is among them, by which the very message is read that would have the reset in front. One that a
        reset does not restore was changed by the server's configuration: that is for a new connection to take up.
        """
        self._owe_reset()
        return self.clean(deadline) and self.left.is_as_before(self.get_parameter_status)

    def _owe_reset(self) -> None:
        self.left.needs_reset = self.prepared.is_doubtful = True
        self.left.write_limit = 0

    # -- the conversation ----------------------------------------------------------------------------------------

    def establish(self, settings: Mapping[str, str], deadline: float) -> None:
        """Learn role and version, and make sure that every setting asked for in the connect options has taken.

        A pooler in between may have dropped the options; what differs is SET for the session, or, where statements
        of one client may meet several servers (``prepare = false``), in front of every message.
        """
        names = ", ".join(literal(name) for name in settings)
        rows = self.ask(
            f"SELECT {RECOVERS}::pg_catalog.text, pg_catalog.current_setting('server_version'),"
            " pg_catalog.pg_backend_pid()::pg_catalog.text,"
            f" n, pg_catalog.current_setting(n) FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS n",
            deadline,
        )
        self._role = Role.REPLICA if rows[0][0] == "true" else Role.PRIMARY
        self.server_version_text = str(rows[0][1]).partition(" ")[0]
        self.is_pooled = not self.prepares or rows[0][2] != str(self.get_backend_pid())
        left = self.left
        left.pinned = {str(name): settings[str(name)] for *_, name, value in rows if value != settings[str(name)]}
        if left.pinned and self.prepares:
            self.ask("; ".join(left.pins("SET")), deadline)
        left.note(self.get_parameter_status)

    def ask(self, sql: str, deadline: float) -> list[tuple[str | None, ...]]:
        """Run SQL of our own and give its rows as text. Raises a GatewayError."""
        self.run.deadline, self.run.client = deadline, None
        try:
            cursor = self.send(sql)
            return [tuple(map(text_of, row)) for row in cursor.fetchall()] if cursor.description else []
        except (psycopg2.Error, DeadlinePassed, EndpointWithdrawn) as error:
            raise self.explained(error) from error

    def send(self, message: str) -> Any:
        """Send a message, with the reset that is owed in front of it; a cursor on its last statement's result.

        Raises what psycopg2 or the wait raises, as do the other methods below that give no GatewayError.
        """
        front = self.owed_reset()
        cursor = self.cursor()
        cursor.execute(front + message)
        if front:
            self.left.needs_reset = False
        return cursor

    def owed_reset(self) -> str:
        """Return the reset that is owed, to go in front of a message: a transaction of its own, or nothing.

        Inside of a transaction there is none: whoever opened it has sent it, or is about to roll back.
        """
        is_due = self.left.needs_reset and self.get_transaction_status() == TRANSACTION_STATUS_IDLE
        return self.left.reset() if is_due else ""

    def explained(self, error: Exception, *, write: bool = False, reads: bool = False) -> GatewayError:
        """Turn what psycopg2 or the wait raised into an error of ours; a connection that broke is closed.

        ``write``: something in the transaction may write; ``reads``: not the statement itself.
        """
        stage = self.run.stage
        if isinstance(error, DeadlinePassed | ClientLeft):
            return failures.interrupted(deadline=isinstance(error, DeadlinePassed), write=write, stage=stage)
        if isinstance(error, EndpointWithdrawn):
            return failures.withdrawn(write=write, stage=stage)
        if not isinstance(error, psycopg2.Error):
            raise error
        if self.closed or error.pgcode is None:
            self._was_ended = "FATAL" in str(error)
            self.close()
            if not isinstance(error, psycopg2.InterfaceError):  # which only says that it is closed already
                self.lost = failures.first_line(error)
            return failures.connection_lost(error, write=write, stage=stage)
        if guarding.found_stale(error):
            return failures.stale(write=write, stage=stage, sqlstate=error.pgcode)
        late = self.run.deadline - monotonic() <= SAFETY_MARGIN + 0.02
        if guarding.stopped(error):
            return errors.TooStale("the server has not replayed that far yet")
        if error.pgcode == "25006" and not self.prepares:
            self._look_at_role()
        is_replica = self.role is Role.REPLICA
        return failures.refused(error, write=write, stage=stage, late=late, replica=is_replica, reads=reads)

    def origin(self) -> Origin | None:
        """Which server this is, asked once; None where our role may not know. Raises a GatewayError.

        Through a pooler it may be another one by now: see ``marks.FACTS_AND_ORIGIN``.
        """
        if self._origin is None and self._tells_origin:
            try:
                system, life, *_ = self.ask(f"SELECT {ORIGIN}, {POSITION}", self.run.deadline)[0]
            except GatewayError as error:
                if error.sqlstate is None:
                    raise
                self._tells_origin = self.role is Role.REPLICA  # which has no position until it is promoted
                return None
            self._origin = Origin(int(system or 0), int(life or 0))
        return self._origin

    # -- what goes in front of statements, and their results -------------------------------------------------------

    def front(self) -> str:
        """Return what must go in front of a message that executes prepared statements, once earlier uses left state.

        Its success is to be reported by :meth:`was_reset`.
        """
        return f"{self.owed_reset()}{self.prepared.check()}; "

    def was_reset(self) -> None:
        """Note that a message with ``front`` succeeded."""
        self.left.needs_reset = self.prepared.is_doubtful = False

    def preface(self, plans: Iterable[Plan], *own: str) -> list[str]:
        """Return the statements that must come first in a transaction of these plans.

        ``own`` are further ones of the gateway's. SECURITY: what is set for the caller comes last and is never to be
        left out: by it the database judges what the caller may see.
        """
        parts = self.left.discards(plans) if self.prepares else self.left.pins("SET LOCAL")
        return [*parts, *own, *self.run.as_caller()]

    def make_ready(self, statement: Preparable) -> None:
        """Have a statement prepared."""
        if statement.name in self.prepared.names:
            self.prepared.names.move_to_end(statement.name)
            return
        if self.prepared.is_doubtful:
            # Not in front of a PREPARE: a message is read with the settings that hold when it comes, and its text may
            # mean another thing with those of an earlier use.
            self.make_clean()
        ((fingerprint,),) = self.send(self.prepared.preparing(statement)).fetchall()
        self.prepared.add(statement, int(fingerprint))

    def make_clean(self) -> None:
        """Reset what is owed in a message of its own, and see that what is prepared is ours."""
        if self.prepared.is_doubtful:
            ((found,),) = self.send(FINGERPRINTS).fetchall()
            if text_of(found) != self.prepared.expected:
                self.forget_prepared()
            self.prepared.is_doubtful = False

    def prepare_afresh(self) -> None:
        """Have nothing prepared any more, as somebody deallocated behind our back; ends an open transaction.

        Behind a pooler it is because this message has reached another session of the server than the one before: no
        statement is prepared on this connection from now on.
        """
        if self.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self.send("ROLLBACK")
        self.run.stage = Stage.PREPARING
        if not self.is_pooled:
            self.forget_prepared()
            return
        self.prepares = self.left.needs_reset = False
        self.prepared.clear()
        report, self.on_unprepared = self.on_unprepared, None
        if report is not None:
            report()

    def forget_prepared(self) -> None:
        """Deallocate all."""
        self.send("DEALLOCATE ALL")
        self.prepared.clear()

    def outgrow(self, size: int) -> None:
        """Hold on to nothing of a result of so many bytes."""
        self.kept_cursor = None
        self._is_oversized = self._is_oversized or size > LARGEST

    # -- what is set, and who is there ----------------------------------------------------------------------------

    def _rolls_back(self, status: int, deadline: float) -> bool:
        if status not in (TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR):
            return False
        try:
            self.ask("ROLLBACK", deadline)
        except GatewayError:
            return False
        return True

    def _look_at_role(self) -> None:
        """Ask for what answers do not tell through a pooler: whether the server has become a replica."""
        try:
            ((standby,),) = self.ask(f"ROLLBACK; SELECT {RECOVERS}::pg_catalog.text", self.run.deadline)
        except GatewayError:
            return
        self._role = Role.REPLICA if standby == "true" else Role.PRIMARY


def text_of(value: Any) -> str | None:
    """A value as the text the server sent: bytes for types psycopg2 knows, str for others."""
    return value.decode() if isinstance(value, bytes) else value
