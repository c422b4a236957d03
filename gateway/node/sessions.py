"""The sessions of one group on one server, from before they are opened until the server has ended them.

Closing a connection does not end its session: a COMMIT that waits for a synchronous standby goes on, and so does all
work that cannot be interrupted. A session therefore counts until the server says that it is gone. The shared file
has a row for each session that may exist, and nothing is opened without one.

States of a row::

    FREE    -> HELD     a process is about to open a connection; it has the lock on the row
    HELD    -> CLOSING  the connection was closed, or its process has died
    HELD    -> RESTING  nothing can be asked of the server (see ``Sessions.end``)
    HELD    -> FREE     no connection was opened, or the session is counted elsewhere
    CLOSING -> FREE     the server said that the session is gone
    CLOSING -> RESTING  the session is not known, and the server has answered since
    RESTING -> FREE     by time

As with places, a generation of workers that may have fewer sessions knows only the first rows, and demands one of them
where it finds none that is free.
"""

import struct
import threading
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from gateway.node.places import AFTER_CUT, Demand
from gateway.node.rows import Claim, Rows
from gateway.postgres.backends import Backend

_ROW = struct.Struct("=iiqd")
"""State, pid, start, and the time of ``time.monotonic`` at which it began to close, or becomes free."""
_DEMAND = struct.Struct("=dI")


class State(IntEnum):
    """The state of a row. FREE is 0, as in a new file."""

    FREE = 0
    HELD = 1
    CLOSING = 2
    RESTING = 3


# PERF: Python 3.11 takes four times as long to find a member in its enum as a name in a module.
FREE, HELD, CLOSING, RESTING = State


class Row(NamedTuple):
    """What is known of one session that may exist."""

    state: int
    pid: int
    started: int
    at: float

    @property
    def backend(self) -> Backend | None:
        """The session; None if it is not known."""
        return Backend(self.pid, self.started) if self.pid else None


class Sessions:
    """One process's access to the file. Safe for threads; never blocks."""

    def __init__(
        self,
        file: Path,
        *,
        size: int,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``size``: how many sessions there may be; ``tell`` is called when one begins to close, or is demanded.

        Make and allocate the file if it does not exist. Raises OSError.
        """
        self._size = size
        self._tell = tell
        self._clock = clock
        self._rows = Rows(file, _ROW, count=size)
        # NOTE: reentrant, because a connection may be finalised, and its row released, anywhere in here.
        self._lock = threading.RLock()
        self._held: set[Claim] = set()
        """Rows of this process."""

    # --- the process that opens and closes a connection ----------------------------------------------------------

    def begin(self) -> Claim | None:
        """Take a row for a connection to be opened; None if there may be no further session now."""
        with self._lock:
            now = self._clock()
            session = self._seize_from(0, now)
            if session is None:
                earlier = self._demand()
                self._rows.write_header(_DEMAND, now, self._size)
                if not earlier.is_fresh(now):
                    self._tell()
                self.sweep()
            return session

    def identify(self, session: Claim, backend: Backend) -> None:
        """Note which session the row is about, so that any process can ask the server about it."""
        with self._lock:
            self._write(session.number, HELD, backend)

    def end(self, session: Claim, *, rest: float | None = None) -> None:
        """The connection was closed, or could not be opened. Does nothing after ``close``.

        ``rest``: seconds after which the row is free without the server being asked, for a session that is not known:
        one that the server has refused, or one behind a pooler, which ends sessions when it likes.
        """
        with self._lock:
            if self._rows.is_closed:
                return
            row = self._read(session.number)
            now = self._clock()
            if rest is None or row.backend is not None:
                self._write(session.number, CLOSING, row.backend, at=now)
                self._tell()
            else:
                self._write(session.number, RESTING, at=now + rest)
            self._let_go(session)

    def hand_over(self, session: Claim) -> None:
        """Free a row at once: its session is counted elsewhere from now on."""
        with self._lock:
            self._write(session.number, FREE)
            self._let_go(session)

    def make_way(self) -> bool:
        """Leave rows that are demanded for others that the demanding process does not know; whether some are."""
        with self._lock:
            now = self._clock()
            demand = self._demand()
            if not demand.is_fresh(now):
                return False
            for session in [session for session in self._held if session.number < demand.size]:
                beyond = self._seize_from(demand.size, now)
                if beyond is None:
                    break
                # NOTE: the session is in both rows for a moment. Should this process die now, it is asked for twice.
                self._write(beyond.number, HELD, self._read(session.number).backend)
                left, session.number = session.number, beyond.number
                self._write(left, FREE)
                self._rows.unlock(left)
            return True

    # --- whoever has a connection to the server ------------------------------------------------------------------

    def closing(self) -> dict[int, Row]:
        """Return the rows of sessions that were given up and are not known to have ended, by number.

        All rows of the file are looked at: another generation of workers may have more than this one.
        """
        # PERF: asked twenty times a second of every file; nearly always there is none.
        return {number: Row(*row) for number, row in enumerate(self._rows.all()) if row[0] == CLOSING}

    def resolve(self, asked: Mapping[int, Row], alive: frozenset[Backend]) -> None:
        """Take over what the server answered: ``alive`` are those sessions of ``closing`` that exist.

        What began to close after ``asked`` was read is left for the next time. A session that is not known, because
        its connection was given up while it was being opened, rests from now on: the server, which answers, has the
        end of that connection before it, and nothing was asked over it that could keep it.
        """
        with self._lock:
            held = self._own_rows()
            for number, row in asked.items():
                if row.backend in alive or number in held or not self._rows.try_lock(number):
                    continue
                if self._read(number) == row:  # else another worker has asked at the same time, and was faster
                    if row.backend is None:
                        self._write(number, RESTING, at=self._clock() + AFTER_CUT)
                    else:
                        self._write(number, FREE)
                self._rows.unlock(number)

    def sweep(self) -> None:
        """Look for sessions of dead processes; from now on they are closing."""
        with self._lock:
            held = self._own_rows()
            for number, seen in enumerate(self._all()):
                if seen.state == HELD and number not in held and self._rows.try_lock(number):
                    row = self._read(number)
                    if row.state == HELD:  # else its process has ended it since it was read
                        self._write(number, CLOSING, row.backend, at=self._clock())
                    self._rows.unlock(number)

    def close(self) -> None:
        """Give up all rows as if the process had died: what is still open is found to be closing by others."""
        with self._lock:
            self._rows.close()

    # --- rows ----------------------------------------------------------------------------------------------------

    def _demand(self) -> Demand:
        return Demand(*self._rows.read_header(_DEMAND))

    def _own_rows(self) -> set[int]:
        return {session.number for session in self._held}

    def _seize_from(self, least: int, now: float) -> Claim | None:
        """Take a row from this one on, the last one that is free, as for places."""
        for number, row in reversed(list(enumerate(self._all(self._size)))[least:]):
            if self._is_free(row, now) and self._rows.try_lock(number):
                if self._is_free(self._read(number), now):
                    self._write(number, HELD)
                    session = Claim(number)
                    self._held.add(session)
                    return session
                self._rows.unlock(number)  # another process has taken it since
        return None

    def _is_free(self, row: Row, now: float) -> bool:
        """A rest that ends far in the future was written before the machine was restarted."""
        rests = row.state == RESTING and 0 < row.at - now < 2 * AFTER_CUT
        return row.state == FREE or (row.state == RESTING and not rests)

    def _all(self, count: int | None = None) -> list[Row]:
        return [Row(*row) for row in self._rows.all(count)]

    def _read(self, number: int) -> Row:
        return Row(*self._rows.read(number))

    def _write(self, number: int, state: State, backend: Backend | None = None, *, at: float = 0.0) -> None:
        pid, started = backend or (0, 0)
        self._rows.write(number, state, pid, started, at)

    def _let_go(self, session: Claim) -> None:
        self._held.discard(session)
        self._rows.unlock(session.number)
