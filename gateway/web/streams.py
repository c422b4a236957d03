"""From an answer whose rows are still coming to a response that is written while they do, and ends with them or breaks.

A stream that breaks off has no final chunk, so that no client takes it for whole; NDJSON has one line more before.
"""

import errno
from collections.abc import Callable, Iterator
from typing import Any

from gateway.errors import ClientGone, GatewayError
from gateway.execution.call import Answer, Call
from gateway.web import answers
from gateway.web.formats import NDJSON
from gateway.web.messages import Response

Tell = Callable[[GatewayError], bytes]
"""Reports an error, and returns it as a problem's JSON."""


class StreamBroken(BrokenPipeError):
    """What has been sent is not all of it: the connection is to be closed without its end.

    WSGI servers do so without a word when they meet this error; for all others there is a traceback in the log.
    """

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the answer broke off")


def write(response: Response, call: Call, answer: Answer, tell: Tell) -> None:
    """Write an answer of which more comes, and which is closed once it has been sent."""
    answers.write(response, call, answer)
    response.data = None
    response.stream = Sent(answer, tell)


class Sent:
    """A body that is closed by the server that sends it, when it has been sent or cannot be (PEP 3333)."""

    def __init__(self, answer: Answer, tell: Tell) -> None:
        self._answer = answer
        self._tell = tell
        self._is_under_way = False

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        self._is_under_way = True
        yield answer.body
        try:
            yield from answer.pieces
        except GatewayError as error:
            self._is_under_way = False
            line = b'{"error":%b}\n' % self._tell(error)
            if answer.media == NDJSON:
                yield line
            raise StreamBroken from error
        self._is_under_way = False

    def close(self) -> None:
        """Let go of the connection that the rows come over."""
        if self._is_under_way:
            self._is_under_way = False
            self._tell(ClientGone("the client did not take all of its answer"))
        self._answer.close()


class Followed:
    """A body whose end is noted, be it sent or not."""

    def __init__(self, body: Any, then: Callable[[], None]) -> None:
        self._body = body
        self._then = then

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """Close it."""
        try:
            self._body.close()
        finally:
            self._then()
