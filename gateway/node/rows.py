"""A file of rows of equal size that the processes of a node share, with a lock on each row.

The locks are open file description locks (fcntl(2)) on the first byte of a row. The kernel releases them when their
process dies, however it does: a row that says it is held, and whose lock is free, was held by a process that is dead.
No lock is ever waited for, and none is on more than one row: a process that is stopped keeps the rows it holds, and
keeps nobody from the others.
"""

import errno
import fcntl
import os
import signal
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

HEADER = 64
"""Bytes in front of the rows."""
_IN_USE = 0
"""The byte with a lock of each process that has the file open."""
_TRIES = 100
"""Attempts to open a file that is just being removed, which takes microseconds unless that process is stopped."""
_REST = 0.0002
"""Seconds between two of them."""
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = struct.Struct("hhqqi")
"""``struct flock``: type, whence, start, length, pid (0 for these locks)."""

Row = tuple[Any, ...]


class Claim:
    """A row that this process has locked. What is counted in it may be moved to another row of the file."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


class Rows:
    """One process's access to the file. Its locks belong to this object; after a fork the child needs its own."""

    def __init__(self, file: Path, form: struct.Struct, *, count: int) -> None:
        """Make the file if it does not exist, and allocate the space of ``count`` rows. Raises OSError.

        A file system that becomes full later does not matter, because nothing is written beyond that space.
        """
        self._form = form
        self._file = _open(file)
        try:
            os.posix_fallocate(self._file, 0, HEADER + count * form.size)
        except OSError:
            os.close(self._file)
            raise

    def read_header(self, form: struct.Struct) -> Row:
        """Return the header's values; all zero in a new file."""
        return form.unpack(os.pread(self._file, form.size, 0))

    def write_header(self, form: struct.Struct, *values: Any) -> None:
        """Replace the header's values."""
        os.pwrite(self._file, form.pack(*values), 0)

    def all(self, count: int | None = None) -> Sequence[Row]:
        """Return the first ``count`` rows, or all that the file has; all zero where nothing was written."""
        size = os.fstat(self._file).st_size - HEADER if count is None else count * self._form.size
        rows = os.pread(self._file, size, HEADER)
        return list(self._form.iter_unpack(rows[: len(rows) // self._form.size * self._form.size]))

    def read(self, number: int) -> Row:
        """Return one row."""
        return self._form.unpack(os.pread(self._file, self._form.size, self._start(number)))

    def write(self, number: int, *values: Any) -> None:
        """Replace one row."""
        os.pwrite(self._file, self._form.pack(*values), self._start(number))

    def try_lock(self, number: int) -> bool:
        """Lock a row unless another process has it locked. True also if this one has: the caller must know."""
        try:
            self._lock(fcntl.F_WRLCK, number)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(self, number: int) -> None:
        """Release the lock on a row."""
        self._lock(fcntl.F_UNLCK, number)

    def close(self) -> None:
        """Close the file: all locks are released, and the rows stay as they are, as if the process had died.

        Every other method raises OSError from now on. Harmless when closed already.
        """
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._file < 0

    def _lock(self, kind: int, number: int) -> None:
        _set_lock(self._file, kind, self._start(number))

    def _start(self, number: int) -> int:
        return HEADER + number * self._form.size


def remove_unused(directory: Path, pattern: str, *, after: float) -> None:
    """Remove files of rows that no process has open, and that nobody has written to for so many seconds."""
    for file in directory.glob(pattern):
        with suppress(OSError):
            descriptor = os.open(file, _OPEN)
            try:
                _set_lock(descriptor, fcntl.F_WRLCK, _IN_USE)
                status = os.fstat(descriptor)
                # A file that another process has removed since it was opened: one in use may have its name by now.
                if status.st_nlink and time.time() - status.st_mtime >= after:
                    file.unlink()
            finally:
                os.close(descriptor)


def _open(file: Path) -> int:
    """Open the file, made if it is missing, and lock it as one that is in use; returns its descriptor."""
    for _ in range(_TRIES):
        descriptor = os.open(file, _OPEN | os.O_CREAT, 0o600)
        with suppress(BlockingIOError):
            _set_lock(descriptor, fcntl.F_RDLCK, _IN_USE)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        os.close(descriptor)  # it is being removed, or was removed since it was opened
        signal.sigtimedwait((), _REST)  # in the kernel: a cooperative sleep would let other green threads in here
    raise OSError(errno.EBUSY, "another process is removing it", str(file))


def _set_lock(descriptor: int, kind: int, at: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, at, 1, 0))
