"""Bodies: what is read, how much of it, and what is refused unread."""

import io
from collections.abc import Mapping

import falcon
import falcon.testing
import pytest

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest, RequestTimeout, UnsupportedMediaType
from gateway.web.asking import query_string
from gateway.web.bodies import read_json

LIMIT = 100


class Stream(io.BytesIO):
    """A body that counts what was taken of it."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(size)
        self.taken += len(piece)
        return piece


def read(stream: Stream, headers: Mapping[str, str], limit: int = LIMIT) -> bytes:
    env = falcon.testing.create_environ(method="POST", headers=headers)
    env["wsgi.input"] = stream
    return read_json(falcon.Request(env), limit)


def announced(content: bytes, **headers: str) -> bytes:
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    return read(Stream(content), {"Content-Length": str(len(content)), **told})


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "application/json;charset=utf-8",
        "Application/JSON ; Charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/vnd.example+json",
        "application/json;",
        "application/json; profile=https://example.com/p",
        'application/json; profile="a;b, charset=latin-1"; CharSet=utf-8; odata.metadata=minimal',
        "application/problem+json; v=2",
        "",
    ],
)
def test_json_is_read_under_any_of_its_names(media: str) -> None:
    assert announced(b'{"a": 1}', Content_Type=media) == b'{"a": 1}'


def test_a_body_that_says_nothing_of_its_type_is_json() -> None:
    assert announced(b"{}") == b"{}"


@pytest.mark.parametrize(
    "media",
    [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json; charset=latin-1",
        "application/json; profile=x; charset=utf-16",
        "application/json; charset=",
        "application/json, text/plain",
        "json",
        ";",
        f'application/json; profile="{";" * 1024}"',
    ],
)
def test_another_type_is_refused_unread(media: str) -> None:
    stream = Stream(b"{}")
    with pytest.raises(UnsupportedMediaType):
        read(stream, {"Content-Length": "2", "Content-Type": media})
    assert stream.taken == 0


@pytest.mark.parametrize("page", [{"Origin": "http://127.0.0.1"}, {"Sec-Fetch-Site": "same-origin"}], ids=str)
@pytest.mark.parametrize("framing", [{"Content-Length": "2"}, {"Transfer-Encoding": "chunked"}], ids=str)
def test_a_browsers_body_needs_a_type(page: dict[str, str], framing: dict[str, str]) -> None:
    stream = Stream(b"{}")
    with pytest.raises(UnsupportedMediaType):
        read(stream, {**page, **framing})
    assert stream.taken == 0
    assert read(stream, {**page, **framing, "Content-Type": "application/json"}) == b"{}"


def test_no_body_from_a_browser_needs_no_type() -> None:
    assert announced(b"", Origin="http://127.0.0.1") == b""
    assert read(Stream(b""), {"Sec-Fetch-Site": "same-origin"}) == b""


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, identity", ""])
def test_a_compressed_body_is_refused_unread(coding: str) -> None:
    stream = Stream(b"{}")
    with pytest.raises(UnsupportedMediaType):
        read(stream, {"Content-Length": "2", "Content-Encoding": coding})
    assert stream.taken == 0


def test_identity_is_no_compression() -> None:
    assert announced(b"{}", Content_Encoding="Identity") == b"{}"


def test_an_announced_body_may_be_as_long_as_the_limit() -> None:
    assert announced(b"x" * LIMIT) == b"x" * LIMIT


def test_an_announced_body_over_the_limit_is_refused_unread() -> None:
    stream = Stream(b"x" * (LIMIT + 1))
    with pytest.raises(BodyTooLarge):
        read(stream, {"Content-Length": str(LIMIT + 1)})
    assert stream.taken == 0


@pytest.mark.parametrize("length", ["-1", "one", "1.5", "0x10"])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    with pytest.raises((InvalidRequest, falcon.HTTPInvalidHeader)):
        read(Stream(b""), {"Content-Length": length})


def test_a_body_shorter_than_announced_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="announced"):
        read(Stream(b"{"), {"Content-Length": "2"})


def test_nothing_more_than_announced_is_taken() -> None:
    stream = Stream(b"{}POST /query/next")
    assert read(stream, {"Content-Length": "2"}) == b"{}"
    assert stream.taken == 2


def test_without_a_length_and_without_chunks_there_is_no_body() -> None:
    stream = Stream(b"POST /query/next")
    assert read(stream, {}) == b""
    assert stream.taken == 0


def test_a_chunked_body_is_read_to_its_end() -> None:
    content = b"x" * 200_000
    assert read(Stream(content), {"Transfer-Encoding": "chunked"}, limit=200_000) == content


def test_a_chunked_body_over_the_limit_is_read_no_further() -> None:
    stream = Stream(b"x" * 10 * LIMIT)
    with pytest.raises(BodyTooLarge):
        read(stream, {"Transfer-Encoding": "chunked"})
    assert stream.taken == LIMIT + 1


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "9"}, {"Transfer-Encoding": "chunked"}], ids=["announced", "chunked"]
)
@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (BlockingIOError(), RequestTimeout),
        (TimeoutError(), RequestTimeout),
        (ConnectionResetError(), InvalidRequest),
        (ValueError("bad chunk"), InvalidRequest),
    ],
    ids=repr,
)
def test_a_body_that_stops_is_the_clients_fault(
    headers: dict[str, str], failure: Exception, kind: type[GatewayError]
) -> None:
    class Stopping(Stream):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise failure

    with pytest.raises(kind):
        read(Stopping(b""), headers)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("a=1&b=2", {"a": ["1"], "b": ["2"]}),
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("a=", {"a": [""]}),
        ("a=x+y%20z", {"a": ["x y z"]}),
        ("a=%C3%A9", {"a": ["é"]}),
        ("a=é".encode().decode("latin-1"), {"a": ["é"]}),
        ("a%20b=%7B1%2C2%7D", {"a b": ["{1,2}"]}),
        ("a=1;b=2", {"a": ["1;b=2"]}),
        ("a==", {"a": ["="]}),
    ],
)
def test_a_query_string_is_read(text: str, wanted: dict[str, list[str]]) -> None:
    assert query_string(text) == wanted


@pytest.mark.parametrize("text", ["a", "a=1&b", "a=%FF", "a=\xff", "a=%ED%A0%80", "&".join(["a=1"] * 1001)])
def test_a_query_string_that_cannot_be_read_exactly_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        query_string(text)


def test_a_server_that_has_read_the_body_hands_it_on_within_the_same_limit() -> None:
    env = falcon.testing.create_environ(method="POST", headers={"Content-Type": "application/json"})
    env["wsgi.input"] = Stream(b"something else")
    env["gateway.body"] = b"{}"
    request = falcon.Request(env)
    assert read_json(request, 2) == b"{}"
    with pytest.raises(BodyTooLarge):
        read_json(request, 1)


def test_no_header_can_pass_for_a_body_that_the_server_has_read() -> None:
    assert announced(b"{}", Gateway_Body="[]") == b"{}"
