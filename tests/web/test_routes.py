"""The router's memory: it must say what Falcon's own says, and not grow without end."""

import falcon
import falcon.testing

from gateway.web.routes import KEPT, LONGEST, Routes


class Echo:
    """Answers with the name in the path."""

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Say it."""
        response.text = name


def client() -> tuple[falcon.testing.TestClient, Routes]:
    routes = Routes()
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(router=routes)
    app.add_route("/echo/{name}", Echo())
    return falcon.testing.TestClient(app), routes


def test_a_path_asked_for_again_is_answered_as_the_first_time() -> None:
    caller, _ = client()
    said = [caller.simulate_get(path).text for path in ("/echo/one", "/echo/two", "/echo/one", "/echo/two")]
    assert said == ["one", "two", "one", "two"]


def test_a_path_that_leads_nowhere_stays_404_and_is_not_remembered() -> None:
    caller, routes = client()
    assert [caller.simulate_get("/nowhere").status_code for _ in range(2)] == [404, 404]
    assert routes.remembered == 0


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
    assert 0 < routes.remembered <= KEPT
    before, long = routes.remembered, "x" * LONGEST
    assert caller.simulate_get(f"/echo/{long}").text == long
    assert routes.remembered == before
