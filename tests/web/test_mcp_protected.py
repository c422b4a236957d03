"""Agents without a token are told whose tokens are taken: the whole app, over a database that is down."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import time

import falcon.testing
import jwt
import pytest

from gateway.app import create_app
from gateway.catalogue.query import Catalogue
from gateway.settings import load_settings
from tests.execution.samples import query

SECRET = "s" * 32
ISSUER = "https://login.example.com"
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
SETTINGS = """
[endpoints.primary]
dsn = "host=127.0.0.1 port=1"
[mcp]
enabled = {enabled}
[auth]
mode = "jwt"
issuer = "{issuer}"
audience = "{audience}"
algorithms = ["HS256"]
jwt_secret_file = "secret"
"""
Serve = Callable[..., falcon.testing.TestClient]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes the app of a worker, with these settings."""
    made = []

    def with_settings(
        *, issuer: str = ISSUER, audience: str = "shop", enabled: str = "true"
    ) -> falcon.testing.TestClient:
        (tmp_path / "secret").write_text(SECRET)
        file = tmp_path / "gateway.toml"
        file.write_text(SETTINGS.format(issuer=issuer, audience=audience, enabled=enabled))
        made.append(create_app(load_settings(file, environ={}), Catalogue({"x": query("x")}, "hash"), None))
        return falcon.testing.TestClient(made[-1])

    yield with_settings
    for app in made:
        app.close()


def challenge(client: falcon.testing.TestClient, path: str = "/mcp", host: str = "shop.example:8080") -> str:
    answer = client.simulate_post(path, json=PING, headers={"Host": host})
    assert answer.status_code == 401
    return str(answer.headers["WWW-Authenticate"])


def test_an_agent_without_a_token_finds_out_where_it_gets_one(serve: Serve) -> None:
    client = serve()
    said = challenge(client)
    assert said == ('Bearer resource_metadata="http://shop.example:8080/.well-known/oauth-protected-resource/mcp"')
    for path in ("/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"):
        metadata = client.simulate_get(path, headers={"Host": "shop.example:8080"})
        assert metadata.json == {
            "resource": "http://shop.example:8080/mcp",
            "authorization_servers": [ISSUER],
            "bearer_methods_supported": ["header"],
        }
    token = jwt.encode({"iss": ISSUER, "aud": "shop", "sub": "ann", "exp": time() + 60}, SECRET, "HS256")
    answer = client.simulate_post("/mcp", json=PING, headers={"Authorization": f"Bearer {token}"})
    assert answer.json == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_a_token_that_is_no_good_is_answered_in_the_same_way(serve: Serve) -> None:
    client = serve()
    answer = client.simulate_post(
        "/mcp", json=PING, headers={"Authorization": "Bearer x.y.z", "Host": "shop.example:8080"}
    )
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge(client))


def test_behind_a_proxy_it_is_what_tokens_are_made_for(serve: Serve) -> None:
    client = serve(audience="https://api.example.com/mcp")
    address = "https://api.example.com/.well-known/oauth-protected-resource/mcp"
    assert challenge(client) == f'Bearer resource_metadata="{address}"'
    metadata = client.simulate_get("/.well-known/oauth-protected-resource/mcp")
    assert metadata.json["resource"] == "https://api.example.com/mcp"


@pytest.mark.parametrize("host", ['a", realm="b', "a/b", "a b", "a@b"])
def test_a_host_that_is_none_is_not_repeated(serve: Serve, host: str) -> None:
    client = serve()
    assert challenge(client, host=host) == "Bearer"
    path = "/.well-known/oauth-protected-resource/mcp"
    assert client.simulate_get(path, headers={"Host": host}).status_code == 404


def test_other_routes_and_other_callers_are_told_nothing_of_it(serve: Serve) -> None:
    assert challenge(serve(), "/query/x") == "Bearer"


@pytest.mark.parametrize("settings", [{"enabled": "false"}, {"issuer": "our login"}])
def test_it_is_not_there_without_agents_or_without_an_address_of_the_issuer(
    serve: Serve, settings: dict[str, str]
) -> None:
    client = serve(**settings)
    assert challenge(client) == "Bearer"
    assert client.simulate_get("/.well-known/oauth-protected-resource").status_code == 404
