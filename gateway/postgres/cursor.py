"""The rows of one read, piece by piece, from a cursor in a transaction of its own.

What is held in memory is one piece, whose length in bytes stays about the same: how many rows are fetched at a time
goes by how long the last ones were.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from time import monotonic
from typing import Any

import psycopg2

from gateway import errors
from gateway.catalogue.query import Text
from gateway.postgres import failures
from gateway.postgres.failures import Stage
from gateway.postgres.session import LARGEST, Session
from gateway.postgres.single import attributed
from gateway.postgres.statement import Plan
from gateway.postgres.waiting import ClientLeft, DeadlinePassed, EndpointWithdrawn
from gateway.waiting import Client

PIECE = 256 << 10
"""Bytes that are fetched at a time, about."""
FIRST, MOST = 100, 2000
"""Rows that are fetched first, when nothing is known of their length, and at most; as many again at a time."""
LONGEST_PAUSE = 600
"""Seconds without a question after which the server ends the transaction: this process is frozen, or cut off."""

_NAME = "gw_rows"
_LINE = itemgetter(0)
_END = (b"",)
_INTERRUPTIONS = (psycopg2.Error, DeadlinePassed, ClientLeft, EndpointWithdrawn)


class Rows:
    """A cursor that is open on a session until the session is settled."""

    def __init__(self, session: Session, plan: Plan, lines: Text, look: Text, line_end: bytes) -> None:
        """``plan`` is that of the query; ``lines`` answers its rows, one text each; ``look`` none of them.

        ``line_end`` follows each row.
        """
        self._session = session
        self._plan = plan
        self._lines = lines
        self._look = look
        self._line_end = line_end
        self._count = FIRST
        self._rows = 0
        self._is_over = False

    def open(
        self,
        literals: Sequence[str],
        *,
        deadline: float,
        client: Client | None,
        guard: str,
        settings: Mapping[str, str],
    ) -> bytes:
        """Begin, and return the first rows; raises a GatewayError.

        ``guard`` (one of ``guarding``) goes in front and may stop it: TooStale. ``settings`` hold for this read alone.
        """
        session, plan = self._session, self._plan
        use = session.run
        use.deadline, use.client, use.settings = deadline, client, settings
        use.stage, use.reads, use.silent_at = Stage.PREPARING, True, None
        if not plan.harmless:
            use.leaves_state = True
        if client is not None and client.gone_at is not None and client.gone_at <= monotonic():
            raise failures.interrupted(deadline=False, write=False, stage=use.stage)
        try:
            return self._begin(literals, guard)
        except psycopg2.Error as error:
            raise attributed(session, error, session.explained(error), plan, literals) from error
        except (DeadlinePassed, ClientLeft, EndpointWithdrawn) as error:
            raise session.explained(error) from error

    def rest(self, ends: float) -> Iterator[bytes]:
        """The rows behind the first ones, until ``ends`` at the latest; raises a GatewayError where it breaks off."""
        self._session.run.deadline = ends
        try:
            while not self._is_over:
                yield self._fetch(self._session.cursor())
        except _INTERRUPTIONS as error:
            raise self._session.explained(error) from error

    def _begin(self, literals: Sequence[str], guard: str) -> bytes:
        """Two messages: what the columns are is looked at first, under locks that keep it so until the end."""
        session, plan = self._session, self._plan
        if session.prepared.is_doubtful:
            session.make_clean()  # the text is read with the settings that hold when it comes
        front = [
            "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
            # The client's reading takes as long as it takes; our own deadlines close the connection, which ends it.
            "SET LOCAL statement_timeout = 0",
            f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_PAUSE}s'",
            "SET LOCAL cursor_tuple_fraction = 1",  # PERF: all rows are wanted, not the first ones soon
            *session.preface([plan]),
        ]
        cursor = session.send(f"{'; '.join(front)}; {guard}{self._inline(self._look, literals)}")
        found = [column[:2] for column in cursor.description]
        if found != [(column.name, column.type.oid) for column in plan.columns]:
            raise failures.stale(write=False, stage=Stage.OPEN, sqlstate=None)
        cursor.execute(f"DECLARE {_NAME} NO SCROLL CURSOR FOR {self._inline(self._lines, literals)}")
        return self._fetch(cursor)

    def _inline(self, text: Text, literals: Sequence[str]) -> str:
        return self._plan.inline(literals, text)

    def _fetch(self, cursor: Any) -> bytes:
        """The next rows as one piece; raises ResultTooLarge where they are more than the query may have."""
        cursor.execute(f"FETCH FORWARD {self._count} FROM {_NAME}")
        rows = cursor.fetchall()
        self._is_over = len(rows) < self._count
        # PERF: no other look at each row: where there are many, each costs a tenth of what all of this does.
        piece = self._line_end.join(chain(map(_LINE, rows), _END))
        size = len(piece)
        if size > LARGEST:
            self._session.outgrow(size)
        if rows:
            self._count = max(1, min(PIECE * len(rows) // size, self._count * 4, MOST))
        self._rows += len(rows)
        most = self._plan.max_rows
        if most is not None and self._rows > most:
            raise errors.ResultTooLarge(f"more than {most} rows")
        return piece
