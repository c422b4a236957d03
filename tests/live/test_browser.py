"""Pages in a real browser: what a foreign one tries against a gateway on loopback, and what a listed one may do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.live.browsing import chromium
from tests.live.gateways import QUERIES, Gateway, serving, wait_until, with_tables

pytestmark = pytest.mark.system

NAME = "page.example"
"""A host whose DNS says 127.0.0.1, the gateway's own address."""
ATTACK = """
async (base) => {
    const target = base + "/query/enter_silently";
    const text = (word) => JSON.stringify({word: "attack " + word});
    const said = {};
    const attempt = async (name, url, options) => {
        try {
            const answer = await fetch(url, options);
            said[name] = answer.type === "opaque" ? "opaque" : await answer.text();
        } catch {
            said[name] = "refused by the browser";
        }
    };
    const loaded = (frame) => new Promise((resolve) => frame.addEventListener("load", resolve));
    const buffer = (word) => new TextEncoder().encode(text(word)).buffer;
    await attempt("buffer", target, {method: "POST", body: buffer("buffer")});
    await attempt("blob", target, {method: "POST", body: new Blob([text("blob")])});
    await attempt("opaque buffer", target, {method: "POST", mode: "no-cors", body: buffer("no-cors")});
    await attempt("text", target, {method: "POST", mode: "no-cors", body: text("text")});
    await attempt("read", base + "/query/series?n=3", {});
    await attempt("opaque read", base + "/query/series", {mode: "no-cors"});
    await attempt("catalogue", base + "/queries", {});
    await attempt("preflight", target, {
        method: "POST", headers: {"Content-Type": "application/json"}, body: text("preflight")});
    await attempt("drain", base + "/admin/endpoints/replica1/drain", {method: "POST", mode: "no-cors"});
    navigator.sendBeacon(target, buffer("beacon"));
    const frame = document.createElement("iframe");
    frame.name = "answer";
    document.body.append(frame);
    const form = document.createElement("form");
    form.action = target;
    form.method = "POST";
    form.enctype = "text/plain";
    form.target = "answer";
    const field = document.createElement("input");
    field.name = '{"word": "attack form", "x": "';
    field.value = '"}';
    form.append(field);
    document.body.append(form);
    const posted = loaded(frame);
    form.submit();
    await posted;
    const sandbox = document.createElement("iframe");
    sandbox.sandbox = "allow-scripts";
    sandbox.srcdoc = `<script>fetch("${target}", {method: "POST", mode: "no-cors", ` +
        `body: new Blob(['{"word": "attack sandbox"}'])}).then(() => parent.postMessage("", "*"))</` + "script>";
    const fetched = new Promise((resolve) => addEventListener("message", resolve, {once: true}));
    document.body.append(sandbox);
    await fetched;
    const image = new Image();
    const ended = new Promise((resolve) => { image.onload = image.onerror = resolve; });
    image.src = base + "/query/series?n=4";
    await ended;
    return said;
}
"""
ATTEMPTS = 13
"""Requests that a foreign page causes; one of them is a preflight request."""
ASK = """
async ([url, options]) => {
    const answer = await fetch(url, options);
    return [answer.status, await answer.json(), answer.headers.get("Gateway-Endpoint")];
}
"""
UNTYPED = """
async (url) => (await fetch(url, {method: "POST", body: new Blob(['{"word": "own, untyped"}'])})).status
"""
JSON = {"Content-Type": "application/json"}


class Empty(BaseHTTPRequestHandler):
    """A site of empty pages."""

    def do_GET(self) -> None:
        body = b"<!DOCTYPE html><title>A page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def site() -> Iterator[int]:
    """A site that has nothing to do with the gateway; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", find_port()), Empty)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with site() as port:
        yield port


@pytest.fixture(scope="module")
def listed() -> Iterator[int]:
    with site() as port:
        yield port


@pytest.fixture(scope="module")
def node(cluster: Cluster, listed: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"server": {"cors_origins": [f"http://localhost:{listed}"]}}
    with (
        with_tables(cluster),
        serving(cluster, tmp_path_factory.mktemp("gateway"), settings, paths=[QUERIES]) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser"), f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def words(cluster: Cluster, like: str) -> list[str]:
    """What was written."""
    found = cluster.primary.sql(f"SELECT word FROM suite.entries WHERE word LIKE '{like}' ORDER BY id", shop.DATABASE)
    return found.splitlines()


def asked_until_now(node: Gateway) -> int:
    """How many requests its one worker has had: it counts in the names that it gives them."""
    return int(node.client.get("/health/live").headers["X-Request-Id"].partition("-")[2], 16)


def answers_to(page: Page, base: str) -> list[tuple[str, str, int]]:
    """Method, path and status of every answer of the gateway that a page may see, from now on."""
    seen: list[tuple[str, str, int]] = []

    def note(response: Any) -> None:
        if response.url.startswith(base):
            seen.append((response.request.method, response.url.removeprefix(base), response.status))

    page.context.on("response", note)
    return seen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", NAME])
def test_a_foreign_page_writes_and_reads_nothing(
    host: str, page: Page, port: int, node: Gateway, cluster: Cluster
) -> None:
    page.goto(f"http://{host}:{port}/")
    seen = answers_to(page, node.url)
    before = asked_until_now(node)
    said = page.evaluate(ATTACK, node.url)
    looks = 0

    def all_arrived() -> bool:
        nonlocal looks
        looks += 1
        page.wait_for_timeout(10)  # lets the browser's messages in
        return asked_until_now(node) - before - looks >= ATTEMPTS

    wait_until(all_arrived, "the gateway was asked by every attempt")
    assert {status for _, _, status in seen} == {403}, seen
    assert {(method, path) for method, path, _ in seen} >= {
        ("POST", "/query/enter_silently"),
        ("GET", "/query/series"),
        ("POST", "/admin/endpoints/replica1/drain"),
    }
    assert set(said.values()) == {"opaque", "refused by the browser"}, said
    assert words(cluster, "attack%") == []
    assert node.health()["endpoints"]["replica1"]["in_rotation"]


def test_a_page_whose_name_leads_to_the_gateway_reads_and_writes_nothing(
    page: Page, node: Gateway, cluster: Cluster
) -> None:
    base = f"http://{NAME}:{node.port}"
    page.route(f"{base}/page", lambda route: route.fulfill(body="<title>A page</title>", content_type="text/html"))
    page.goto(f"{base}/page")
    writing = {"method": "POST", "headers": JSON, "body": '{"word": "attack by name"}'}
    for path, options in (
        ("/queries", {}),
        ("/health", {}),
        ("/query/series", {}),
        ("/query/enter_silently", writing),
        ("/health/live", {}),
    ):
        status, body, _ = page.evaluate(ASK, [base + path, options])
        assert (status, body["code"]) == (403, "forbidden"), path
    visited = page.goto(f"{base}/queries")
    assert visited is not None
    assert visited.status == 403
    assert words(cluster, "attack%") == []


def test_the_gateways_own_pages_may_ask_but_say_what_they_send(page: Page, node: Gateway, cluster: Cluster) -> None:
    for base, word in ((node.url, "own"), (f"http://localhost:{node.port}", "own by name")):
        page.goto(f"{base}/health/live")
        writing = {"method": "POST", "headers": JSON, "body": f'{{"word": "{word}"}}'}
        status, body, endpoint = page.evaluate(ASK, [f"{base}/query/enter_silently", writing])
        assert (status, body, endpoint) == (200, {"affected": 1, "outcome": "committed"}, "primary")
        assert page.evaluate(UNTYPED, f"{base}/query/enter_silently") == 415
    assert words(cluster, "own%") == ["own", "own by name"]


def test_a_page_of_a_listed_origin_asks_as_any_program(
    page: Page, listed: int, node: Gateway, cluster: Cluster
) -> None:
    page.goto(f"http://localhost:{listed}/")
    writing = {"method": "POST", "headers": {**JSON, "Idempotency-Key": ""}, "body": '{"word": "listed"}'}
    status, body, _ = page.evaluate(ASK, [f"{node.url}/query/enter_silently", writing])
    assert (status, body["code"]) == (400, "invalid_request")
    writing["headers"] = JSON
    assert page.evaluate(ASK, [f"{node.url}/query/enter_silently", writing]) == [
        200,
        {"affected": 1, "outcome": "committed"},
        "primary",
    ]
    assert words(cluster, "listed%") == ["listed"]
    page.goto(f"http://127.0.0.1:{listed}/")
    assert page.evaluate("(url) => fetch(url).then(() => 'read', () => 'refused')", f"{node.url}/queries") == "refused"
