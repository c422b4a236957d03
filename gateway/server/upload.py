"""A body that the application reads while it arrives: what it has not read yet is bounded, the rest waits on the wire.

The loop puts in what arrives; a green thread takes it out, and waits where there is nothing. While there is enough, the
loop does not read from the socket, so that the client is slowed down to the speed at which its records are worked on.
"""

from collections.abc import Callable
from time import monotonic

from greenlet import getcurrent, greenlet

from gateway.server.chunks import ChunkedBody
from gateway.server.head import BadRequest, Head
from gateway.server.intake import Intake
from gateway.server.sending import LEAST_RATE
from gateway.server.service import Service

ENOUGH = 262_144
"""Bytes that may wait for the application."""
MOST = 1 << 62
"""Bytes of a body: the application has a limit of its own."""


class Upload:
    """One body. Its ``read`` is that of ``wsgi.input``; everything else is for the loop."""

    __slots__ = (
        "_chunks",
        "_deadline",
        "_failure",
        "_intake",
        "_left",
        "_pause",
        "_resume",
        "_service",
        "_thread",
        "_waiting",
        "is_complete",
    )

    def __init__(
        self, head: Head, intake: Intake, service: Service, *, pause: Callable[[], None], resume: Callable[[], None]
    ) -> None:
        """``intake`` has what has arrived; ``pause`` and ``resume``, called as often as one likes, rule what will.

        ``resume`` also lets a client go on that waits for ``100 Continue``.
        """
        self._chunks = ChunkedBody(MOST) if head.chunked else None
        self._left = 0 if head.chunked else head.length
        """Bytes that are still to come, of a body whose length was announced."""
        self._intake = intake
        self._service = service
        self._pause = pause
        self._resume = resume
        self._waiting = bytearray()
        """What the application has not read."""
        self._thread: greenlet | None = None
        """Who waits in ``read``."""
        self._deadline = 0.0
        """When a client that is waited for has sent too little for too long."""
        self._failure: Exception | None = None
        self.is_complete = False
        """All of it has arrived."""
        self.receive(b"")
        if not self.is_complete:
            pause()

    def receive(self, data: bytes) -> None:
        """Take what has arrived."""
        buffer = self._intake.buffer
        self._intake.feed(data)
        self._deadline += len(data) / LEAST_RATE
        before = len(self._waiting)
        try:
            self._take(buffer)
        except BadRequest as error:
            self.fail(ConnectionError(error.detail))
        self._intake.release()
        is_too_much = not self._service.hold(len(self._waiting) - before)
        if not self.is_complete and (is_too_much or len(self._waiting) >= ENOUGH):
            self._pause()
        if self._waiting or self.is_complete:
            self._wake()

    def fail(self, error: Exception) -> None:
        """There will be no more: the application's next read raises this, once it has read what there is."""
        if not self.is_complete and self._failure is None:
            self._failure = error
            self._wake()

    def sweep(self, now: float) -> None:
        """Called again and again: give up a client that sends too little."""
        if self._thread is not None and now >= self._deadline:
            self.fail(TimeoutError("the body did not arrive in time"))

    def postpone(self, seconds: float) -> None:
        """Allow that much longer: the process stood still."""
        self._deadline += seconds

    def close(self) -> None:
        """The application has answered. What is still to come of the body would be read as the next request."""
        self._intake.wants_continue = False
        self._service.hold(-len(self._waiting))
        self._waiting.clear()
        if not self.is_complete:
            self._intake.clear()

    def read(self, size: int = -1) -> bytes:
        """Return what there is, at most ``size`` bytes, and nothing only at the end; in a green thread, which waits.

        Raises TimeoutError or ConnectionError.
        """
        while not self._waiting and not self.is_complete:
            if self._failure is not None:
                raise self._failure
            self._deadline = monotonic() + self._service.body_timeout
            self._thread = getcurrent()
            self._resume()
            self._service.sleep()
        piece = bytes(self._waiting[: size if size >= 0 else None])
        del self._waiting[: len(piece)]
        self._service.hold(-len(piece))
        return piece

    def _take(self, buffer: bytearray) -> None:
        """Take what belongs to the body out of ``buffer``; raises BadRequest."""
        if self._chunks is not None:
            self.is_complete = self._chunks.feed(buffer) is not None
            self._waiting += self._chunks.take()
            return
        piece = buffer[: self._left]
        del buffer[: len(piece)]
        self._left -= len(piece)
        self._waiting += piece
        self.is_complete = self._left == 0

    def _wake(self) -> None:
        """Let who waits go on, in the loop's next turn: never from one green thread straight into another."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._service.soon(thread.switch)
