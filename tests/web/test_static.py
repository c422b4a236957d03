"""The files that the gateway's pages are made of."""

import gzip

import falcon
import falcon.testing
import pytest

from gateway.web.static import StaticResource


@pytest.fixture
def client() -> falcon.testing.TestClient:
    app = falcon.App()
    for name in ("docs.html", "swagger-ui.css"):
        app.add_route(f"/{name}", StaticResource(name))
    return falcon.testing.TestClient(app)


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
