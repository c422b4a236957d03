"""Token buckets that the workers of a node share, in a file in memory that all of them map.

A bucket is what the generic cell rate algorithm (GCRA) keeps of it: one number, the time when it will be full again.
Taking from it moves that time on by what the tokens cost; what would move it further than the bucket is deep is
refused. Nothing runs beside requests, and an old bucket needs no cleaning: it is full.

There is no lock, so nobody waits and a process that is killed leaves nothing behind: numbers are 64 bits and aligned,
so each is stored as a whole. Two processes that take from one bucket within the same 100 ns both see it as it was, and
one of the two takings is not counted; a process that is stopped between looking and storing gives back what others have
taken meanwhile, once. With 2,000 takings a second that is less than one in a thousand, in the caller's favour.

Memory is bounded whoever calls: the buckets are in sets of eight, chosen by a keyed hash of the name, and a new one
takes the place of the fullest in its set.
"""

import hashlib
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path

from gateway.events import NodeNotShared, Observer
from gateway.node.files import FileLock, make_mapped, map_existing

CELLS = 65_536
_WAYS = 8
_WORDS = 2 * _WAYS
"""64-bit numbers of a set: eight hashes, then their times."""
_HEADER = 64
_MAGIC = b"gwcells1"
_KEY = slice(8, 24)
_SIZE = _HEADER + 16 * CELLS
_PATIENCE = 1.0
_TRIES = 3
_APART = 1_000_000_000
"""Nanoseconds by which a time may be further away than a bucket is deep: another process has stored it after this one
looked at the clock. A time beyond that was written before the machine was started again."""


class Bucket:
    """One process's access to one bucket."""

    __slots__ = ("_at", "_clock", "_hashed", "_words")

    def __init__(self, words: memoryview, hashed: int, clock: Callable[[], int]) -> None:
        self._words = words
        self._hashed = hashed
        self._clock = clock
        self._at = _WAYS
        """Where its time was when it was last looked at; its hash is a set's half before that."""

    def take(self, cost: int, depth: int, tries: int = _TRIES) -> int:
        """Take tokens that are worth ``cost`` from the bucket, which holds ``depth``, both nanoseconds.

        Returns how long it will then take to be full; negative: nothing was taken, and would have been possible that
        much later. Nobody is to ask for more than the bucket holds.
        """
        now = self._clock()
        words = self._words
        at = self._at
        if words[at - _WAYS] != self._hashed:
            at = self._find()
        full_at = words[at]
        base = full_at if now < full_at < now + depth + _APART else now
        level: int = base - now + cost
        if level > depth:
            return depth - level
        if words[at] != full_at and tries:  # somebody else has taken from it meanwhile
            return self.take(cost, depth, tries - 1)
        words[at] = base + cost
        return level

    def give_back(self, cost: int) -> None:
        """Undo a taking."""
        at = self._find()
        self._words[at] = max(0, self._words[at] - cost)

    def _find(self) -> int:
        """Return where its time is; if it has no place, take that of the fullest bucket in its set."""
        words = self._words
        start = self._hashed % (CELLS // _WAYS) * _WORDS
        hashes = words[start : start + _WAYS].tolist()
        times = words[start + _WAYS : start + _WORDS].tolist()
        if self._hashed in hashes:
            way = hashes.index(self._hashed)
        else:
            way = times.index(min(times))
            if words[start + way] != self._hashed:  # else another process has given it this place meanwhile, and taken
                # Whoever had this place, and takes from it between these two lines, finds a full bucket.
                words[start + _WAYS + way] = 0
                words[start + way] = self._hashed
        self._at = start + _WAYS + way
        return self._at


class Cells:
    """One process's access to the buckets of its node."""

    def __init__(
        self, directory: Path | None, *, observe: Observer, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """Open the file, made by whoever comes first; without a directory the buckets are this process's own.

        ``clock`` gives nanoseconds that all processes of the machine share.
        """
        self._clock = clock
        memory = _mapped(directory, observe)
        self._words = memoryview(memory)[_HEADER:].cast("q")
        self._key = bytes(memory[_KEY])

    def bucket(self, name: str) -> Bucket:
        """Return the bucket of this name."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key).digest()
        return Bucket(self._words, int.from_bytes(digest, "little") >> 1 or 1, self._clock)


def _mapped(directory: Path | None, observe: Observer) -> mmap.mmap:
    if directory is not None:
        try:
            return _shared(directory)
        except OSError as error:
            observe(NodeNotShared(what="this worker limits rates by what it sees itself", detail=str(error)))
    memory = mmap.mmap(-1, _SIZE)
    _fill(memory)
    return memory


def _shared(directory: Path) -> mmap.mmap:
    lock = FileLock(directory / "cells.lock")
    try:
        lock.take(_PATIENCE)
        path = directory / "cells"
        return map_existing(path, _SIZE, _MAGIC) or make_mapped(path, _SIZE, _MAGIC, _fill)
    finally:
        lock.close()


def _fill(memory: mmap.mmap) -> None:
    memory[_KEY] = os.urandom(16)
