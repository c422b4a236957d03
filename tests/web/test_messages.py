"""Requests that are filled in when they are asked, and responses whose headers are lines."""

from typing import Any

import falcon
import falcon.testing
import pytest

from gateway.web.messages import Request, Response

READ = [
    name for name in dir(falcon.Request) if not name.startswith("_") and not callable(getattr(falcon.Request, name))
]
LEFT_OUT = {"media", "context", "context_type", "stream", "bounded_stream", "env", "options"}
"""What is no value to be compared."""
OPTIONS = falcon.RequestOptions()


def environ(**more: Any) -> dict[str, Any]:
    return falcon.testing.create_environ(
        "/query/größe" if more.pop("wide", False) else "/query/orders",
        method="POST",
        body="{}",
        query_string="id=7&id=8",
        headers={"Content-Type": "application/json", "X-One": "1", "Cookie": "a=b", "Accept": "application/json"},
        **more,
    )


def value(request: falcon.Request, name: str) -> Any:
    try:
        return getattr(request, name)
    except Exception as error:  # noqa: BLE001 - whatever Falcon raises, ours raises too
        return type(error)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("name", sorted(set(READ) - LEFT_OUT))
def test_whatever_is_asked_first_is_what_falcon_says(name: str, *, wide: bool) -> None:
    theirs, ours = falcon.Request(environ(wide=wide), OPTIONS), Request(environ(wide=wide), OPTIONS)
    assert value(ours, name) == value(theirs, name)


def test_a_path_that_is_empty_is_the_root() -> None:
    assert Request(environ() | {"PATH_INFO": ""}).path == "/"


def test_methods_find_what_they_need() -> None:
    request = Request(environ())
    assert request.get_param_as_list("id") == ["7", "8"]
    assert request.get_header("X-One") == "1"
    assert request.bounded_stream.read() == b"{}"


def test_what_was_set_before_it_was_filled_in_stays() -> None:
    request = Request(environ())
    context = request.context
    context.arrived = 1.0
    request.uri_template = "/query/{name}"
    assert request.params == {"id": ["7", "8"]}
    assert request.context is context
    assert request.uri_template == "/query/{name}"


def test_what_no_request_has_is_an_attribute_error() -> None:
    for wide in (False, True):
        with pytest.raises(AttributeError):
            Request(environ(wide=wide)).nothing  # noqa: B018


def test_our_own_server_gets_the_lines_and_others_headers() -> None:
    response = Response()
    response.lines = "Gateway-Endpoint: primary\r\nServer-Timing: queue;dur=0.00, db;dur=1.00\r\n"
    ours = {"gateway.head": ""}
    response.hand_over_lines(ours)
    assert (ours["gateway.head"], response.headers) == (response.lines, {})
    response.hand_over_lines({})
    assert response.headers == {"gateway-endpoint": "primary", "server-timing": "queue;dur=0.00, db;dur=1.00"}


def test_a_body_is_alone_without_headers_of_its_own() -> None:
    empty, plain, linked = Response(), Response(), Response()
    plain.data = linked.data = b"{}"
    linked.set_header("Link", "</>")
    assert [each.alone for each in (empty, plain, linked)] == [None, b"{}", None]
