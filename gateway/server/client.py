"""One client's connection: HTTP/1.1 in order, holding nothing but a socket while there is no whole request.

The loop calls ``_on_readable``; a green thread exists only from a complete request to its answer. What cannot be
sent at once is sent by the loop (``sending``). Closing never blocks: after an error the rest is read and forgotten for
a moment, so that the answer arrives.
"""

import io
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import Any

from gateway.errors import ClientGone
from gateway.events import BugFound, ClientTooSlow
from gateway.server.head import BadRequest, Head
from gateway.server.intake import Heads, Intake, Stage
from gateway.server.response import Answer, close, refusal, report_of
from gateway.server.sending import LEAST_RATE, Sending
from gateway.server.service import READ, Phase, Service
from gateway.server.transport import Gone, Plain
from gateway.server.upload import Upload
from gateway.waiting import HALF_CLOSE_GRACE, hung_up_at

PIPELINED = 65536
"""Bytes kept behind a request in flight; what comes beyond stays with the kernel, and so with the client."""
LINGER = 2.0
LINGER_BYTES = 1 << 20


class Client:
    """One accepted connection. ``heads`` are its listener's, ``remote`` is what the environ says of the client."""

    __slots__ = (
        "_fd",
        "_forgotten",
        "_has_ended",
        "_intake",
        "_is_paused",
        "_is_scheduled",
        "_remote",
        "_request",
        "_sending",
        "_service",
        "_stage",
        "_transport",
        "_upload",
        "_watcher",
        "deadline",
        "gone_at",
        "is_last",
        "phase",
    )

    def __init__(self, fd: int, transport: Plain, *, service: Service, heads: Heads, remote: dict[str, str]) -> None:
        self._fd = fd
        self._transport = transport
        self._service = service
        self._remote = remote
        self._intake = Intake(heads=heads, max_body=service.max_body, hold=service.hold)
        self._stage = Stage.HEAD  # a new connection has as long for its first request as any for its head
        self._request: tuple[Head, bytes] | None = None
        self._sending = Sending(fd, transport, service, on_sent=self._on_sent, on_broken=self.close)
        self._forgotten = 0
        self._has_ended = False
        self._is_paused = False
        self._is_scheduled = False
        self._upload: Upload | None = None
        """The body of the request in flight, where that reads it while it arrives."""
        self.phase = Phase.READING
        self.deadline = monotonic() + service.head_timeout
        """When the sweep ends the present phase; of an answer on its way ``_sending`` knows."""
        self.gone_at: float | None = None
        """When a running read is given up: at once after a reset, with some grace after a plain end."""
        self.is_last = False
        """Close after the answer."""
        self._watcher = service.watch(fd, READ)
        self._watcher.start(self._on_readable)

    # -- the loop's side -----------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self._transport.receive()
        except Gone:
            self._on_gone()
            return
        if data is None:
            return
        if not data:
            self._on_end()
        elif self.phase is Phase.READING:
            self._request = self._intake.whole(data)
            if self._request is not None:
                self._begin()
                return
            if self._stage is Stage.BODY:
                self.deadline += len(data) / LEAST_RATE
            if self._intake.feed(data):
                self._advance()
            else:
                self._refuse(BadRequest(503, "the node holds as many bytes of unfinished requests as it may"))
        elif self.phase is Phase.LINGERING:
            self._forgotten += len(data)
            if self._forgotten > LINGER_BYTES:
                self.close()
        elif self._upload is not None and not self._upload.is_complete:
            self._upload.receive(data)
        elif not self._intake.feed(data) or len(self._intake.buffer) >= PIPELINED:
            self._pause()

    def _on_gone(self) -> None:
        """The client has reset the connection: nothing can be sent to it any more."""
        if self.phase in (Phase.BUSY, Phase.STREAMING):
            # The green thread closes when it comes back; a read that waits for a server is told by the sweep.
            self._watcher.stop()
            self._has_ended = self.is_last = True
            self.end()
        else:
            self.close()

    def _on_end(self) -> None:
        """The client sends no more. An ended socket stays readable for ever, so nobody looks at it again."""
        self._watcher.stop()
        self._has_ended = True
        if self.phase in (Phase.BUSY, Phase.STREAMING):
            self.gone_at = monotonic() + HALF_CLOSE_GRACE
            self._end_upload()
        elif self.phase is Phase.LINGERING or (self.phase is Phase.READING and not self._is_scheduled):
            self.close()

    def _on_sent(self) -> None:
        """The loop has sent the rest of an answer."""
        if self.phase is Phase.SENDING:
            self._after_answer()

    def end(self) -> None:
        """Give up the request in flight: what waits for its body, for a server, or for an answer to be taken."""
        self.gone_at = monotonic()
        self._end_upload(ClientGone)
        self._sending.give_up("the request was given up")

    def sweep(self, now: float) -> None:
        """Called by the worker again and again: end what takes too long."""
        if self.phase is Phase.BUSY:
            if self._upload is not None:
                self._upload.sweep(now)
            if self._is_paused and self.gone_at is None:
                self.gone_at = hung_up_at(self._fd)
        elif self.phase in (Phase.STREAMING, Phase.SENDING):
            if now >= self._sending.deadline:
                self._end_slow_reader()
        elif now < self.deadline:
            return
        elif self.phase is Phase.READING and self._intake.stage is not Stage.NOTHING:
            part = "head" if self._intake.stage is Stage.HEAD else "body"
            self._refuse(BadRequest(408, f"the request's {part} did not arrive in time"))
        else:
            self.close()

    def postpone(self, seconds: float) -> None:
        """Allow that much longer for what is under way: the process stood still."""
        self.deadline += seconds
        self._sending.postpone(seconds)
        if self._upload is not None:
            self._upload.postpone(seconds)

    def _end_slow_reader(self) -> None:
        if self.phase is Phase.STREAMING:
            self._sending.give_up("the client does not take its answer")
        else:
            self._service.observe(ClientTooSlow(unsent=self._transport.unsent))
            self.close()

    def close_if_idle(self) -> None:
        """Close unless a request is in flight, or has just arrived."""
        if self._is_idle:
            self._on_readable()
            if self._is_idle:
                self.close()

    def close(self) -> None:
        """Close at once."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        self._watcher.stop()
        self._watcher.close()
        self._sending.close()
        self._transport.close()
        self._intake.clear()
        self._service.closed(self)

    @property
    def _is_idle(self) -> bool:
        return self.phase is Phase.READING and self._intake.stage is Stage.NOTHING and not self._is_scheduled

    # -- requests ------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Go on with what has arrived, until a request is complete or more is needed."""
        self._is_scheduled = False
        if self.phase is not Phase.READING:
            return
        try:
            self._request = self._intake.next()
        except BadRequest as error:
            self._refuse(error)
            return
        if self._request is None:
            self._await_more()
            return
        self._begin()

    def _begin(self) -> None:
        self.phase = Phase.BUSY
        self.gone_at = monotonic() + HALF_CLOSE_GRACE if self._has_ended else None
        self._service.begin(self._serve)

    def _await_more(self) -> None:
        """Give each stage of a request its time, once."""
        if self._has_ended:
            self.close()
            return
        if self._is_paused:
            self._resume()
        stage = self._intake.stage
        if stage is self._stage:
            return
        self._stage = stage
        if stage is Stage.HEAD:
            self.deadline = monotonic() + self._service.head_timeout
        elif stage is Stage.BODY:
            self.deadline = monotonic() + self._service.body_timeout
            if self._intake.wants_continue:
                self._say_continue()

    def _say_continue(self) -> None:
        try:
            if not self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n"):
                self._sending.start()
        except Gone:
            self.close()

    def _serve(self) -> None:
        """Run the application; in a green thread."""
        if self._request is None:
            raise AssertionError("no request to serve")
        (head, body), self._request = self._request, None
        service = self._service
        answer = Answer()
        environ: dict[str, Any] = {}
        try:
            environ = self._environ(head, body)
            result = service.wsgi(environ, answer.start)
            if self._upload is not None:
                self._upload.close()
                self.is_last = self.is_last or not self._upload.is_complete
                self._upload = None
            if not head.keep_alive or service.is_draining or (self._has_ended and not self._intake.buffer):
                self.is_last = True
            if isinstance(result, list):
                is_head = head.environ["REQUEST_METHOD"] == "HEAD"
                data = answer.encode(
                    result,
                    lines=environ["gateway.head"],
                    date=service.date(),
                    keep_alive=not self.is_last,
                    is_head=is_head,
                )
            else:
                data = self._stream(answer, result, head, environ["gateway.head"])
        except (Gone, BrokenPipeError):  # the application raises the latter where a stream of its own broke off
            if not head.http_1_1:
                self._transport.reset_on_close()  # nothing else tells that end from a good one
            self.close()
            data = b""
        except BaseException as error:  # noqa: BLE001 - SystemExit too: whatever it is, this client shall not wait for ever
            service.observe(BugFound(where="the answer to a request", error=error))
            self.is_last = True
            if self.phase is Phase.STREAMING:
                self.close()  # without its end: what has been sent must not look whole
            data = refusal(500, "see the log", date=service.date())
        service.answered()
        if self.phase is Phase.CLOSED:
            return
        self._answer(data, environ.get("gateway.deadline", inf))

    def _environ(self, head: Head, body: bytes) -> dict[str, Any]:
        environ = {**head.environ, **self._remote, "gateway.client": self, "gateway.head": ""}
        if (certificate := self._transport.certificate) is not None:
            environ["gateway.certificate"] = certificate
        if head.is_upload:
            pause, resume = self._pause, self._go_on
            environ["wsgi.input"] = self._upload = Upload(head, self._intake, self._service, pause=pause, resume=resume)
        else:
            environ["wsgi.input"] = io.BytesIO(body)
            environ["gateway.body"] = body
        if head.is_forwarded:
            self._service.proxies.unwrap(environ)
        if head.chunked and not head.is_upload:
            environ["CONTENT_LENGTH"] = str(len(body))
        return environ

    def _go_on(self) -> None:
        """The application waits for more of the body."""
        if self._has_ended:
            self._end_upload()
            return
        if self._intake.wants_continue:
            self._intake.wants_continue = False
            self._say_continue()
        if self._is_paused:
            self._resume()

    def _end_upload(self, error: type[Exception] = ConnectionResetError) -> None:
        if self._upload is not None:
            self._upload.fail(error("the client left before the end of the body"))

    def _after_answer(self) -> None:
        if self.phase is Phase.CLOSED:
            return
        if self.is_last or (self._has_ended and not self._intake.buffer):
            self._linger()
            return
        if self._intake.held:
            self._intake.release()
        self.phase = Phase.READING
        self._stage = Stage.NOTHING
        self.deadline = monotonic() + self._service.idle_timeout
        if not self._intake.buffer:
            if self._is_paused:
                self._resume()
        elif not self._is_scheduled:
            # Not from here: a green thread never switches straight into another's.
            self._is_scheduled = True
            self._service.soon(self._advance)

    # -- answers -------------------------------------------------------------------------------------------------

    def _stream(self, answer: Answer, pieces: Iterable[bytes], head: Head, lines: str) -> bytes:
        """Send an answer as the application makes it, as fast as the client takes it; gives what ends it.

        Raises Gone, and what the application raises.
        """
        self.phase = Phase.STREAMING
        self.is_last = self.is_last or not head.http_1_1
        out = answer.stream_head(
            lines=lines, date=self._service.date(), keep_alive=not self.is_last, chunked=head.http_1_1
        )
        if head.environ["REQUEST_METHOD"] == "HEAD":
            close(pieces)
            return out
        return self._sending.put_all(out, pieces, chunked=head.http_1_1)

    def _refuse(self, error: BadRequest) -> None:
        """Answer with a problem, and close."""
        self._intake.clear()
        self.is_last = True
        self._service.observe(report_of(error.status, error.detail))
        self._answer(refusal(error.status, error.detail, date=self._service.date()), inf, LINGER)

    def _answer(self, data: bytes, deadline: float, seconds: float | None = None) -> None:
        """Send a whole answer, or the end of one, and go on; what does not fit is sent by the loop (``limit``)."""
        try:
            if self._transport.write(data):
                self._after_answer()
                return
        except Gone:
            self.close()
            return
        self.phase = Phase.SENDING
        self._sending.start()
        self._sending.limit(deadline, seconds)
        self._service.sending(self)

    def _linger(self) -> None:
        """Let the answer arrive: a close with unread bytes would reset the connection under it."""
        if self.phase is Phase.CLOSED:
            return
        self._transport.end()
        if self._has_ended:
            self.close()
            return
        self.phase = Phase.LINGERING
        self._intake.clear()
        self._forgotten = 0
        self.deadline = monotonic() + LINGER
        if self._is_paused:
            self._resume()

    def _pause(self) -> None:
        """Leave what comes with the kernel, and so with the client."""
        self._is_paused = True
        self._watcher.stop()

    def _resume(self) -> None:
        """Read on, after there was too much behind a request."""
        self._is_paused = False
        self._watcher.start(self._on_readable)
