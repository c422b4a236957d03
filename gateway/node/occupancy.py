"""How many calls of one query run at once on a node: a count for each process, in a file that all of them share.

Each process counts in a row of its own, on which it has a lock as long as it lives (``rows``): what a process that was
killed had running is not counted any more as soon as that matters to somebody.
"""

import hashlib
import struct
import threading
from pathlib import Path

from gateway.events import NodeNotShared, Observer
from gateway.node.rows import Rows

_GENERATIONS = 8
"""Of workers that may live at once: those of before a reload, and before that, answer what they have in hand."""
_COUNT = struct.Struct("=I")


class Occupancy:
    """One process's access to the count of one query. Safe for threads; never blocks."""

    def __init__(self, name: str, limit: int, *, directory: Path | None, workers: int, observe: Observer) -> None:
        """``workers``: of the node; without a directory only this process's calls count."""
        self._limit = limit
        self._processes = _GENERATIONS * workers
        self._lock = threading.Lock()
        self._mine = 0
        self._rows: Rows | None = None
        if directory is not None:
            hashed = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
            try:
                self._rows = Rows(directory / f"running-{hashed}", _COUNT, count=self._processes)
                self._own = self._claim(self._rows)
            except OSError as error:
                self._rows = None
                what = f"calls of {name} in this worker are not counted with the node's"
                observe(NodeNotShared(what=what, detail=str(error)))

    def enter(self) -> bool:
        """Count one more, if that is not one too many; each success is followed by one ``leave``."""
        with self._lock:
            # Counted before looking: of two processes that come at once none may pass because it did not see the other.
            self._count(1)
            if self._total() <= self._limit or (self._forget_dead() and self._total() <= self._limit):
                return True
            self._count(-1)
            return False

    def leave(self) -> None:
        """Count one less."""
        with self._lock:
            self._count(-1)

    def _count(self, more: int) -> None:
        self._mine += more
        if self._rows is not None:
            self._rows.write(self._own, self._mine)

    def _total(self) -> int:
        if self._rows is None:
            return self._mine
        return sum(count for (count,) in self._rows.all(self._processes))

    def _claim(self, rows: Rows) -> int:
        """Lock a row for the life of this process; raises OSError where there is none left."""
        for number in range(self._processes):
            if rows.try_lock(number):
                rows.write(number, 0)
                return number
        rows.close()
        raise OSError(f"more than {self._processes} processes")

    def _forget_dead(self) -> bool:
        """Set the counts of dead processes to zero; whether there were any."""
        found = False
        if self._rows is not None:
            for number, (count,) in enumerate(self._rows.all(self._processes)):
                if count and number != self._own and self._rows.try_lock(number):
                    self._rows.write(number, 0)
                    self._rows.unlock(number)
                    found = True
        return found
