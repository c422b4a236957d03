"""Requests that a web page may have caused: which are refused, and that nothing runs then."""

import falcon
import falcon.testing
import pytest

from gateway.events import ignore
from gateway.web.browsers import Browsers
from gateway.web.failures import Failures
from gateway.web.messages import Response
from gateway.web.middleware import RequestIdentity

OWN = "127.0.0.1:8080"
LISTED = "https://app.example.com"
REFUSED = (403, "forbidden")


class Counter:
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.reached = 0

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        self.reached += 1
        response.media = {}

    on_post = on_get


class Site:
    """An app behind the check, and a client of it."""

    def __init__(self) -> None:
        self.browsers = Browsers(
            cors_origins=[LISTED], allowed_hosts=["Shop.internal"], bind=["gw.local:8080", "[::1]:80", "unix:/run/x"]
        )
        app: falcon.App[falcon.Request, Response] = falcon.App(
            middleware=[RequestIdentity(self.browsers)], response_type=Response
        )
        Failures(verbose=False, observe=ignore, failed=lambda *_: None).register(app)
        self._counter = Counter()
        app.add_route("/", self._counter)
        self._client = falcon.testing.TestClient(app)

    def ask(
        self,
        headers: dict[str, str],
        *,
        method: str = "POST",
        path: str = "/",
        address: str = "127.0.0.1",
        protocol: str = "http",
        admin: bool = False,
    ) -> falcon.testing.Result:
        """Ask, and be sure that what is refused has reached nothing."""
        before = self._counter.reached
        answer = self._client.simulate_request(
            method,
            path,
            headers={"Host": OWN, **headers},
            remote_addr=address,
            protocol=protocol,
            extras={"gateway.admin": True} if admin else {},
        )
        assert answer.status_code != 403 or self._counter.reached == before
        return answer


@pytest.fixture
def site() -> Site:
    return Site()


def judged(answer: falcon.testing.Result) -> tuple[int, str | None]:
    return answer.status_code, answer.json.get("code")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://localhost:8080"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": f"http://{OWN}.evil.example"},
        {"Origin": f"http://{OWN}, http://evil.example"},
        {"Origin": f"ftp://{OWN}"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": f"{LISTED}:444"},
        {"Origin": LISTED.upper()},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "new-word"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{OWN}"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "none", "Origin": "http://evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_pages_of_other_origins_are_refused_on_every_route(
    method: str, path: str, headers: dict[str, str], site: Site
) -> None:
    answer = site.ask(headers, method=method, path=path)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": f"http://{OWN}"},
        {"Origin": f"https://{OWN}"},
        {"Origin": "http://gw.local:8080", "Host": "GW.local:8080"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{OWN}"},
    ],
    ids=str,
)
def test_programs_and_the_gateways_own_pages_are_served(headers: dict[str, str], site: Site) -> None:
    assert site.ask(headers).status_code == 200


def test_a_page_in_the_clear_is_no_page_of_an_origin_behind_tls(site: Site) -> None:
    assert site.ask({"Origin": f"https://{OWN}"}, protocol="https").status_code == 200
    assert judged(site.ask({"Origin": f"http://{OWN}"}, protocol="https")) == REFUSED


@pytest.mark.parametrize("fetch", [{}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_a_listed_origin_is_served_and_may_read_the_answer(fetch: dict[str, str], site: Site) -> None:
    answer = site.ask({"Origin": LISTED, **fetch})
    assert answer.status_code == 200
    assert (answer.headers["Access-Control-Allow-Origin"], answer.headers["Vary"]) == (LISTED, "Origin")
    assert "Gateway-Endpoint" in answer.headers["Access-Control-Expose-Headers"]
    failed = site.ask({"Origin": LISTED, **fetch}, path="/nowhere")
    assert (failed.status_code, failed.headers["Access-Control-Allow-Origin"]) == (404, LISTED)


def test_a_preflight_request_of_a_listed_origin_is_answered_without_a_route(site: Site) -> None:
    preflight = {"Origin": LISTED, "Access-Control-Request-Method": "POST"}
    for path in ("/", "/query/anything"):
        answer = site.ask(preflight, method="OPTIONS", path=path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == LISTED
        assert answer.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST, DELETE, QUERY"
        assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]
        assert answer.headers["X-Request-Id"]


def test_the_operators_listener_lists_no_origin(site: Site) -> None:
    assert judged(site.ask({"Origin": LISTED}, admin=True)) == REFUSED
    assert site.ask({"Origin": f"http://{OWN}"}, admin=True).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", OWN, "10.1.2.3:99", "[::1]", "[::1]:8080", "[FE80::1]:80", "localhost", "LOCALHOST:3000",
        "gw.local", "gw.local:9", "shop.internal", "SHOP.internal:8080",
    ],
)  # fmt: skip
def test_addresses_and_known_names_are_hosts_of_ours(host: str, site: Site) -> None:
    assert [site.ask({"Host": host}).status_code for _ in range(2)] == [200, 200]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "evil.shop.internal",
        "localhost.", "0x7f.1", "[::1].evil.example", "[gw.local]", "[127.0.0.1", "user@127.0.0.1", "127.0.0.1/",
        "127.0.0.1:80:80", "127.0.0.1, evil.example", "[]", ":8080", "",
    ],
)  # fmt: skip
def test_any_other_host_is_refused_whatever_else_the_request_says(host: str, site: Site) -> None:
    for more in ({}, {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}, {"Origin": LISTED}):
        for _ in range(2):
            assert judged(site.ask({"Host": host, **more})) == REFUSED
    assert site.browsers.admitted == {None}


def test_a_unix_socket_has_no_host_and_what_is_said_there_is_not_remembered(site: Site) -> None:
    assert site.ask({"Host": "anything.example"}, address="").status_code == 200
    assert judged(site.ask({"Host": "anything.example"})) == REFUSED


def test_a_request_without_a_host_is_served(site: Site) -> None:
    environ = falcon.testing.create_environ(method="POST")
    del environ["HTTP_HOST"]
    site.browsers.judge(falcon.Request(environ), falcon.Response())


def test_made_up_ports_do_not_fill_the_memory(site: Site) -> None:
    for port in range(2000):
        assert site.ask({"Host": f"localhost:{port}"}).status_code == 200
    assert len(site.browsers.admitted) <= 256
