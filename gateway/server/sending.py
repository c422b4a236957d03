"""Sends answers to one client: whole ones at once, streams as fast as the client takes them."""

from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from greenlet import getcurrent, greenlet

from gateway.server.response import LAST_CHUNK, chunk_frame, close
from gateway.server.service import Service
from gateway.server.transport import Gone, Plain

LATE = 0.1
"""Seconds behind its deadline at which what a client has not taken of an answer is given up."""
LEAST_RATE = 65536
"""Bytes a second that a client must send of a body, or take of an answer, after ``body_timeout``."""
WRITE = 2


class Sending:
    """What goes out over a connection. What does not fit into the socket is sent by the loop.

    ``on_sent`` is called when the rest of an answer is out, ``on_broken`` when it never will be; neither is while a
    green thread waits in ``put``, which returns or raises instead.
    """

    __slots__ = (
        "_fd",
        "_is_closed",
        "_on_broken",
        "_on_sent",
        "_service",
        "_transport",
        "_until",
        "_waiting",
        "_watcher",
        "deadline",
    )

    def __init__(
        self,
        fd: int,
        transport: Plain,
        service: Service,
        *,
        on_sent: Callable[[], None],
        on_broken: Callable[[], None],
    ) -> None:
        self._fd = fd
        self._transport = transport
        self._service = service
        self._on_sent = on_sent
        self._on_broken = on_broken
        self._watcher: Any = None
        self._waiting: greenlet | None = None
        self._is_closed = False
        self._until = inf
        self.deadline = inf
        """When the client has taken too little for too long."""

    def start(self) -> None:
        """Have the loop send what the transport could not."""
        if self._watcher is None:
            self._watcher = self._service.watch(self._fd, WRITE)
        self._watcher.start(self._on_writable)

    def put(self, piece: bytes, *, front: bytes, end: bytes) -> None:
        """Send a piece of a stream, between what frames it. Raises Gone.

        To be called in a green thread, which waits until the client has taken the piece.
        """
        if self._transport.write_framed(front, piece, end):
            return
        self.limit(inf)
        self.start()
        self._waiting = getcurrent()
        try:
            self._service.sleep()
        finally:
            self._waiting = None

    def put_all(self, head: bytes, pieces: Iterable[bytes], *, chunked: bool) -> bytes:
        """Send a stream as it comes, behind its head, and close it; what is left to send is its end.

        Raises Gone, and what the application raises.
        """
        try:
            for piece in pieces:
                if self._is_closed:
                    raise Gone("the connection is closed")
                if piece:
                    front, end = chunk_frame(len(piece)) if chunked else (b"", b"")
                    self.put(piece, front=head + front, end=end)
                    head = b""
        finally:
            close(pieces)
        return head + LAST_CHUNK if chunked else head

    def limit(self, deadline: float, seconds: float | None = None) -> None:
        """Give what is not out yet until shortly after ``deadline``, and no longer than ``seconds`` without progress.

        Seconds default to ``body_timeout``.
        """
        now = monotonic()
        self._until = max(deadline, now) + LATE
        self.deadline = min(now + (self._service.body_timeout if seconds is None else seconds), self._until)

    def postpone(self, seconds: float) -> None:
        """Allow that much longer: the process stood still."""
        self._until += seconds
        self.deadline += seconds

    def give_up(self, reason: str) -> None:
        """Raise Gone in the green thread that waits in ``put``, if one does in the loop's next turn."""
        self._service.soon(partial(self._end_wait, Gone(reason)))

    def _end_wait(self, error: Gone) -> None:
        if self._waiting is not None:
            self._waiting.throw(error)

    def close(self) -> None:
        """Send no more, and let go of the connection that this belongs to."""
        self._on_sent = self._on_broken = _nothing
        self._is_closed = True
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()

    def _on_writable(self) -> None:
        before = self._transport.unsent
        try:
            is_out = self._transport.flush()
        except Gone as error:
            self._watcher.stop()
            if self._waiting is not None:
                self._waiting.throw(error)
            else:
                self._on_broken()
            return
        self.deadline = min(self.deadline + (before - self._transport.unsent) / LEAST_RATE, self._until)
        if not is_out:
            return
        self._watcher.stop()
        if self._waiting is not None:
            self._waiting.switch()
        else:
            self._on_sent()


def _nothing() -> None:
    pass
