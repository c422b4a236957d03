"""The router's memory: it must say what Falcon's own says, and not grow without end."""

import falcon
import falcon.testing
import pytest

from gateway.web.routes import KEPT, LONGEST, Routes


class Echo:
    """Answers with the name in the path."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Say it."""
        response.text = name


class Anything:
    """Answers."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Say so."""
        response.text = "here"


def client() -> tuple[falcon.testing.TestClient, Routes]:
    routes = Routes()
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(router=routes)
    app.add_route("/echo/{name}", Echo())
    for path in ("/", "/queries", "/docs", "/status.json", "/health", "/health/live", "/admin/learn"):
        app.add_route(path, Anything())
    return falcon.testing.TestClient(app), routes


def test_a_path_asked_for_again_is_answered_as_the_first_time() -> None:
    caller, _ = client()
    said = [caller.simulate_get(path).text for path in ("/echo/one", "/echo/two", "/echo/one", "/echo/two")]
    assert said == ["one", "two", "one", "two"]


def test_a_path_that_leads_nowhere_stays_404_and_is_not_remembered() -> None:
    caller, routes = client()
    assert [caller.simulate_get("/nowhere").status_code for _ in range(2)] == [404, 404]
    assert len(routes._found) == 0


def test_a_method_is_looked_at_every_time() -> None:
    caller, _ = client()
    assert [caller.simulate_request(method, "/echo/one").status_code for method in ("GET", "POST", "GET")] == [
        200,
        405,
        200,
    ]


def test_made_up_names_do_not_fill_the_memory() -> None:
    caller, routes = client()
    for number in range(KEPT + 10):
        assert caller.simulate_get(f"/echo/{number}").text == str(number)
    assert 0 < len(routes._found) <= KEPT
    before, long = len(routes._found), "x" * LONGEST
    assert caller.simulate_get(f"/echo/{long}").text == long
    assert len(routes._found) == before


def sent(path: str, *, operator: bool = False) -> int:
    """The status of the answer to a request with this path on its first line."""
    caller, routes = client()
    extras = {"RAW_URI": path, **({"gateway.admin": True} if operator else {})}
    statuses = {
        caller.simulate_get(path.removeprefix("http://h").partition("?")[0], extras=extras).status_code
        for _ in range(2)
    }
    assert not operator or len(routes._found) == 0
    (status,) = statuses
    return status


@pytest.mark.parametrize(
    "path",
    [
        "/queries", "/echo/one", "/echo/a.b-c_d~e", "/echo/%20", "/echo/%C3%A9", "/echo/%5C", "/echo/%252F",
        "/queries?path=%2Fadmin", "/echo/one?a=%61//b", "/health", "/health/live",
    ],
)  # fmt: skip
def test_a_path_that_is_written_as_it_has_to_be_leads_somewhere(path: str) -> None:
    assert sent(path) == 200


@pytest.mark.parametrize(
    "path",
    [
        "//queries", "//", "/echo//one", "/health//live", "/%71ueries", "/q%75eries", "/echo/%6fne", "/echo/%6Fne",
        "/echo/%41", "/echo/%5a", "/echo/%30", "/echo/%39", "/echo/%2D", "/echo/%2e", "/echo/%5F", "/echo/%7e",
        "/echo%2Fone", "/echo/%2f", "/echo/one%2f", "/%2Fqueries", "http://h//queries", "http://h/%71ueries",
        "/%61dmin/learn", "//admin/learn", "/admin%2flearn", "/admin/learn", "/admin", "/admin/", "/queries/",
        "/health/",
    ],
)  # fmt: skip
def test_any_other_way_to_write_a_path_leads_nowhere(path: str) -> None:
    assert sent(path) == 404


def test_operators_have_health_its_page_and_administration_and_nothing_else() -> None:
    for path in ("/health", "/health/live", "/admin/learn", "/", "/status.json"):
        assert sent(path, operator=True) == 200
    for path in ("/queries", "/docs", "/echo/one", "//admin/learn", "/%61dmin/learn", "/admin/%6cearn", "/admin"):
        assert sent(path, operator=True) == 404


def test_what_is_remembered_for_clients_is_not_there_for_operators() -> None:
    caller, routes = client()
    assert caller.simulate_get("/queries").status_code == 200
    assert len(routes._found) == 1
    assert caller.simulate_get("/queries", extras={"gateway.admin": True}).status_code == 404
    assert caller.simulate_get("/admin/learn", extras={"gateway.admin": True}).status_code == 200
    assert caller.simulate_get("/admin/learn").status_code == 404
