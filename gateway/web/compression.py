"""Answers are compressed for whoever takes that (RFC 9110 section 12.5.3), a part at a time: others get their turn.

zstd comes from Python itself since 3.14, before that from ``backports.zstd``; gzip comes from ``isal``, which is much
faster than zlib. Both packages are in the extra ``compress``. Where there is neither nothing is compressed.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, cast

import falcon

from gateway.catalogue.values import Pause
from gateway.web import accepting

LONG = 8192
"""Bytes of an answer below which compressing it is not worth its time."""
PART = 262_144
"""Bytes that are compressed at a time: about a millisecond."""
_LEVEL = 1
_GZIP = 31
"""What asks zlib for gzip's header, with the longest window."""


class Compressor(Protocol):
    """What compresses one answer."""

    def compress(self, data: bytes) -> bytes:
        """Return all that is needed to read ``data``."""

    def end(self) -> bytes:
        """Return what ends the answer."""


class Compression:
    """Compresses answers; ``pause`` is called between parts."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._codings = codings()

    def apply(self, request: falcon.Request, response: falcon.Response) -> None:
        """Compress a long answer, or one that is still coming, if its caller takes that."""
        if not self._codings:
            return
        response.append_header("Vary", "Accept-Encoding")
        coding = accepting.coding(request.env.get("HTTP_ACCEPT_ENCODING"), self._codings)
        if coding is None or request.method == "HEAD":
            return
        compressor = self._codings[coding]()
        response.set_header("Content-Encoding", coding)
        tag = response.get_header("ETag")
        if tag is not None and not tag.startswith("W/"):
            response.set_header("ETag", f"W/{tag}")
        if response.stream is not None:
            response.stream = _Compressed(cast("Iterable[bytes]", response.stream), compressor)
        elif response.data is not None:
            response.data = b"".join(self._parts(response.data, compressor))

    def _parts(self, data: bytes, compressor: Compressor) -> Iterator[bytes]:
        for begin in range(0, len(data), PART):
            yield compressor.compress(data[begin : begin + PART])
            self._pause()
        yield compressor.end()


def codings() -> dict[str, Callable[[], Compressor]]:
    """What makes compressors, by the coding's name, for the codings whose packages are installed."""
    found: dict[str, Callable[[], Compressor]] = {}
    try:
        _Zstd()
        found["zstd"] = _Zstd
    except ImportError:
        pass
    try:
        _Gzip()
        found["gzip"] = _Gzip
    except ImportError:
        pass
    return found


class _Zstd:
    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression.zstd import ZstdCompressor
        else:
            from backports.zstd import ZstdCompressor

        self._compressor = ZstdCompressor(level=_LEVEL)

    def compress(self, data: bytes) -> bytes:
        return self._compressor.compress(data, mode=self._compressor.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._compressor.flush()


class _Gzip:
    def __init__(self) -> None:
        from isal import isal_zlib

        self._zlib = isal_zlib
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)

    def compress(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(self._zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._compressor.flush()


class _Compressed:
    """A stream, compressed piece by piece: each can be read when it arrives."""

    def __init__(self, pieces: Iterable[bytes], compressor: Compressor) -> None:
        self._pieces = pieces
        self._compressor = compressor

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if piece:
                yield self._compressor.compress(piece)
        yield self._compressor.end()

    def close(self) -> None:
        """Close the stream."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
