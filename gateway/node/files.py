"""Files that the processes of a node share: replaced as a whole, locked by the kernel, mapped into memory."""

import fcntl
import mmap
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.node.processes import is_alive, start_of

REST = 0.0002
"""Seconds between two attempts to take a lock."""

_OF_PROCESS = re.compile(r"answer-(\d+)-(\d+)|.+\.(\d+)\.draft")
"""Names of files that are of no use without the process in them."""
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


def open_shared(path: Path, flags: int = 0) -> int:
    """Open a file for reading and writing, made if it is missing, never through a link; returns its descriptor."""
    return os.open(path, _OPEN | os.O_CREAT | flags, 0o600)


def replace(path: Path, content: bytes) -> None:
    """Give a file this content, so that others find the old or the new one; raises OSError, and then it is the old."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with os.fdopen(os.open(draft, _OPEN | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def remove_left_behind(directory: Path) -> None:
    """Remove the drafts that dead processes have not finished, and their answers that nobody came for."""
    with suppress(OSError):
        for path in directory.iterdir():
            if match := _OF_PROCESS.fullmatch(path.name):
                pid, started, drafting = match.groups()
                is_in_use = is_alive(int(pid), int(started)) if pid else start_of(int(drafting)) is not None
                if not is_in_use:
                    path.unlink(missing_ok=True)


class FileLock:
    """An exclusive lock between processes. The kernel frees it when the process that holds it dies."""

    def __init__(self, path: Path) -> None:
        """Open the file behind the lock; raises OSError."""
        self._file = open_shared(path)

    def take(self, patience: float = 0.0) -> bool:
        """Take the lock, waiting so many seconds for it at most; returns whether it was taken."""
        ends = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= ends:
                    return False
                # NOTE: this waits in the kernel. A cooperative sleep would let other green threads of this process
                # run in the middle of a change, and one of them could come here again.
                signal.sigtimedwait((), REST)
            else:
                return True

    def free(self) -> None:
        """Let another process have it."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def read(self, length: int) -> bytes:
        """Read the beginning of the file, which any process may do."""
        return os.pread(self._file, length, 0)

    def write(self, content: bytes) -> None:
        """Write the beginning of the file, which the holder of the lock does; raises OSError."""
        os.pwrite(self._file, content, 0)

    def reserve(self, length: int) -> None:
        """Take the room for so many bytes now, as the file system may be full later; raises OSError."""
        os.posix_fallocate(self._file, 0, length)

    def close(self) -> None:
        """Free the lock and close the file; not to be used afterwards. Harmless when repeated."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def make_mapped(path: Path, size: int, header: bytes, fill: Callable[[mmap.mmap], None]) -> mmap.mmap:
    """Make a file of this size that begins with ``header``, in place of any that is there, and map it.

    ``fill`` writes what it holds behind its header before others see it. Processes that may come at the same time need
    a lock around this. Raises OSError, also if there is not enough room for the file.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    descriptor = os.open(draft, _OPEN | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # NOTE: the room is taken now. A write into a hole of a file system that is full by then would be a SIGBUS.
        os.posix_fallocate(descriptor, 0, size)
        os.pwrite(descriptor, header, 0)
        memory = mmap.mmap(descriptor, size)
        fill(memory)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return memory


def map_existing(path: Path, size: int, header: bytes) -> mmap.mmap | None:
    """Map a file that has this size and begins with ``header``; None if there is no such file."""
    with suppress(OSError):
        descriptor = os.open(path, _OPEN)
        try:
            if os.fstat(descriptor).st_size == size and os.pread(descriptor, len(header), 0) == header:
                return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
    return None
