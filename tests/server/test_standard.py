"""Who refuses a long body unread says that the connection ends."""

from collections.abc import Iterable
from typing import Any

import pytest

from gateway.server.standard import DISCARDED, closing_after_refusals


class Response:
    """What gunicorn's response does here."""

    def __init__(self) -> None:
        self.closes = False
        self.status = ""

    def force_close(self) -> None:
        self.closes = True

    def start_response(self, status: str, _headers: list[tuple[str, str]]) -> None:
        self.status = status


def answer(status: str, environ: dict[str, Any]) -> Response:
    def application(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, [])
        return [b"body"]

    response = Response()
    assert closing_after_refusals(application)(environ, response.start_response) == [b"body"]
    assert response.status == status
    return response


@pytest.mark.parametrize(
    "environ", [{"CONTENT_LENGTH": str(DISCARDED)}, {"HTTP_TRANSFER_ENCODING": "chunked"}, {"CONTENT_LENGTH": "-1"}]
)
def test_after_a_refused_long_body_the_connection_closes(environ: dict[str, str]) -> None:
    assert answer("413 Content Too Large", environ).closes
    assert answer("404 Not Found", environ).closes
    assert not answer("200 OK", environ).closes


@pytest.mark.parametrize("environ", [{}, {"CONTENT_LENGTH": ""}, {"CONTENT_LENGTH": str(DISCARDED - 1)}])
def test_after_a_refused_short_body_the_connection_stays(environ: dict[str, str]) -> None:
    assert not answer("422 Unprocessable Entity", environ).closes
