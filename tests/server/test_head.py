"""What a head becomes: environ, framing, and the refusals with their status."""

import pytest

from gateway.server.head import MAX_FIELDS, BadRequest, Head, parse_head


def head(line: str = "GET / HTTP/1.1", *fields: str, host: str = "Host: here") -> Head:
    return parse_head("\r\n".join([line, *([host] if host else []), *fields, "", ""]).encode("latin-1"))


def refused(line: str = "GET / HTTP/1.1", *fields: str, host: str = "Host: here") -> int:
    with pytest.raises(BadRequest) as caught:
        head(line, *fields, host=host)
    return caught.value.status


def test_a_head_becomes_an_environ() -> None:
    found = head(
        "POST /a%20b/%C3%A4?x=%20 HTTP/1.1", "Content-Type: text/x", "Content-Length: 7", "X-One: 1", "x-one: 2"
    )
    environ = found.environ
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("POST", "/a b/Ã¤", "x=%20")
    assert (environ["CONTENT_TYPE"], environ["CONTENT_LENGTH"], environ["HTTP_HOST"]) == ("text/x", "7", "here")
    assert environ["HTTP_X_ONE"] == "1,2"
    assert (found.length, found.chunked, found.keep_alive, found.http_1_1) == (7, False, True, True)


def test_cookies_are_joined_as_cookies_are() -> None:
    assert head("GET / HTTP/1.1", "Cookie: a=1", "Cookie: b=2").environ["HTTP_COOKIE"] == "a=1; b=2"


def test_the_host_of_an_absolute_target_beats_the_header() -> None:
    environ = head("GET http://There:81/a?b HTTP/1.1").environ
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("There:81", "/a", "b")


def test_an_absolute_target_without_a_path_is_the_root() -> None:
    assert head("GET http://there HTTP/1.1").environ["PATH_INFO"] == "/"


def test_the_application_is_not_told_of_a_transfer_coding() -> None:
    found = head("POST / HTTP/1.1", "Transfer-Encoding: Chunked")
    assert found.chunked
    assert "HTTP_TRANSFER_ENCODING" not in found.environ


@pytest.mark.parametrize(
    ("connection", "keep"), [("close", False), ("Keep-Alive, CLOSE", False), ("keep-alive", True), ("closed", True)]
)
def test_a_connection_is_kept_unless_it_is_to_close(connection: str, keep: bool) -> None:
    assert head("GET / HTTP/1.1", f"Connection: {connection}").keep_alive is keep


def test_http_1_0_closes_whatever_it_says() -> None:
    found = head("GET / HTTP/1.0", "Connection: keep-alive", host="")
    assert (found.keep_alive, found.http_1_1) == (False, False)


@pytest.mark.parametrize(("version", "expects"), [("1.1", True), ("1.0", False)])
def test_who_expects_100_is_told_by_http_1_1_only(version: str, expects: bool) -> None:
    found = head(f"POST / HTTP/{version}", "Expect: 100-Continue", "Content-Length: 1")
    assert found.expects_continue is expects


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/1.2", 505),
        ("PRI * HTTP/2.0", 505),
        ("FETCH / HTTP/1.1", 501),
        ("CONNECT here:80 HTTP/1.1", 501),
        ("get / HTTP/1.1", 400),
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET /\xe4 HTTP/1.1", 400),
        ("GET /#a HTTP/1.1", 400),
        ("GET here HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ftp://here/ HTTP/1.1", 400),
        ("GET http://me@here/ HTTP/1.1", 400),
        ("GET /" + "a" * 8200 + " HTTP/1.1", 414),
    ],
)
def test_a_wrong_line_is_refused_with_its_status(line: str, status: int) -> None:
    assert refused(line) == status


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("Host: there", 400),
        ("Content-Length: +1", 400),
        ("Content-Length: 1, 1", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: xchunked", 400),
        ("X_Y: z", 400),
        ("X : z", 400),
        ("X: a\0b", 400),
        (" folded", 400),
        ("Expect: tea", 417),
    ],
)
def test_a_wrong_field_is_refused_with_its_status(field: str, status: int) -> None:
    assert refused("POST / HTTP/1.1", field) == status


@pytest.mark.parametrize("name", ["Content-Length: 1", "Content-Type: a/b", "Authorization: x", "Expect: 100-continue"])
def test_what_may_be_said_once_is_refused_twice(name: str) -> None:
    assert refused("POST / HTTP/1.1", name, name) == 400


def test_http_1_1_needs_a_host_and_http_1_0_does_not() -> None:
    assert refused(host="") == 400
    assert "HTTP_HOST" not in head("GET / HTTP/1.0", host="").environ


def test_only_so_many_fields_are_read() -> None:
    assert head("GET / HTTP/1.1", *["X: y"] * (MAX_FIELDS - 1)).environ["HTTP_X"]
    assert refused("GET / HTTP/1.1", *["X: y"] * MAX_FIELDS) == 431


def test_a_length_and_a_coding_together_are_refused() -> None:
    assert refused("POST / HTTP/1.1", "Content-Length: 0", "Transfer-Encoding: chunked") == 400
    assert refused("POST / HTTP/1.0", "Transfer-Encoding: chunked") == 400


def test_a_head_says_whether_a_proxy_speaks_in_it() -> None:
    assert head("GET / HTTP/1.1", "X-Forwarded-For: 1.2.3.4").is_forwarded
    assert not head().is_forwarded
