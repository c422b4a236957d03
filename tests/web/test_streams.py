"""How an answer that is sent while it comes ends, and how long what it holds stays held."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import falcon
import falcon.testing
import pytest

from gateway.errors import ConnectionLost, GatewayError
from gateway.execution.call import Answer, Call
from gateway.web import formats, streams
from gateway.web.messages import Response
from tests.pool.fake import FakeServer, Rig

CALL = Call(group="read", deadline=0.0)


def tell(error: GatewayError) -> bytes:
    return b'{"code":"%b"}' % error.code.encode()


def breaking() -> Iterator[bytes]:
    yield b"two\n"
    raise ConnectionLost("gone")


class Rows:
    """Answers with a lease that is held for as long as the answer is being sent."""

    def __init__(self, media: str = formats.NDJSON, rest: Iterator[bytes] | None = None) -> None:
        self.rig = Rig(FakeServer("a"), clock=monotonic)
        self.group = self.rig.group()
        self.media = media
        self.rest = iter([b"two\n", b"three\n"]) if rest is None else rest

    def on_get(self, _request: falcon.Request, response: Response) -> None:
        with ExitStack() as held:
            held.enter_context(self.group.lease(monotonic() + 5))
            answer = Answer(body=b"one\n", pieces=self.rest, media=self.media, held=held.pop_all())
            streams.write(response, CALL, answer, tell)

    @property
    def leased(self) -> int:
        return self.group.stats().leased


def sending(rows: Rows) -> Iterable[bytes]:
    app: Any = falcon.App(response_type=Response)
    app.add_route("/", rows)
    sent: Iterable[bytes] = app(falcon.testing.create_environ(), lambda *_: None)
    return sent


def test_a_lease_is_held_until_the_answer_has_been_sent() -> None:
    rows = Rows()
    body: Any = sending(rows)
    assert rows.leased == 1
    assert b"".join(body) == b"one\ntwo\nthree\n"
    assert rows.leased == 1
    body.close()
    assert rows.leased == 0
    body.close()
    assert rows.leased == 0


def test_a_client_that_leaves_in_the_middle_ends_the_lease_too() -> None:
    rows = Rows()
    body: Any = sending(rows)
    next(iter(body))
    body.close()
    assert rows.leased == 0


@pytest.mark.parametrize(
    ("media", "last"), [(formats.NDJSON, [b'{"error":{"code":"connection_lost"}}\n']), ("text/csv", [])]
)
def test_a_stream_that_breaks_off_raises_what_ends_a_connection_without_a_word(media: str, last: list[bytes]) -> None:
    body: Any = sending(Rows(media, breaking()))
    sent: list[bytes] = []
    with pytest.raises(BrokenPipeError) as caught:
        sent.extend(body)
    assert sent == [b"one\n", b"two\n", *last]
    assert caught.value.errno == errno.EPIPE
    body.close()
