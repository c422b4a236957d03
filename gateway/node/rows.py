"""A file of rows of equal size that the processes of a node share, with a lock on each row.

The locks are open file description locks (fcntl(2)) on the first byte of a row. The kernel releases them when their
process dies, however it does: a row that says it is held, and whose lock is free, was held by a process that is dead.
No lock is ever waited for, and none is on more than one row: a process that is stopped keeps the rows it holds, and
keeps nobody from the others.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HEADER = 64
"""Bytes in front of the rows."""
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
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
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
        fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _LOCK.pack(kind, os.SEEK_SET, self._start(number), 1, 0))

    def _start(self, number: int) -> int:
        return HEADER + number * self._form.size
