"""What the servers said of a catalogue's queries, in a file to which the workers of a node append.

The file is a line of JSON for each thing that was learnt, asked for or noticed; whoever reads it from the beginning
knows all of it. Lines are appended by one system call each, so those of several processes do not mix. A line that is
damaged, because a process was killed while it wrote or because the file system was full, is skipped.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from gateway import __version__
from gateway.catalogue.query import Catalogue
from gateway.catalogue.types import Signature
from gateway.node.files import open_shared, replace

FILES = ("learnt-*", "elected-learner-*")
"""What belongs to one catalogue (``elected-*``: see ``election``)."""

_SLICE = 64 * 1024
"""Bytes read at a time: some hundred lines, which take less than 5 ms to decode."""
_ROOM = 1 << 20
"""Bytes of lines that are out of date for which a file is not yet written anew."""


class Learnt(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A server has described a query."""

    query: str
    signature: Signature
    epoch: int
    at: float
    """When, in seconds of the Unix epoch."""


class Failed(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A server did not describe a query."""

    query: str
    fault: str
    waits: bool = False
    """The fault is not the query's own."""


class Stale(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A migration may have changed these queries."""

    queries: tuple[str, ...]
    at: float
    """When it was noticed, by ``time.monotonic``."""


class Looked(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The database was looked at, and is not as it was."""

    parts: dict[str, int]
    """See ``postgres.looking``."""
    sessions_stale: bool = False
    """Settings of the role or the database have changed: sessions keep those with which they were opened."""
    all_since: float = 0.0
    """Every query was learnt since then, by ``time.monotonic``."""


class Asked(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A worker wants queries to be learnt."""

    queries: tuple[str, ...] = ()
    """None: all."""
    at: float = 0.0
    """When, by ``time.monotonic``."""


Entry = Learnt | Failed | Stale | Looked | Asked


class LearntFile:
    """The file of one catalogue. Methods raise OSError where it cannot be used."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        """Open the file, made if it is missing; those of other catalogues and versions are removed then."""
        self.key = hashlib.sha256(f"{__version__} {catalogue.hash}".encode()).hexdigest()[:16]
        self._path = directory / f"learnt-{self.key}"
        is_new = not self._path.exists()
        self._encoder = msgspec.json.Encoder()
        self._decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
        self._file = open_shared(self._path, os.O_APPEND)
        self._read = 0
        """Bytes read."""
        self._kept = 0
        """Bytes that the file had when it was last written anew."""
        self._rest = b""
        if is_new:
            for old in (old for pattern in FILES for old in directory.glob(pattern) if self.key not in old.name):
                old.unlink(missing_ok=True)  # a worker that still uses it has it open

    def append(self, entries: Iterable[Entry]) -> None:
        """Write what all workers are to know."""
        lines = b"".join(b"%b\n" % self._encoder.encode(entry) for entry in entries)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            lines = b"\n" + lines  # behind a damaged line
        if lines and os.write(self._file, lines) != len(lines):
            raise OSError("the file system is full")

    def read(self) -> list[Entry]:
        """Give some of what was written since the last call, and not been given yet; empty when that is all."""
        found = os.pread(self._file, _SLICE, self._read)
        if not found and self._was_replaced():
            found = os.pread(self._file, _SLICE, 0)
        self._read += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        return list(self._decoded(lines))

    @property
    def is_long(self) -> bool:
        """Whether most of the file may be out of date, so that it is time to write it anew."""
        return self._read > 2 * self._kept + _ROOM

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Put a file with these entries alone in its place."""
        content = b"".join(b"%b\n" % self._encoder.encode(entry) for entry in entries)
        replace(self._path, content)
        os.close(self._file)
        self._file, self._rest = open_shared(self._path, os.O_APPEND), b""
        self._read = self._kept = len(content)

    def close(self) -> None:
        """Close the file; not to be used afterwards. Harmless when repeated."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _was_replaced(self) -> bool:
        """Whether another file has taken its place, which is then read from its beginning."""
        mine = os.fstat(self._file)
        if mine.st_size > self._read:
            return False  # there is something to be read first
        try:
            there = self._path.lstat()
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return False
            replaced = open_shared(self._path, os.O_APPEND)
        except OSError:
            return False  # removed, with the catalogue: this process goes on with the file it has
        os.close(self._file)
        self._file, self._read, self._rest = replaced, 0, b""
        return True

    def _decoded(self, lines: Iterable[bytes]) -> Iterator[Entry]:
        for line in lines:
            try:
                if line:
                    yield self._decoder.decode(line)
            except msgspec.MsgspecError:
                continue  # damaged; what it said is learnt again
