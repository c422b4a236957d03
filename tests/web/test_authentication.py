"""Who makes a request, on every route, with every credential."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from gateway.app import create_app
from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.catalogue.query import Catalogue
from gateway.settings import AuthSettings, EndpointSettings, GroupSettings, ServerSettings, Settings
from gateway.settings.units import rate
from tests.execution.samples import query

QUERIES = [query("open"), query("sold", roles=("sales", "support"))]
ROLES: dict[str, tuple[str, ...]] = {
    "seller": ("sales",),
    "other": ("other",),
    "watcher": ("monitor",),
    "operator": ("admin",),
}
UNLIMITED = rate("1000000/s")


class Site:
    def __init__(self, folder: Path, server: ServerSettings | None = None, **auth: Any) -> None:
        self.keys = {}
        text = ""
        for name, roles in ROLES.items():
            self.keys[name] = made = keys.make()
            entry = Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name=name, roles=roles)
            text = keys_file.added(text, entry)
        (folder / "keys.toml").write_text(text)
        catalogue = Catalogue({each.name: each for each in QUERIES}, "hash")
        groups = {
            name: GroupSettings(endpoints=("one",), **GroupSettings.defaults_of(name)) for name in ("read", "write")
        }
        settings = Settings(
            server=server or ServerSettings(workers=1),
            endpoints={"one": EndpointSettings(dsn="host=127.0.0.1 port=1 dbname=none user=none")},
            groups=groups,
            auth=AuthSettings(
                **{"mode": ("keys",), "keys_file": str(folder / "keys.toml"), "failure_rate": UNLIMITED, **auth}
            ),
        )
        self.app = create_app(settings, catalogue, None, observe=lambda _: None)
        self.client = falcon.testing.TestClient(self.app)

    def ask(self, method: str, path: str, who: str = "", **more: Any) -> falcon.testing.Result:
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who else {}
        return self.client.simulate_request(method, path, headers={**headers, **more.pop("headers", {})}, **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("keys"))
    yield made
    made.app.close()


ROUTES = {
    # route: strangers, without a role, with the query's role, monitor, admin
    ("POST", "/query/sold"): (401, 403, 503, 403, 403),
    ("GET", "/query/sold"): (401, 403, 503, 403, 403),
    ("POST", "/query/open"): (401, 503, 503, 503, 503),
    ("POST", "/query/nothing"): (401, 404, 404, 404, 404),
    ("POST", "/transaction"): (401, 400, 400, 400, 400),
    ("GET", "/outcome/x"): (401, 400, 400, 400, 400),
    ("GET", "/queries"): (401, 200, 200, 200, 200),
    ("GET", "/openapi.json"): (401, 200, 200, 200, 200),
    ("GET", "/queries/open"): (401, 200, 200, 200, 200),
    ("GET", "/queries/sold"): (401, 404, 200, 404, 404),
    ("GET", "/health"): (200, 200, 200, 200, 200),
    ("GET", "/health/live"): (200, 200, 200, 200, 200),
    ("GET", "/health/ready"): (503, 503, 503, 503, 503),
    ("GET", "/health/ready?query=sold"): (400, 400, 503, 400, 400),
    ("POST", "/admin/learn?wait=1ms"): (401, 403, 403, 403, 504),
    ("POST", "/admin/endpoints/one/resume"): (401, 403, 403, 403, 200),
    ("GET", "/admin/nothing"): (401, 403, 403, 403, 404),
    ("GET", "/"): (200, 200, 200, 200, 200),
    ("GET", "/status.json"): (200, 200, 200, 200, 200),
    ("GET", "/status.json?since=x"): (400, 400, 400, 400, 400),
    ("GET", "/status/status.js"): (200, 200, 200, 200, 200),
    ("GET", "/status/status.html"): (404, 404, 404, 404, 404),
    ("GET", "/docs"): (200, 200, 200, 200, 200),
    ("GET", "/docs/docs.js"): (200, 200, 200, 200, 200),
    ("GET", "/docs/nothing"): (404, 404, 404, 404, 404),
    ("GET", "/metrics"): (401, 403, 403, 200, 200),
    ("GET", "/nothing"): (401, 404, 404, 404, 404),
    ("OPTIONS", "/queries"): (401, 200, 200, 200, 200),
}
WHO = ["", "other", "seller", "watcher", "operator"]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[" ".join(route) for route in ROUTES])
@pytest.mark.parametrize("place", range(len(WHO)), ids=["nobody", *WHO[1:]])
def test_every_route_is_for_whom_it_is_meant(site: Site, method: str, path: str, place: int) -> None:
    route, _, text = path.partition("?")
    answer = site.ask(method, route, WHO[place], query_string=text, body="{}" if method == "POST" else "")
    assert answer.status_code == ROUTES[method, path][place]
    assert (answer.headers.get("WWW-Authenticate") == "Bearer") is (answer.status_code == 401)
    if answer.status_code == 401:
        assert answer.json["code"] == "unauthenticated"


@pytest.mark.parametrize("path", ["/health", "/status.json"])
def test_how_the_node_is_in_full_is_for_those_who_look_after_it(site: Site, path: str) -> None:
    for who in WHO:
        told = site.ask("GET", path, who).json
        assert (len(told) > 1) is (who in ("watcher", "operator"))
        assert told["status"] == "down"


@pytest.mark.parametrize(("who", "seen"), [("seller", ["open", "sold"]), ("other", ["open"])])
def test_a_caller_sees_the_queries_it_may_run(site: Site, who: str, seen: list[str]) -> None:
    assert [each["name"] for each in site.ask("GET", "/queries", who).json["queries"]] == seen


@pytest.mark.parametrize(("who", "is_long"), [("", False), ("seller", False), ("watcher", True), ("operator", True)])
def test_the_long_health_is_for_those_who_look_after_it(site: Site, who: str, is_long: bool) -> None:
    body = site.ask("GET", "/health", who).json
    assert (body.keys() == {"status"}) is not is_long
    if is_long:
        assert body["authentication"] == {"keys": {"count": 4, "fault": None}}


@pytest.mark.parametrize("path", ["//admin/learn", "/%61dmin/learn", "/admin%2Flearn", "/ADMIN/learn", "/admin/learn/"])
@pytest.mark.parametrize("who", ["seller", "operator"])
def test_a_disguised_path_leads_nowhere(site: Site, path: str, who: str) -> None:
    raw = falcon.testing.create_environ(path, method="POST", headers={"Authorization": f"Bearer {site.keys[who]}"})
    raw["RAW_URI"] = path
    answers: list[str] = []
    b"".join(site.app(raw, lambda status, *_: answers.append(status)))
    assert answers[0][:3] in (("403", "404") if who == "seller" else ("404",))


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "bearer gwk_",
        "Bearer gwk_aaaaaaaa",
        "Bearer é",
        "Bearer a.b.c",
    ],
)
def test_whatever_is_no_credential_has_one_answer(site: Site, shown: str) -> None:
    answers = [
        site.client.simulate_get(path, headers={"Authorization": shown}) for path in ("/queries", "/health", "/nothing")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {(answer.json["title"], answer.json["detail"]) for answer in answers} == {
        ("Who calls is not known", "send Authorization: Bearer with a key or token that is in force")
    }


def test_the_scheme_may_be_written_in_any_case(site: Site) -> None:
    for scheme in ("bearer", "BEARER"):
        shown = {"Authorization": f"{scheme}  {site.keys['seller']} "}
        assert site.client.simulate_get("/queries/sold", headers=shown).status_code == 200


def test_a_step_of_another_role_is_refused_with_its_place(site: Site) -> None:
    steps = {"steps": [{"query": "open"}, {"query": "sold"}]}
    answer = site.ask("POST", "/transaction", "other", json=steps)
    assert (answer.status_code, answer.json["code"], answer.json["step"]) == (403, "forbidden", 1)


def test_over_the_operators_listener_nobody_is_asked(site: Site) -> None:
    answer = site.client.simulate_get("/health", extras={"gateway.admin": True})
    assert (answer.status_code, "groups" in answer.json) == (200, True)


def test_over_an_operators_listener_that_others_can_reach_the_role_is_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, server=ServerSettings(workers=1, admin_bind="0.0.0.0:9000"))
    try:
        answers = [
            site.ask("POST", "/admin/endpoints/one/resume", who, extras={"gateway.admin": True}).status_code
            for who in WHO
        ]
        assert answers == [401, 403, 403, 403, 200]
        assert site.ask("GET", "/health", extras={"gateway.admin": True}).json.keys() == {"status"}
    finally:
        site.app.close()


def test_with_authentication_any_host_is_served(site: Site) -> None:
    answer = site.ask("GET", "/queries", "seller", headers={"Host": "gateway.example"})
    assert answer.status_code == 200


def test_who_was_known_and_who_was_not_is_counted(site: Site) -> None:
    def counted() -> dict[str, float]:
        text = site.ask("GET", "/metrics", "watcher").text
        return {
            name: float(value) for name, value in re.findall(r"^(gateway_auth.*|gateway_key_.*) (\S+)$", text, re.M)
        }

    before = counted()
    for _ in range(3):
        site.ask("GET", "/queries", "seller")
        site.client.simulate_get("/queries")
    after = counted()
    assert (
        after['gateway_authentications_total{result="ok"}'] - before['gateway_authentications_total{result="ok"}'] == 4
    )
    refused = 'gateway_authentications_total{result="refused"}'
    assert after[refused] - before.get(refused, 0) == 3
    (used,) = (
        value
        for name, value in after.items()
        if name.startswith('gateway_key_last_used_timestamp_seconds{key="seller:')
    )
    assert abs(used - time.time()) < 60


def test_a_page_of_another_origin_is_refused_with_a_key_too(site: Site) -> None:
    answer = site.ask("GET", "/queries", "seller", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


def test_whom_nobody_knows_may_be_served_with_roles_of_their_own(tmp_path: Path) -> None:
    site = Site(tmp_path, allow_anonymous=True, anonymous_roles=("support",))
    try:
        assert site.ask("GET", "/queries/sold").status_code == 200
        assert site.ask("POST", "/admin/learn").status_code == 403
        assert site.ask("GET", "/health").json.keys() == {"status"}
        assert site.client.simulate_get("/queries", headers={"Authorization": "Bearer x"}).status_code == 401
    finally:
        site.app.close()


def test_credentials_that_are_no_good_are_limited_by_address_and_good_ones_always_pass(tmp_path: Path) -> None:
    site = Site(tmp_path, failure_rate=rate("1/h burst=3"))
    wrong = {"Authorization": f"Bearer {keys.make()}"}
    answers = [site.ask("GET", "/queries", headers=wrong) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert answers[-1].json["code"] == "rate_limited"
    assert 3500 < int(answers[-1].headers["Retry-After"]) <= 3600
    assert site.ask("GET", "/queries").status_code == 401  # without any there is nothing to guess
    assert site.ask("GET", "/queries", "seller").status_code == 200
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert site.ask("GET", "/queries", headers=wrong, extras=elsewhere).status_code == 401
    site.app.close()
