"""The runtime directory: the files that the processes of one node share, and nobody else.

A node works in a folder that a gateway made: a new one in memory-backed storage, or ``pg-query-gateway`` in the
configured directory. The file ``gateway.lock`` in it marks it as such. One node owns the folder by a lock (flock(2)) on
that file. The descriptor is inherited from ``gateway serve`` by the master and its workers, so the lock is held until
the last of them is gone, however it ended.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

from msgspec import Struct

FOLDER = "pg-query-gateway"
"""The node's folder in a configured directory."""
LOCK = "gateway.lock"
SHARED = (
    *("learnt-*", "board-*", "elected-*", "places-*", "sessions-*", "worker-*"),
    *("metrics-*", "log-level", "question", "answer-*", "reload", "members", "samples-*", "events-*"),
)
"""Files in which the workers of a node share what they learn from the servers, count, and are asked for (``node``)."""
MEMORY = Path("/dev/shm")  # noqa: S108 - only folders made by mkdtemp are used in it
SETTLED = 60.0
"""Seconds after which a folder that no process owns was left behind, and is not just being made."""
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
    """Own a folder in the configured directory, which is made if missing; else a new one in memory-backed storage.

    Private folders whose node died without removing them are removed first. Raises RuntimeUnusable if another node
    has the folder, if others than its owner could put something in its place, or if no gateway made it.
    """
    try:
        if configured:
            path = _folder_in(Path(configured))
            runtime = Runtime(path, _own(path), is_private=False)
            for pattern in SHARED:  # by an earlier node: the database may have changed since
                for file in path.glob(pattern):
                    file.unlink()
            return runtime
        base = memory_directory(memory) or Path(tempfile.gettempdir())
        sweep(base)
        path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=base))
        return Runtime(path, _own(path), is_private=True)
    except OSError as error:
        raise RuntimeUnusable(f"{error.filename or configured or memory}: {error.strerror}") from None


def memory_directory(memory: Path = MEMORY) -> Path | None:
    """Return the memory-backed directory if it can be written to and has room."""
    try:
        status = os.statvfs(memory)
    except OSError:
        return None
    has_room = status.f_bavail * status.f_frsize >= ROOM
    return memory if has_room and os.access(memory, os.W_OK | os.X_OK) else None


def sweep(base: Path) -> None:
    """Remove private folders of this user that no process owns any more."""
    for folder in base.glob(f"{_prefix()}*"):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            if time.time() - status.st_mtime >= SETTLED:
                _remove_abandoned(folder)
        except OSError:
            continue


def remove(runtime: Runtime) -> None:
    """Remove the directory if it is private; a configured one stays. The lock goes with the process."""
    if runtime.is_private:
        shutil.rmtree(runtime.path, ignore_errors=True)


def _prefix() -> str:
    return f"pg-query-gateway-{os.geteuid()}-"


def _folder_in(directory: Path) -> Path:
    """Return the node's folder in a configured directory; makes both if missing. Raises OSError, RuntimeUnusable."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Resolved once and for all: what the links on the way point at later does not matter.
    directory = directory.resolve(strict=True)
    _assert_protected(directory)
    folder = directory / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise RuntimeUnusable(f"{folder} is not a folder of this user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RuntimeUnusable(f"{folder} can be written to by others than its owner")
    if not (folder / LOCK).exists() and any(folder.iterdir()):
        raise RuntimeUnusable(f"{folder} holds files, but no {LOCK}: no gateway made it")
    return folder


def _assert_protected(directory: Path) -> None:
    """SECURITY: whoever can rename the node's folder could hand the workers an artefact of their own.

    Every directory above counts: where all may write, only the sticky bit keeps others from renaming what is ours.
    """
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise RuntimeUnusable(f"{directory} belongs to another user")
    if status.st_mode & stat.S_IWGRP and not status.st_mode & stat.S_ISVTX:
        raise RuntimeUnusable(f"{directory} can be written to by its group; chmod g-w or set the sticky bit")
    for each in (directory, *directory.parents):
        mode = each.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise RuntimeUnusable(f"{each} can be written to by everybody and is not sticky; chmod o-w, or +t")


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


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder whose owner is gone. One without the mark is somebody else's unless it is empty."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        folder.rmdir()  # raises OSError where there is anything in it
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(lock)
