"""The files that the gateway's pages are made of."""

import gzip

import falcon
import falcon.testing
import pytest

from gateway.errors import NotFound
from gateway.web.static import StaticResource


@pytest.fixture
def client() -> falcon.testing.TestClient:
    app = falcon.App()
    resource = StaticResource("docs.html", ["swagger-ui.css"])
    app.add_route("/docs.html", resource)
    app.add_route("/{file}", resource, suffix="part")
    app.add_error_handler(NotFound, tell)
    return falcon.testing.TestClient(app)


def tell(_request: falcon.Request, response: falcon.Response, error: Exception, _: object) -> None:
    assert isinstance(error, NotFound)
    response.text = error.code


def test_a_file_that_was_compressed_is_sent_so_to_those_who_take_it(client: falcon.testing.TestClient) -> None:
    packed = client.simulate_get("/swagger-ui.css", headers={"Accept-Encoding": "gzip, br"})
    plain = client.simulate_get("/swagger-ui.css")
    assert (packed.headers["Content-Encoding"], "Content-Encoding" in plain.headers) == ("gzip", False)
    assert gzip.decompress(packed.content) == plain.content
    assert plain.headers["Content-Type"] == "text/css; charset=utf-8"
    assert plain.headers["Vary"] == "Accept-Encoding"


def test_whoever_has_it_is_told_so(client: falcon.testing.TestClient) -> None:
    tag = client.simulate_get("/docs.html").headers["ETag"]
    again = client.simulate_get("/docs.html", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_no_page_may_load_anything_of_another_host_or_stand_in_a_frame(client: falcon.testing.TestClient) -> None:
    told = client.simulate_get("/docs.html").headers
    assert "default-src 'none'" in told["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in told["Content-Security-Policy"]
    assert "unsafe" not in told["Content-Security-Policy"]
    assert told["X-Content-Type-Options"] == "nosniff"


def test_nothing_else_is_sent(client: falcon.testing.TestClient) -> None:
    for name in ("docs.js", "refresh.sh", "swagger-ui.css.gz"):
        assert client.simulate_get(f"/{name}").text == "not_found"
