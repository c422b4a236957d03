"""The nodes of this user that run on this machine, for the command line to find.

Each node has an entry: a file in ``$XDG_RUNTIME_DIR``, else in memory-backed storage. Its processes hold a lock
(flock(2)) on it, which the kernel releases when the last of them is gone: an entry that nobody locks is a dead node's.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.server.runtime import memory_directory

_LONGEST = 65_536


class NodeNotFound(Exception):
    """No node, or more than one, is what was asked for; the message says which there are."""


class Node(msgspec.Struct, frozen=True):
    """A running node."""

    config: str
    """Absolute path of its settings file; empty if it has none."""
    pid: int
    """Of its master."""
    admin: str
    """Address of its listener for operators, in the form of ``[server] bind``."""


class Entry(msgspec.Struct, frozen=True):
    """An entry of this process."""

    file: Path
    lock: int
    """Descriptor that holds the lock; forked processes inherit it."""


def register(node: Node, folders: Iterable[Path] | None = None) -> Entry:
    """Make an entry in the first of the folders that takes it. Raises OSError if none does."""
    refused: OSError = FileNotFoundError("there is neither XDG_RUNTIME_DIR nor memory-backed storage")
    for folder in folders_of(os.environ) if folders is None else folders:
        try:
            return _write(node, folder)
        except OSError as error:
            refused = error
    raise refused


def unregister(entry: Entry) -> None:
    """Remove the entry."""
    entry.file.unlink(missing_ok=True)
    os.close(entry.lock)


def nodes(folders: Iterable[Path] | None = None) -> list[Node]:
    """Return every running node of this user; entries of dead ones are removed."""
    found: list[Node] = []
    for folder in folders_of(os.environ) if folders is None else folders:
        for file in sorted(folder.glob(f"{_prefix()}*")):
            with suppress(OSError, msgspec.MsgspecError):
                found.extend(_read(file))
    return found


def find(config: Path | None = None, pid: int | None = None, folders: Iterable[Path] | None = None) -> Node:
    """Return the node with this settings file, or of this master; without both the only one there is.

    Raises NodeNotFound.
    """
    running = nodes(folders)
    asked = "of this user"
    if config is not None:
        asked = f"with settings from {config}"
        running = [node for node in running if node.config == str(config.resolve())]
    if pid is not None:
        asked = f"with process {pid}"
        running = [node for node in running if node.pid == pid]
    match running:
        case [node]:
            return node
        case []:
            raise NodeNotFound(f"no running gateway {asked} was found")
        case _:
            each = ", ".join(f"process {node.pid} ({node.config or 'no settings file'})" for node in running)
            raise NodeNotFound(f"more than one gateway {asked} is running: {each}; choose one by its process")


def folders_of(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield where entries may be: a service and a login shell of the same user need not have the same variables."""
    named = environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/") and Path(named).is_dir():
        yield Path(named)
    if memory := memory_directory():
        yield memory


def _prefix() -> str:
    return f"pg-query-gateway-node-{os.geteuid()}-"


def _write(node: Node, folder: Path) -> Entry:
    """Write and lock the entry under a name that nobody looks for, then give it its own."""
    descriptor, name = tempfile.mkstemp(prefix=f".{_prefix()}", dir=folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, msgspec.json.encode(node))
        file = folder / Path(name).name.removeprefix(".")
        Path(name).rename(file)
    except BaseException:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)
        raise
    return Entry(file, descriptor)


def _read(file: Path) -> Iterator[Node]:
    """Yield the node of an entry if it lives. Raises OSError, MsgspecError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        # SECURITY: memory-backed storage is open to all; another user's file would send our keys to a socket of theirs.
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            yield msgspec.json.decode(os.read(descriptor, _LONGEST), type=Node)
        else:
            file.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
