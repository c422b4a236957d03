"""Heads that mean harm, read by the server's own parser and given to the whole app over a database that is down."""

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.app import create_app
from gateway.catalogue.compiling import compile_project
from gateway.events import BugFound, Event
from gateway.server.head import BadRequest, parse_head
from gateway.settings import load_settings

SEED = 11
REQUESTS = 4000
LISTED = "https://app.example.com"
OWN = "127.0.0.1:8080"
SETTINGS = f"""
[server]
workers = 1
timeout = "50ms"
cors_origins = ["{LISTED}"]
allowed_hosts = ["gw.example"]
[endpoints.primary]
dsn = "host=127.0.0.1 port=1 dbname=shop user=gateway"
"""
QUERIES = "-- name: orders(id)\n-- @param id int4 = 1\nSELECT :id;\n-- name: pay!\nDELETE FROM orders;\n"
METHODS = ["GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY", "TRACE"]
ROUTES = [
    "/query/orders", "/query/pay", "/queries", "/queries/orders", "/transaction", "/outcome/x", "/health",
    "/health/live", "/health/ready", "/admin/endpoints/primary/drain", "/admin/endpoints/primary/resume",
    "/admin/learn",
]  # fmt: skip
PARTS = [
    "", "query", "orders", "pay", "queries", "transaction", "outcome", "health", "live", "ready", "admin", "endpoints",
    "primary", "drain", "resume", "learn", ".", "..", "*", "%2F", "%2e%2e", "%61dmin", "%00", "%ff", "%zz", "%",
    "%C3%A9", "%ED%A0%80", ";x=1", "a" * 200, "{name}", "\\", "AAAA.BBBB", "~", "%25", "%5c", "%252f", "nothing",
]  # fmt: skip
QUERY_STRINGS = [
    "", "?", "?id=1", "?wait=1ms", "?wait=", "?wait=1h", "?wait=1ms&wait=2ms", "?group=read", "?group=%ff", "?min=0",
    "?min=%D9%A3", "?max_lag=1ms", "?all", "?all=1", "?query=orders", "?query=", "?id=%00", "?id=%ED%A0%80", "?%",
    "?&&==", "?id=1;id=2",
]  # fmt: skip
OPERATORS_STRINGS = ["?wait=1ms", "?wait=1ms", "?wait=0ms", "?wait=", "?wait=2h", "?wait=1ms&wait=2ms", "?%", "?soon"]
"""All with a wait or a fault: without they would wait for what does not happen here."""
HOSTS = [
    OWN, OWN, OWN, "localhost", "LOCALHOST:1", "gw.example", "[::1]:80", "[::]", "", "evil.example",
    "evil.example:8080", "127.0.0.1.evil.example", "[::1", "a:b", "0", "1.2.3", "[::ffff:1.2.3.4]", "127.0.0.1:99999",
    "%31", "localhost.",
]  # fmt: skip
ORIGINS = [
    None, None, None, None, f"http://{OWN}", f"https://{OWN}", LISTED, f"{LISTED}.evil.example", "null", "", "http://evil.example",
    "http://", "http://[::1", "x" * 3000, "http://localhost", f"{LISTED}, http://evil.example",
]  # fmt: skip
FETCH_SITES = [None, None, None, "same-origin", "none", "same-site", "cross-site", "", "x" * 100, "none, none"]
TYPES = [
    None, "application/json", "application/json", "text/plain", "application/json; charset=utf-8",
    "application/json;" * 90, 'application/json; x="' + ";" * 900, "application/x+json;charset=latin-1", ";", "/",
    "\xff", "*/*", '"', "a/b" * 2000,
]  # fmt: skip
ACCEPTS = [
    None,
    None,
    "*/*",
    "application/json",
    "text/html",
    ";",
    "q=1",
    'a/b;x="' + ";" * 900,
    "x" * 5000,
    "*/*;q=2",
    ",",
]
BODIES = [b"", b"", b"{}", b'{"id": 1}', b"[]", b"[{}]", b"{", b"\xff", b"null", b'{"steps": []}', b"[" * 5000, b"\0"]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return []


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, events: list[Event]) -> Iterator[Callable[..., Any]]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "gateway.toml").write_text(SETTINGS)
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(QUERIES)
    settings = load_settings(folder / "gateway.toml", environ={})
    made = create_app(settings, compile_project(settings), None, observe=events.append)
    yield made
    made.close()


def environ_of(chance: random.Random) -> tuple[dict[str, Any], str] | None:
    """The environ of a request, and its path as it is sent; None where the server refuses the head itself."""
    path = chance.choice(["/", "/", "/", "//", "http://h/"]) + "/".join(
        chance.choice(PARTS) for _ in range(chance.choice([1, 2, 2, 2, 3, 4, 5]))
    )
    if chance.random() < 0.5:
        path = chance.choice(ROUTES)
    is_plain = chance.random() < 0.6
    is_operator = chance.random() < 0.2
    target = path + chance.choice(OPERATORS_STRINGS if is_operator else QUERY_STRINGS)
    lines = [f"{chance.choice(METHODS)} {target} HTTP/1.1", f"Host: {OWN if is_plain else chance.choice(HOSTS)}"]
    body = chance.choice(BODIES)
    fields = {
        "Origin": None if is_plain else chance.choice(ORIGINS),
        "Sec-Fetch-Site": None if is_plain else chance.choice(FETCH_SITES),
        "Content-Type": chance.choice(TYPES),
        "Accept": chance.choice(ACCEPTS),
        "Access-Control-Request-Method": chance.choice([None, "POST"]),
        "Content-Length": str(len(body)),
    }
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    try:
        head = parse_head(("\r\n".join(lines) + "\r\n\r\n").encode("utf-8"))
    except BadRequest:
        return None
    more: dict[str, Any] = {
        "REMOTE_ADDR": chance.choice(["127.0.0.1", "10.0.0.1", "::1", ""]),
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8080",
        "wsgi.url_scheme": chance.choice(["http", "http", "https"]),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "gateway.body": body,
    }
    if is_operator:
        more["gateway.admin"] = True
    return head.environ | more, path


def ask(app: Callable[..., Any], environ: dict[str, Any]) -> tuple[int, bytes]:
    """Status and body of the answer."""
    said: list[str] = []

    def start_response(status: str, _headers: list[tuple[str, str]], *_: Any) -> Any:
        said.append(status)

    body = b"".join(app(environ, start_response))
    return int(said[0][:3]), body


def is_foreign(environ: dict[str, Any]) -> bool:
    """Whether a page of another origin caused it, said in another way than the app does."""
    origin, host = environ.get("HTTP_ORIGIN"), environ["HTTP_HOST"].lower()
    if origin == LISTED:
        return "gateway.admin" in environ
    own = {f"https://{host}", f"http://{host}"} if environ["wsgi.url_scheme"] == "http" else {f"https://{host}"}
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    return site not in {"none", "same-origin"} or (origin is not None and origin not in own)


def test_whatever_the_head_says_nothing_breaks_and_nothing_slips_through(
    app: Callable[..., Any], events: list[Event]
) -> None:
    chance = random.Random(SEED)  # noqa: S311 - to be the same in each run
    seen: Counter[int] = Counter()
    while seen.total() < REQUESTS:
        made = environ_of(chance)
        if made is None:
            continue
        environ, path = made
        status, body = ask(app, environ)
        seen[status] += 1
        what = (environ["REQUEST_METHOD"], path, environ["HTTP_HOST"], environ.get("HTTP_ORIGIN"), status, body[:200])
        assert not any(isinstance(event, BugFound) for event in events), what
        assert status not in (500, 501, 505), what
        if is_foreign(environ):
            assert status == 403, what
        if "evil" in environ["HTTP_HOST"] and environ["REMOTE_ADDR"]:
            assert status == 403, what
        public = "gateway.admin" not in environ
        is_preflight = environ["REQUEST_METHOD"] == "OPTIONS" and environ.get("HTTP_ORIGIN") == LISTED
        if public and "dmin" in path.split("/", 2)[1] and not is_preflight:
            assert status in (403, 404), what
        if not public and "/query" in path:
            assert status in (403, 404), what
        if ("%2F" in path or "%61" in path or "//" in path.removeprefix("http://")) and not is_preflight:
            assert status in (403, 404), what
    assert {200, 403, 404, 405} <= seen.keys(), seen
