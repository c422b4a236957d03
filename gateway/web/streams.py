"""From an answer whose rows are still coming to a response that is written while they do, and ends with them or breaks.

A stream that breaks off has no final chunk, so that no client takes it for whole; NDJSON has one line more before.
"""

import errno
from collections.abc import Callable, Iterator

from gateway.errors import GatewayError
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

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        yield answer.body
        try:
            yield from answer.pieces
        except GatewayError as error:
            line = b'{"error":%b}\n' % self._tell(error)
            if answer.media == NDJSON:
                yield line
            raise StreamBroken from error

    def close(self) -> None:
        """Let go of the connection that the rows come over."""
        self._answer.close()
