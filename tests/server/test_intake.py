"""From arriving bytes to whole requests, with and without the shortcut for heads that were seen before."""

import pytest

from gateway.server.head import BadRequest
from gateway.server.intake import Heads, Intake

HEAD = b"POST /query/one HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"POST /query/one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMIT = 10


@pytest.fixture
def heads() -> Heads:
    heads = Heads({"SERVER_NAME": "here"})
    for head in (HEAD, CHUNKED):
        heads.read(head)
    return heads


@pytest.fixture
def intake(heads: Heads) -> Intake:
    return Intake(heads=heads, max_body=LIMIT, hold=lambda _: True)


def test_a_request_with_a_known_head_needs_no_buffer(intake: Intake) -> None:
    request = intake.whole(HEAD + b"{}")
    assert request is not None
    head, body = request
    assert (body, head.environ["PATH_INFO"], head.environ["SERVER_NAME"]) == (b"{}", "/query/one", "here")
    assert not intake.buffer


def test_the_shortcut_and_the_buffer_give_the_same_request(intake: Intake) -> None:
    intake.feed(HEAD + b"{}")
    assert intake.next() == intake.whole(HEAD + b"{}")


@pytest.mark.parametrize(
    "data",
    [
        HEAD[:-2],
        HEAD,
        HEAD + b"{",
        HEAD + b"{}G",
        HEAD + b"{}" + HEAD + b"{}",
        b"\r\n" + HEAD + b"{}",
        HEAD.replace(b"Host: x", b"Host: y") + b"{}",
        CHUNKED,
        CHUNKED + b"0\r\n\r\n",
        b"",
    ],
)
def test_whatever_is_not_just_one_request_goes_through_the_buffer(intake: Intake, data: bytes) -> None:
    assert intake.whole(data) is None


def test_a_known_head_with_too_long_a_body_is_refused_as_ever(heads: Heads) -> None:
    intake = Intake(heads=heads, max_body=1, hold=lambda _: True)
    assert intake.whole(HEAD + b"{}") is None
    intake.feed(HEAD + b"{}")
    with pytest.raises(BadRequest) as caught:
        intake.next()
    assert caught.value.status == 413


@pytest.mark.parametrize("before", [b"\r\n", HEAD[:9], HEAD + b"{", CHUNKED])
def test_nothing_overtakes_what_has_arrived_before(intake: Intake, before: bytes) -> None:
    intake.feed(before)
    intake.next()
    assert intake.whole(HEAD + b"{}") is None
