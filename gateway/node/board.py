"""The board: what the workers of a node know of their endpoints, in files in memory that all of them map.

Satisfies ``rotation.rotation.Views``. Reading takes no lock and no system call. A change is a read-modify-write under a
file lock, which the kernel frees when its holder dies; it lasts some 20 µs, and whoever dies in it leaves the record
as it was (``records``). A holder that was stopped in it (SIGSTOP) holds up one change of each worker for
``PATIENCE``; then the others go on without the lock, and the stopped one, once it runs again, sees that they did and
changes what holds then.

Each endpoint has a file of its own. Two generations of workers with different endpoints, as there are during a reload,
so have the same view of those that both know; what an operator drained stays drained.
"""

import fcntl
import hashlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gateway import __version__
from gateway.events import NodeNotShared, Observer, ignore
from gateway.node.files import FileLock, make_mapped, map_existing, open_shared
from gateway.node.records import Record
from gateway.rotation.endpoint import EndpointView

PATIENCE = 0.05
"""Seconds for which a change waits for the lock. A change of somebody else's takes microseconds."""
LITTLE_PATIENCE = 0.001
"""Seconds that a change waits once PATIENCE was in vain: the holder is stopped, so whoever has the lock now is another
process."""
PATIENCE_AT_START = 1.0
LOCK = "board.lock"
NUMBERS = "board-numbers"
FILES = ("board-*", "elected-prober-*")
"""What belongs to one endpoint, or to one set of them (``elected-*``: see ``election``)."""

_MAGIC = b"gwboard2"
_HEADER = 64
_RECORD = 16 * 1024
_LONGEST_MESSAGE = 1000
_TRIES = 3
_VERSION, _EPOCH = 0, 1
"""Two native 64-bit numbers: one grows with every change, the other whenever somebody went on without the lock."""
_COUNTERS = slice(_HEADER, _HEADER + 16)


class Board:
    """The views of some endpoints, the same in every process that opened the board with them.

    Times in the views are of ``time.monotonic``, which all processes of a machine share until it is booted again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        endpoints: Mapping[str, str],
        observe: Observer = ignore,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open the board of these endpoints; what is missing of it is made.

        ``endpoints``: names, with what tells one server from another by the same name (never a secret). ``tell`` is
        called after each change by this process. Raises OSError, if the directory cannot be used or is full.
        """
        self._blank = {name: EndpointView(name=name, since=clock(), since_wall=wall()) for name in endpoints}
        self.layout = _digest([list(endpoints.items())])
        """Names these endpoints; the same for all processes with the same ones."""
        self._observe = observe
        self._tell = tell
        self._mutex = threading.Lock()
        self._is_held_up = False
        self._directory = directory
        self._lock = FileLock(directory / LOCK)
        self._files = {name: f"board-{_digest([name, told])}" for name, told in endpoints.items()}
        self._in_use: list[int] = []
        """Descriptors of the endpoints' files, each with a shared lock: nobody removes them meanwhile."""
        with self._locked_at_start():
            numbers = self._map(NUMBERS, _HEADER + 16, lambda _memory: None)
            self._memories = {name: self._map_view(name) for name in endpoints}
            self._remove_unused()
        self._memories[""] = numbers  # no endpoint has no name
        self._numbers = memoryview(numbers)[_COUNTERS].cast("Q")
        self._records = {name: _record(self._memories[name]) for name in endpoints}
        self._decoder = msgspec.msgpack.Decoder(EndpointView)
        self._known: dict[str, tuple[bytes, EndpointView]] = {}

    @property
    def version(self) -> int:
        """Grows with every change by any process, also of an endpoint that only others know."""
        return self._numbers[_VERSION]

    def read(self) -> dict[str, EndpointView]:
        """The newest view of every endpoint."""
        return {name: self._view(name, record) for name, record in self._records.items()}

    def change(self, change: Callable[[Mapping[str, EndpointView]], EndpointView]) -> EndpointView:
        """Replace one view by what ``change`` makes of all of them; returns it.

        Nothing is written where that is the very object it was given. ``change`` is quick and pure: it runs under the
        lock, and again if others went on without the lock meanwhile.
        """
        with self._mutex, self._locked():
            for _ in range(_TRIES):
                epoch = self._numbers[_EPOCH]
                views = self.read()
                view = change(views)
                if view is views[view.name]:
                    return view
                content = _encoded(view)
                if self._numbers[_EPOCH] == epoch:
                    break
            self._records[view.name].write(content)
            self._numbers[_VERSION] += 1
        self._tell()
        return view

    def close(self) -> None:
        """Let go of the files; not to be used afterwards."""
        self._numbers.release()
        for memory in self._memories.values():
            memory.close()
        for descriptor in self._in_use:
            os.close(descriptor)
        self._in_use.clear()
        self._lock.close()

    def _view(self, name: str, record: Record) -> EndpointView:
        content = record.read()
        known = self._known.get(name)
        if known is not None and known[0] is content:
            return known[1]
        view = self._blank[name]
        if content:
            try:
                view = self._decoder.decode(content)
            except msgspec.MsgspecError:
                self._observe(
                    NodeNotShared(what=f"endpoint {name}: what the board says of it", detail="cannot be read")
                )
        self._known[name] = (content, view)
        return view

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the file lock, if it can be had in time."""
        has_lock = self._lock.take(LITTLE_PATIENCE if self._is_held_up else PATIENCE)
        if not has_lock:
            if not self._is_held_up:
                self._observe(NodeNotShared(what="a stopped process holds the board's lock", detail="going on without"))
            self._numbers[_EPOCH] += 1
        self._is_held_up = not has_lock
        try:
            yield
        finally:
            if has_lock:
                self._lock.free()

    @contextmanager
    def _locked_at_start(self) -> Iterator[None]:
        has_lock = self._lock.take(PATIENCE_AT_START)
        try:
            yield
        finally:
            if has_lock:
                self._lock.free()

    def _map_view(self, name: str) -> mmap.mmap:
        def fill(memory: mmap.mmap) -> None:
            _record(memory).write(_encoded(self._blank[name]))

        file = self._files[name]
        memory = self._map(file, _HEADER + _RECORD, fill)
        descriptor = open_shared(self._directory / file)
        self._in_use.append(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # nobody has another lock on it but in _remove_unused, which is locked
        return memory

    def _map(self, file: str, size: int, fill: Callable[[mmap.mmap], None]) -> mmap.mmap:
        """Map a file; one that is missing, damaged or something else is replaced."""
        path, header = self._directory / file, _header(file)
        memory = map_existing(path, size, header)
        return make_mapped(path, size, header, fill) if memory is None else memory

    def _remove_unused(self) -> None:
        """Remove the files of endpoints that no process has any more, after a reload."""
        ours = {NUMBERS, LOCK, *self._files.values()}
        for path in (path for pattern in FILES for path in self._directory.glob(pattern)):
            if path.name in ours or self.layout in path.name:
                continue
            with suppress(OSError):
                descriptor = open_shared(path)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                finally:
                    os.close(descriptor)


def _record(memory: mmap.mmap) -> Record:
    return Record(memory, _HEADER, _RECORD)


def _header(file: str) -> bytes:
    return (_MAGIC + file.encode())[:_HEADER].ljust(_HEADER, b"\0")


def _digest(what: list[object]) -> str:
    """Name something as this version sees it, on this boot of the machine: clocks begin anew with it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    said = msgspec.json.encode([__version__, boot, what, EndpointView.__struct_fields__])
    return hashlib.sha256(said).hexdigest()[:16]


def _encoded(view: EndpointView) -> bytes:
    message = view.message
    if len(message) > _LONGEST_MESSAGE:
        view = replace(view, message=f"{message[:_LONGEST_MESSAGE]}…")
    return msgspec.msgpack.encode(view)
