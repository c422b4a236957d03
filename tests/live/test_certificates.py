"""Clients that are known by their certificate: shown in the handshake, or named by a proxy."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo.cluster import Cluster
from tests.live.authorities import Authority, Issued
from tests.live.gateways import Gateway, problem, serving, wait_until

QUERIES = "-- name: sold$\n-- @role sales\nSELECT 'sold';\n-- name: who$\nSELECT 'anybody';\n"
AUTH: dict[str, Any] = {"mode": ["certificates", "keys"], "keys_file": "keys.toml"}
KNOWN = {'"orders.example"': ["sales"], '"spiffe://shop/orders"': ["sales"], '"reader.example"': []}


class Site:
    """A gateway behind TLS with an authority of its own."""

    def __init__(self, running: Gateway, authority: Authority, other: Authority, key: str) -> None:
        self.running = running
        self.authority = authority
        self.other = other
        self.key = key

    def client(self, shown: Issued | None = None) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.authority.roots))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return httpx.Client(base_url=f"https://localhost:{self.running.port}", verify=context, trust_env=False)

    def status(self, query: str, shown: Issued | None = None, **headers: str) -> int:
        with self.client(shown) as client:
            return client.post(f"/query/{query}", json={}, headers=headers).status_code


def prepare(folder: Path) -> str:
    """The files of a gateway; the key that it knows."""
    (folder / "queries").mkdir()
    (folder / "queries" / "q.sql").write_text(QUERIES)
    made = keys.make()
    entry = Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name="a", roles=("sales",))
    (folder / "keys.toml").write_text(keys_file.added("", entry))
    (folder / "keys.toml").chmod(0o600)
    return made


@pytest.fixture(scope="module", params=["gateway", "gthread"])
def site(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("certificates")
    key = prepare(folder)
    authority, other = Authority(folder), Authority(folder, "other")
    server = authority.issue("localhost")
    settings = {
        "server": {
            "certfile": str(server.certificate),
            "keyfile": str(server.key),
            "client_ca": str(authority.roots),
            "worker": request.param,
        },
        "auth": AUTH,
        "auth.certificates": KNOWN,
    }
    with serving(cluster, folder, settings, paths=[folder / "queries"], ready=False) as running:
        made = Site(running, authority, other, key)

        def ready() -> bool:
            try:
                with made.client() as client:
                    return client.get("/health/ready").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, "ready")
        yield made


def test_a_certificate_is_its_callers(site: Site) -> None:
    orders, reader = site.authority.issue("orders.example"), site.authority.issue("reader.example")
    assert (site.status("sold", orders), site.status("who", orders)) == (200, 200)
    assert (site.status("sold", reader), site.status("who", reader)) == (403, 200)


def test_a_certificate_of_nobody_known_is_none(site: Site) -> None:
    assert site.status("who", site.authority.issue("somebody.example")) == 401


def test_a_key_does_where_a_certificate_is_not_shown(site: Site) -> None:
    assert site.status("who") == 401
    assert site.status("sold", Authorization=f"Bearer {site.key}") == 200
    assert site.status("who", site.authority.issue("orders.example"), Authorization="Bearer x") == 401


def test_a_certificate_of_another_authority_and_an_expired_one_are_refused_in_the_handshake(site: Site) -> None:
    for shown in (site.other.issue("orders.example"), site.authority.issue("orders.example", expired=True)):
        with pytest.raises(httpx.TransportError):
            site.status("who", shown)


ENVOY = 'By=spiffe://shop/gateway;Hash=0a;Subject="CN=orders,O=\\"Shop, Inc\\"";URI=spiffe://shop/orders'


@pytest.mark.parametrize("worker", ["gateway", "gthread"])
def test_a_trusted_proxy_names_certificates_and_nobody_else_does(cluster: Cluster, tmp_path: Path, worker: str) -> None:
    key = prepare(tmp_path)
    header = {"trusted_identity_header": "x-forwarded-client-cert"}
    settings: dict[str, dict[str, Any]] = {
        "server": {"trusted_proxies": ["127.0.0.1"], "worker": worker},
        "auth": {**AUTH, **header},
        "auth.certificates": KNOWN,
    }
    asked = "X-Forwarded-Client-Cert"
    with serving(cluster, tmp_path, settings, paths=[tmp_path / "queries"]) as running:
        for value in (ENVOY, f"URI=spiffe://evil,{ENVOY}", "orders.example"):
            assert running.run("sold", {asked: value}).json() == {"value": "sold"}
        for value in (f"{ENVOY},URI=spiffe://evil", "spiffe://evil", "", f"{ENVOY},"):
            problem(running.run("sold", {asked: value}), 401, "unauthenticated")
        problem(running.run("sold"), 401, "unauthenticated")
        named = {asked: ENVOY, "X-Forwarded-For": "10.9.9.9"}  # who is behind the proxy is not who is asked
        assert running.run("sold", named).status_code == 200
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "keys.toml").write_text((tmp_path / "keys.toml").read_text())
    settings["server"]["trusted_proxies"] = ["10.0.0.0/8"]
    with serving(cluster, tmp_path / "far", settings, paths=[tmp_path / "queries"]) as running:
        for more in ({}, {"Authorization": f"Bearer {key}"}, {"X-Forwarded-For": "10.0.0.1"}):
            problem(running.run("sold", {asked: ENVOY, **more}), 401, "unauthenticated")
        assert running.run("sold", {"Authorization": f"Bearer {key}"}).status_code == 200
