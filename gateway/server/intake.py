"""From arriving bytes to whole requests: one after the other, within limits."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import msgspec

from gateway.server.chunks import ChunkedBody
from gateway.server.head import MAX_HEAD, MAX_LINE, BadRequest, Head, parse_head, parse_line

HEADS_KEPT = 512
LONGEST_KEPT = 2048
"""Bytes of a head that is worth remembering; with the number above it bounds what a hostile client can fill."""
SMALL = 16384
"""Bytes of a client's that are kept however much the node holds for others."""

_EMPTY_LINE = (b"", b"\r", b"\r\n")


class Stage(Enum):
    """How far the next request has come."""

    NOTHING = "nothing has arrived"
    HEAD = "in its head"
    BODY = "in its body"


class Heads:
    """Heads by their bytes, of one listener: clients repeat themselves.

    PERF: a look here costs a tenth of reading a head. What is in a head does not depend on whose it is.
    """

    def __init__(self, base: dict[str, Any]) -> None:
        """``base``: what the environ of every request over this listener begins with."""
        self._base = base
        self._known: dict[bytes, Head] = {}
        self.known: Final = self._known.get
        """Gives the head that these bytes are, if they were read before and have not been forgotten; else None."""

    def read(self, raw: bytes) -> Head:
        """The head that these bytes are; raises BadRequest."""
        head = self._known.get(raw)
        if head is None:
            head = parse_head(raw)
            head = msgspec.structs.replace(head, environ=self._base | head.environ)
            if len(raw) > LONGEST_KEPT:
                return head
            if len(self._known) >= HEADS_KEPT:
                self._known.clear()
            self._known[raw] = head
        return head


class Intake:
    """The requests of one connection."""

    __slots__ = (
        "_chunks",
        "_head",
        "_heads",
        "_hold",
        "_judged",
        "_max_body",
        "buffer",
        "held",
        "stage",
        "wants_continue",
    )

    def __init__(self, *, heads: Heads, max_body: int, hold: Callable[[int], bool]) -> None:
        """``max_body``: bytes of a body that are read.

        ``hold`` counts so many bytes more, or fewer, with the node's requests in progress; False: there are too many.
        """
        self._heads = heads
        self._hold = hold
        self.held = 0
        """Bytes counted there. PERF: 0 for a request that arrived in one piece."""
        self._max_body = max_body
        self.buffer = bytearray()
        """What has arrived and is not part of a complete request yet; to be changed here only."""
        self._judged = 0
        """Bytes of an unfinished head that are known to be none but a head's."""
        self._head: Head | None = None
        self._chunks: ChunkedBody | None = None
        self.stage = Stage.NOTHING
        self.wants_continue = False
        """The client waits for ``100 Continue`` before it sends the body."""

    def feed(self, data: bytes) -> bool:
        """Take what has arrived; False if the node holds too much, and this client's share in it is not small."""
        self.buffer += data
        self.held += len(data)
        return self._hold(len(data)) or self.held <= SMALL

    def whole(self, data: bytes) -> tuple[Head, bytes] | None:
        """The request that ``data`` is, if it is just that: a head known already, its body, nothing before or after.

        PERF: so is nearly every request, and it need not go through the buffer. Anything else is for ``feed``.
        """
        if self.buffer or self._head is not None:
            return None
        end = data.find(b"\r\n\r\n") + 4
        head = self._heads.known(data[:end])
        if (
            head is None
            or head.chunked
            or head.is_upload
            or head.length != len(data) - end
            or head.length > self._max_body
        ):
            return None
        return head, data[end:]

    def clear(self) -> None:
        """Forget what has arrived."""
        self.buffer.clear()
        self._judged = 0
        self.release()

    def release(self) -> None:
        """Count no more bytes than those that belong to no request yet."""
        if self.held != len(self.buffer):
            self._hold(len(self.buffer) - self.held)
            self.held = len(self.buffer)

    def next(self) -> tuple[Head, bytes] | None:
        """The next request, if it has arrived as a whole, or its head of an upload. Raises BadRequest."""
        head = self._head
        if head is None:
            head = self._head = self._take_head()
            if head is None:
                return None
        if head.is_upload:
            self.wants_continue = head.expects_continue and not self.buffer
        body = b"" if head.is_upload else self._take_body(head)
        if body is None:
            return None
        self._head = None
        self.stage = Stage.NOTHING
        return head, body

    def _take_head(self) -> Head | None:
        buffer = self.buffer
        start = 2 if buffer.startswith(b"\r\n") else 0  # RFC 9112 §2.2: an empty line before a request is ignored
        end = buffer.find(b"\r\n\r\n", max(start, self._judged - 3), MAX_HEAD)
        if end >= 0:
            raw = bytes(buffer[start : end + 4])
            del buffer[: end + 4]
            self._judged = 0
            return self._heads.read(raw)
        if buffer not in _EMPTY_LINE:
            self.stage = Stage.HEAD
            self._judge_beginning(start)
        return None

    def _judge_beginning(self, start: int) -> None:
        """Refuse what cannot become a head any more, instead of waiting for the rest of it.

        Looks at what is new since it was last called only: a hostile client sends byte by byte.
        """
        buffer, judged = self.buffer, self._judged
        if len(buffer) >= MAX_HEAD:
            raise BadRequest(431, f"the head has more than {MAX_HEAD} bytes")
        new = buffer[judged:]
        is_split = judged > 0 and buffer[judged - 1 : judged + 1] == b"\r\n"
        if new.count(b"\n") != new.count(b"\r\n") + is_split:
            raise BadRequest(400, "a line ends in something other than CRLF")
        if judged <= MAX_LINE + 2:
            end = buffer.find(b"\r\n", start, start + MAX_LINE + 2)
            if end >= 0:
                parse_line(bytes(buffer[start:end]))
            elif len(buffer) > start + MAX_LINE + 1:
                raise BadRequest(414, "the request line is too long")
            elif len(buffer) > start and not buffer[start : start + 1].isalpha():
                raise BadRequest(400, "this is not HTTP")
        self._judged = len(buffer)

    def _take_body(self, head: Head) -> bytes | None:
        if head.chunked:
            return self._take_chunks(head)
        if not head.length:
            return b""
        if head.length > self._max_body:
            raise BadRequest(413, f"{head.length} bytes, at most {self._max_body} are read")
        if len(self.buffer) < head.length:
            self._begin_body(head)
            return None
        body = bytes(self.buffer[: head.length])
        del self.buffer[: head.length]
        return body

    def _take_chunks(self, head: Head) -> bytes | None:
        if self._chunks is None:
            self._chunks = ChunkedBody(self._max_body)
        body = self._chunks.feed(self.buffer)
        if body is None:
            self._begin_body(head)
        else:
            self._chunks = None
        return body

    def _begin_body(self, head: Head) -> None:
        if self.stage is not Stage.BODY:
            self.stage = Stage.BODY
            self.wants_continue = head.expects_continue and not self.buffer
