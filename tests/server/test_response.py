"""Answers as they go out."""

import pytest

from gateway.server.response import Answer

DATE = "Date: Sun, 29 Nov 2026 10:00:00 GMT\r\n"
JSON = [("content-type", "application/json"), ("content-length", "999")]
LINES = "Gateway-Endpoint: primary\r\n"


def answer(headers: list[tuple[str, str]], status: str = "200 OK") -> Answer:
    made = Answer()
    made.start(status, headers)
    return made


def encoded(made: Answer, body: list[bytes], *, is_head: bool = False, keep_alive: bool = True) -> bytes:
    return made.encode(body, lines=LINES, date=DATE, keep_alive=keep_alive, is_head=is_head)


def test_the_head_has_the_lines_then_the_headers_and_the_length_that_the_body_has() -> None:
    head, _, body = encoded(answer(JSON), [b"{", b"}"]).partition(b"\r\n\r\n")
    assert head.decode().split("\r\n") == [
        "HTTP/1.1 200 OK",
        "Gateway-Endpoint: primary",
        "content-type: application/json",
        "Content-Length: 2",
        "Date: Sun, 29 Nov 2026 10:00:00 GMT",
    ]
    assert body == b"{}"


def test_the_last_answer_of_a_connection_says_so() -> None:
    assert encoded(answer(JSON), [b""], keep_alive=False).endswith(b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_that_has_no_body_has_the_applications_length_or_none(status: str) -> None:
    head = encoded(answer([], status), [b"x"])
    assert head.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in head
    assert b"content-length: 999\r\n" in encoded(answer(JSON), [], is_head=True)


@pytest.mark.parametrize("bad", ["a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0b"])
def test_a_header_that_would_break_the_head_is_refused(bad: str) -> None:
    for header in (("x-one", bad), (bad, "1")):
        with pytest.raises(ValueError, match="line break"):
            encoded(answer([header]), [b""])


def test_other_than_ascii_goes_out_as_latin_1() -> None:
    assert "x-name: größe\r\n".encode("latin-1") in encoded(answer([("x-name", "größe")]), [b""])


def test_a_stream_is_chunked_where_the_client_takes_that() -> None:
    made = answer([("content-type", "application/json"), ("content-length", "5")])
    head = made.stream_head(lines=LINES, date=DATE, keep_alive=True, chunked=True)
    assert b"Transfer-Encoding: chunked\r\n" in head
    assert b"ontent-length" not in head.lower()
    assert b"chunked" not in made.stream_head(lines=LINES, date=DATE, keep_alive=False, chunked=False)
