"""Writes lines to standard error by a thread of its own, so that a pipe nobody reads stops nothing but the lines.

The thread is one of the system's, also where an event loop has put its own in the place of ``threading``: a write(2)
to a full pipe blocks it alone. Between it and those who have something to write is a bounded queue; lines that do not
fit are dropped and counted, and the count is written once lines are read again.
"""

import io
import os
from _queue import Empty, SimpleQueue  # NOTE: these are taken from where an event loop does not replace them
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable
from select import PIPE_BUF
from time import sleep

MOST = 2000
"""Lines that may wait."""
LONGEST = 16384
"""Characters of a line; with the number above they bound the memory that is held."""
PATIENCE = 1.0
"""Seconds for which a process that ends waits until its last lines are out."""
GATHERING = 0.01
"""Seconds that the thread rests after each write. PERF: with a log line for each call, it would otherwise wake up for
each of them and take turns with the thread that serves: 30 µs a line."""
RETRY = 0.1
"""Seconds between two tries where somebody else has made the descriptor non-blocking."""


_Item = bytes | Callable[[], str] | LockType
"""A line, what makes one, or what is released once all before it is written."""


class LineWriter:
    """Takes lines from any thread; never blocks. Goes on in forked processes, each with a queue of its own."""

    def __init__(self, descriptor: int = 2, *, most: int = MOST) -> None:
        self._descriptor = descriptor
        self._most = most
        self.line_of_dropped: Callable[[int], str] = (
            "{} lines of the log were dropped: they were not read in time".format
        )
        """Makes the line that says how many were dropped."""
        self._begin()

    def write(self, line: str) -> None:
        """Write a line, or several; without a newline at the end."""
        self._take(_encoded(line))

    def write_later(self, make: Callable[[], str]) -> None:
        """Write the line that ``make`` returns, which the thread calls.

        PERF: it makes many lines one after the other, while their code and data are in the processor's caches. Between
        two steps of a request each costs three times as much.
        """
        self._take(make)

    def flush(self) -> None:
        """Wait until everything is written, but only for a moment: perhaps nobody reads."""
        if self._process == os.getpid() and self._is_running:
            done = allocate_lock()
            done.acquire()
            self._put(done)
            done.acquire(timeout=PATIENCE)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._lock = allocate_lock()
        self._dropped = 0
        self._is_running = False

    def _take(self, item: "_Item") -> None:
        if self._process != os.getpid():
            # What is in the queue is the parent's to write, and its thread and locks were not copied by fork(2).
            self._begin()
        if self._queue.qsize() < self._most:
            self._put(item)
        else:
            with self._lock:
                self._dropped += 1

    def _put(self, item: "_Item") -> None:
        self._queue.put(item)
        if not self._is_running:
            self._is_running = True
            start_new_thread(self._run, (self._queue,))

    def _run(self, queue: "SimpleQueue[_Item]") -> None:
        item: bytes | LockType | None = None
        while True:
            if item is None:
                item = _made(queue.get())
            lines: list[bytes] = []
            room = PIPE_BUF
            while isinstance(item, bytes) and (not lines or len(item) <= room):
                lines.append(item)
                room -= len(item)
                item = _next_of(queue)
            if lines:
                self._write(lines)
            if item is None:
                sleep(GATHERING)
            elif not isinstance(item, bytes):
                item.release()
                item = None

    def _write(self, lines: list[bytes]) -> None:
        """Write the lines, and after them how many were dropped before there was room for these.

        NOTE: all workers write to one pipe, which takes up to PIPE_BUF bytes as a whole; of more, parts of other
        workers' lines could come in between.
        """
        if not _write_all(self._descriptor, b"".join(lines)):
            with self._lock:
                self._dropped += len(lines)
            return
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            _write_all(self._descriptor, f"{self.line_of_dropped(dropped)}\n".encode())


class ErrorStream(io.TextIOBase):
    """What takes the place of ``sys.stderr``: hands on whole lines."""

    def __init__(self, write: Callable[[str], None], flush: Callable[[], None]) -> None:
        """``flush`` waits a moment until what was written is out."""
        self._write_lines = write
        self._flush = flush
        self._begun = ""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Keep the text until its line is complete."""
        whole, newline, rest = (self._begun + text).rpartition("\n")
        self._begun = rest[:LONGEST]
        if newline:
            self._write_lines(whole)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here but an unfinished line; see ``finish``."""

    def finish(self) -> None:
        """Write what there is, and wait a moment until it is out; for a process that ends."""
        if self._begun:
            self.write("\n")
        self._flush()


def _next_of(queue: "SimpleQueue[_Item]") -> bytes | LockType | None:
    """What is there already; None: nothing is."""
    try:
        return _made(queue.get_nowait())
    except Empty:
        return None


def _made(item: "_Item") -> bytes | LockType:
    if isinstance(item, bytes | LockType):
        return item
    try:
        return _encoded(item())
    except Exception as error:  # noqa: BLE001 -- without this thread no line would be written any more
        return _encoded(f"a line of the log cannot be made: {type(error).__name__}: {error}")


def _encoded(line: str) -> bytes:
    if len(line) > LONGEST:
        line = f"{line[:LONGEST]} ... ({len(line) - LONGEST} characters more)"
    return f"{line}\n".encode(errors="backslashreplace")


def _write_all(descriptor: int, data: bytes) -> bool:
    """Write, however long it takes; False if it cannot be written: the reader is gone, or the disk is full."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            sleep(RETRY)
        except OSError:
            return False
    return True
