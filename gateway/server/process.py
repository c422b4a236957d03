"""What a process asks of the system before it serves: descriptors, and an allocator that keeps some memory."""

import ctypes
import os
import resource
from pathlib import Path

KEPT_FREE = 4 << 20
"""Bytes at the heap's end that may lie unused."""
APART = 1 << 20
"""Bytes from which on a piece is mapped by itself, and given back as soon as it is freed."""
FILES = 64
"""Descriptors kept for files that are opened for a moment: shared files, host names, secrets, certificates."""
FEWEST = 8
"""Clients that are let in however few descriptors there are."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def open_standard_streams() -> None:
    """Open the null device where standard input, output or error is closed.

    Otherwise their numbers would be given to the next files and sockets, and a line of the log would be written into
    one of those. To be called before anything is opened that stays open.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def keep_freed_memory() -> None:
    """Tell glibc's allocator to keep what is freed for a while; elsewhere nothing happens.

    PERF: an answer of 1000 rows passes through buffers of 370 kB each. By itself the allocator returns them and
    fetches them anew for every request: a third of the processor time of such an answer went into page faults.
    See mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT_FREE)
        mallopt(_M_MMAP_THRESHOLD, APART)


def raise_descriptor_limit() -> None:
    """Every connection is a descriptor: allow as many as we may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def descriptors_for_clients(connections: int) -> int:
    """How many clients may be connected beside so many connections to servers, and the files that are open now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = len(list(Path("/proc/self/fd").iterdir()))
    return max(FEWEST, limit - open_now - connections - FILES)
