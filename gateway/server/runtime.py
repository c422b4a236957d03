"""The runtime directory: where the processes of one node meet, and nobody else.

One node owns it by a lock (flock(2)) on the file ``lock`` in it. The descriptor is inherited from ``gateway serve``
by the master and its workers, so the lock is held until the last of them is gone, however it went.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from msgspec import Struct

LOCK = "lock"
LEARNT = ("signatures-*", "board-*", "prober-*", "places-*", "worker-*")
"""What the workers of a node learn from the servers and share (``node``)."""
MEMORY = Path("/dev/shm")  # noqa: S108 - only folders made by mkdtemp are used in it
SETTLED = 60.0
"""Seconds after which a folder without an owner was left behind, and is not just being made."""
ROOM = 4 * 1024 * 1024
"""Bytes that must be free in memory-backed storage; containers may have next to none."""


class RuntimeUnusable(Exception):
    """The runtime directory cannot be used; the message says why."""


class Runtime(Struct, frozen=True):
    """A runtime directory that this process owns."""

    path: Path
    lock: int
    """Descriptor that holds the lock; survives an exec."""
    is_private: bool
    """Made for this node alone: whoever ends last removes it."""


def open_runtime(configured: str = "", *, memory: Path = MEMORY) -> Runtime:
    """Own the configured directory, made if missing; without one, a new private folder in memory-backed storage.

    Private folders whose node died without removing them are removed first. Raises RuntimeUnusable, if another node
    has the directory or others than its owner could write there.
    """
    try:
        if configured:
            path = Path(configured)
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _assert_ours(path)
            runtime = Runtime(path, _own(path), is_private=False)
            for pattern in LEARNT:  # by an earlier node: the database may have changed since
                for learnt in path.glob(pattern):
                    learnt.unlink()
            return runtime
        base = memory_directory(memory)
        sweep(base)
        path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=base))
        return Runtime(path, _own(path), is_private=True)
    except OSError as error:
        raise RuntimeUnusable(f"{error.filename or configured}: {error.strerror}") from None


def memory_directory(memory: Path = MEMORY) -> Path:
    """Return the memory-backed directory if it can be written to and has room, else that for temporary files."""
    try:
        status = os.statvfs(memory)
        if os.access(memory, os.W_OK | os.X_OK) and status.f_bavail * status.f_frsize >= ROOM:
            return memory
    except OSError:
        pass
    return Path(tempfile.gettempdir())


def sweep(base: Path) -> None:
    """Remove private folders of this user that no process owns any more."""
    for folder in base.glob(f"{_prefix()}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            if time.time() - status.st_mtime < SETTLED or not _is_abandoned(folder):
                continue
        except OSError:
            continue
        shutil.rmtree(folder, ignore_errors=True)


def remove(runtime: Runtime) -> None:
    """Remove the directory if it is private; a configured one stays. The lock goes with the process."""
    if runtime.is_private:
        shutil.rmtree(runtime.path, ignore_errors=True)


def _prefix() -> str:
    return f"pg-query-gateway-{os.geteuid()}-"


def _assert_ours(path: Path) -> None:
    """SECURITY: whoever can write here could hand the workers an artefact of their own."""
    status = path.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise RuntimeUnusable(f"{path} is not a directory")
    if status.st_uid != os.geteuid():
        raise RuntimeUnusable(f"{path} belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeUnusable(f"{path} can be written to by others than its owner")


def _own(path: Path) -> int:
    """Lock the directory for this process and those that inherit from it; returns the descriptor."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(lock, 20).decode("ascii", "replace").strip()
        os.close(lock)
        raise RuntimeUnusable(f"{path} is in use by another gateway (process {owner or 'unknown'})") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    os.set_inheritable(lock, True)
    return lock


def _is_abandoned(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
