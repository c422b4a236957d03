"""A record in memory that several processes share, and that survives whoever dies while writing it.

A record is two slots. The newest good one counts: sequence and checksum say which that is. A writer always writes
into the other one, so a SIGKILL in the middle of it leaves what was there before. Readers take no lock; one that
comes in the middle of a write finds a checksum wrong, and looks again.
"""

import mmap
import struct
import zlib

_HEAD = struct.Struct("=QII")  # sequence (0: never written), length, checksum over sequence and content
_LOOKS = 4
"""How often a reader looks for two good slots before it takes the one there is: the other's writer was killed."""


class Record:
    """One record of a mapped file; ``size`` is that of both slots together."""

    __slots__ = ("_content", "_heads", "_memory", "_offsets", "_room", "sequence")

    def __init__(self, memory: mmap.mmap, offset: int, size: int) -> None:
        self._memory = memory
        self._offsets = (offset, offset + size // 2)
        self._room = size // 2 - _HEAD.size
        self._heads = b""
        self._content = b""
        self.sequence = 0
        """Of what was read last; 0: there was nothing to be read."""

    @property
    def room(self) -> int:
        """The most bytes that a content may have."""
        return self._room

    def read(self) -> bytes:
        """What was written last; empty, if that was nothing or is lost."""
        heads = b"".join([self._memory[offset : offset + _HEAD.size] for offset in self._offsets])
        if heads == self._heads:
            return self._content
        best: tuple[int, bytes] = (0, b"")
        self._heads = b""
        for _ in range(_LOOKS):
            found = [self._slot(offset) for offset in self._offsets]
            best = max([best, *(slot for slot in found if slot is not None)])
            if None not in found:
                # NOTE: the heads were read first: should a writer have come meanwhile, they differ the next time.
                self._heads = heads
                break
        self.sequence, self._content = best
        return self._content

    def write(self, content: bytes) -> None:
        """Write the next content, over the older slot. One writer at a time; ValueError, if it is too long."""
        if len(content) > self._room:
            raise ValueError(f"{len(content)} bytes are more than a record's {self._room}")
        self.read()
        sequence = self.sequence + 1
        offset = self._offsets[sequence & 1]
        head = _HEAD.pack(sequence, len(content), _checksum(sequence, content))
        self._memory[offset : offset + len(head) + len(content)] = head + content

    def _slot(self, offset: int) -> tuple[int, bytes] | None:
        """Sequence and content of a slot, None for a torn one."""
        sequence, length, checksum = _HEAD.unpack_from(self._memory, offset)
        if not sequence:
            return 0, b""
        if length > self._room:
            return None
        start = offset + _HEAD.size
        content = self._memory[start : start + length]
        return (sequence, content) if _checksum(sequence, content) == checksum else None


def _checksum(sequence: int, content: bytes) -> int:
    return zlib.crc32(content, sequence & 0xFFFFFFFF)
