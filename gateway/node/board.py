"""The board: what the workers of a node know of their endpoints, in a file in memory that all of them map.

Satisfies ``rotation.rotation.Views``. Reading takes no lock and no system call. A change is a read-modify-write under a
file lock, which the kernel frees when its holder dies; it lasts some 20 µs, and whoever dies in it leaves the record
as it was (``records``). A holder that was stopped in it (SIGSTOP) holds up one change of each worker for
``PATIENCE``; then the others go on without the lock, and the stopped one, once it runs again, sees that they did and
changes what holds then.
"""

import hashlib
import mmap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gateway import __version__
from gateway.events import NodeNotShared, Observer, ignore
from gateway.node.files import FileLock, make_mapped, map_existing
from gateway.node.records import Record
from gateway.rotation.endpoint import EndpointView

PATIENCE = 0.05
"""Seconds for which a change waits for the lock. A change of somebody else's takes microseconds."""
LITTLE_PATIENCE = 0.001
"""The same once that was in vain: the holder is stopped, so whoever has the lock now is one of the others."""
PATIENCE_AT_START = 1.0
LOCK = "board.lock"
FILES = ("board-*", "elected-prober-*")
"""What belongs to one set of endpoints (``elected-*``: see ``election``)."""

_MAGIC = b"gwboard1"
_HEADER = 128
_RECORD = 16 * 1024
_LONGEST_MESSAGE = 1000
_TRIES = 3
_VERSION, _EPOCH = 0, 1
_NUMBERS = slice(64, 80)
"""Two native 64-bit numbers: one grows with every change, the other whenever somebody went on without the lock."""


class Board:
    """The views of all endpoints, the same in every process that opened the board of the same endpoints.

    Times in the views are of ``time.monotonic``, which all processes of a machine share until it is booted again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        endpoints: Mapping[str, str],
        observe: Observer = ignore,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open the board of these endpoints, made by whoever comes first.

        ``endpoints``: names, with what tells one server from another by the same name (never a secret). Others have
        a board of their own. Raises OSError, if the directory cannot be used or is full.
        """
        self._blank = {name: EndpointView(name=name, since=clock(), since_wall=wall()) for name in endpoints}
        self.layout = _layout(endpoints)
        """Names these endpoints; the same for all processes with the same board."""
        self._observe = observe
        self._mutex = threading.Lock()
        self._is_held_up = False
        self._lock = FileLock(directory / LOCK)
        self._memory = self._map(directory / f"board-{self.layout}")
        self._numbers = memoryview(self._memory)[_NUMBERS].cast("Q")
        self._records = dict(zip(endpoints, _records(self._memory, len(endpoints)), strict=True))
        self._decoder = msgspec.msgpack.Decoder(EndpointView)
        self._known: dict[str, tuple[bytes, EndpointView]] = {}

    @property
    def version(self) -> int:
        """Grows with every change by any process."""
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
        return view

    def close(self) -> None:
        """Let go of the file; not to be used afterwards."""
        self._numbers.release()
        self._memory.close()
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

    def _map(self, path: Path) -> mmap.mmap:
        """Map the file; one that is missing, damaged or something else is replaced."""
        size, header = _HEADER + _RECORD * len(self._blank), _header(self.layout)
        has_lock = self._lock.take(PATIENCE_AT_START)
        try:
            memory = map_existing(path, size, header)
            if memory is None:
                memory = make_mapped(path, size, header, self._fill)
                for old in (old for pattern in FILES for old in path.parent.glob(pattern)):
                    if self.layout not in old.name:  # of before a reload: whoever still uses it has it open
                        old.unlink(missing_ok=True)
        finally:
            if has_lock:
                self._lock.free()
        return memory

    def _fill(self, memory: mmap.mmap) -> None:
        for record, view in zip(_records(memory, len(self._blank)), self._blank.values(), strict=True):
            record.write(_encoded(view))


def _records(memory: mmap.mmap, count: int) -> list[Record]:
    return [Record(memory, _HEADER + index * _RECORD, _RECORD) for index in range(count)]


def _header(layout: str) -> bytes:
    return _MAGIC + layout.encode().ljust(_NUMBERS.start - len(_MAGIC), b"\0")


def _layout(endpoints: Mapping[str, str]) -> str:
    """Name these endpoints as this version sees them, on this boot of the machine: clocks begin anew with it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    said = msgspec.json.encode([__version__, boot, list(endpoints.items()), EndpointView.__struct_fields__])
    return hashlib.sha256(said).hexdigest()[:16]


def _encoded(view: EndpointView) -> bytes:
    message = view.message
    if len(message) > _LONGEST_MESSAGE:
        view = replace(view, message=f"{message[:_LONGEST_MESSAGE]}…")
    return msgspec.msgpack.encode(view)
