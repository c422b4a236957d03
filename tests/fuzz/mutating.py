"""Inputs that mean harm: examples, changed at random places in the ways that break parsers."""

import random
from collections.abc import Callable, Sequence
from typing import Final

LONGEST: Final = 20_000
"""Bytes that an input may grow to."""
_MOST_CHANGES = 5
_BYTES = bytes(range(256))
_ODD = (
    b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b"\x7f", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbb\xbf", b"%00", b"%", b"%zz", b"%ff", b"%2f", b"..", b"'", b'"', b"\\", b"''", b"\\'", b";", b"--", b"/*",
    b"$1", b"$$", b":x", b"0", b"-0", b"-1", b"1e999999999", b"99999999999999999999999", b"NaN", b"Infinity", b"0x10",
    b"\xd9\xa3", "é".encode(), "\u202e".encode(), "🐘".encode(), b"{", b"}", b"[", b"]", b",", b":", b"=", b"&",
)  # fmt: skip
"""What parsers stumble over, whatever they read."""


class Mutator:
    """Makes inputs of examples; the same seed makes the same inputs."""

    def __init__(self, seed: str, examples: Sequence[bytes], words: Sequence[bytes] = ()) -> None:
        """``words``: what means something to whoever reads the inputs."""
        self._random = random.Random(seed)  # noqa: S311 -- to be repeated
        self._examples = examples
        self._words = (*_ODD, *words)
        self._changes: tuple[Callable[[bytes], bytes], ...] = (
            self._replace, self._insert, self._insert, self._delete, self._repeat, self._splice, self._cut, self._swap,
        )  # fmt: skip

    def next(self) -> bytes:
        """Another input: in one of ten an example as it is."""
        made = self._random.choice(self._examples)
        if self._random.random() > 0.1:
            for _ in range(self._random.randint(1, _MOST_CHANGES)):
                made = self._random.choice(self._changes)(made)
        return made[:LONGEST]

    def pieces(self, data: bytes) -> list[bytes]:
        """The input as it may arrive: in one piece, in several, or byte by byte."""
        if not data or self._random.random() < 0.3:
            return [data]
        most = min(len(data), self._random.choice((1, 3, 40)))
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(most))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _place(self, data: bytes) -> tuple[int, int]:
        start = self._random.randrange(len(data) + 1)
        return start, min(len(data), start + self._random.choice((1, 1, 2, 4, 16)))

    def _replace(self, data: bytes) -> bytes:
        start, _ = self._place(data)
        return data[:start] + bytes((self._random.choice(_BYTES),)) + data[start + 1 :]

    def _insert(self, data: bytes) -> bytes:
        start, _ = self._place(data)
        return data[:start] + self._random.choice(self._words) + data[start:]

    def _delete(self, data: bytes) -> bytes:
        start, end = self._place(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._place(data)
        return data[:end] + data[start:end] * self._random.choice((1, 2, 70, 300)) + data[end:]

    def _splice(self, data: bytes) -> bytes:
        other = self._random.choice(self._examples)
        return data[: self._place(data)[0]] + other[self._place(other)[0] :]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._place(data)[0]]

    def _swap(self, data: bytes) -> bytes:
        start, end = self._place(data)
        return data[:start] + data[start:end].swapcase() + data[end:]
