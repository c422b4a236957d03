"""deploy/nginx/nginx.conf, run by nginx for real: HTTP/2 and TLS to clients, and a gateway that ends is not noticed."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.live.fronts import Two, fitted, two_gateways
from tests.live.gateways import wait_until, worker_of
from tests.test_deploy import find_program

pytestmark = pytest.mark.system
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "nginx" / "nginx.conf"
TLS = ROOT / "tests" / "tls"
SETTINGS: dict[str, dict[str, Any]] = {"server": {"trusted_proxies": ["127.0.0.1"]}}


@pytest.fixture(scope="module")
def gateways(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_gateways(cluster, [tmp_path_factory.mktemp(name) for name in ("one", "two")], SETTINGS) as both:
        yield both


@pytest.fixture(scope="module")
def front(cluster: Cluster, gateways: Two, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of nginx."""
    found = Path("/usr/sbin/nginx")
    program = (
        str(found) if found.exists() else find_program("nginx", "on Debian and Ubuntu, apt-get install nginx-light")
    )
    folder, port = tmp_path_factory.mktemp("nginx"), find_port()
    others = {
        "127.0.0.1:8443": f"127.0.0.1:{port}",
        "/etc/nginx/tls/chain.pem": str(TLS / "certificate.pem"),
        "/etc/nginx/tls/key.pem": str(TLS / "key.pem"),
        "worker_processes auto": "worker_processes 1",
    }
    text = fitted(EXAMPLE, gateways, others)
    file, log = folder / "nginx.conf", folder / "log"
    paths = " ".join(
        f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""  # the folders are for their owner alone
    file.write_text(f"{user} pid {folder / 'pid'};\n{text.replace('http {', 'http { ' + paths, 1)}")
    command = [program, "-c", str(file), "-e", "stderr"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
    running = cluster.launch([*command, "-g", "daemon off;"], log=log, environment=dict(os.environ), cwd=folder)
    url = f"https://127.0.0.1:{port}"
    try:
        with httpx.Client(trust_env=False, verify=False) as client:  # noqa: S501 -- a certificate of the tests' own
            wait_until(lambda: running.poll() is not None or _answers(client, url), "nginx answers", 20)
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


def test_both_are_asked(gateways: Two, client: httpx.Client) -> None:
    names = {worker_of(each.client.get("/health/live")) for each in gateways}
    wait_until(lambda: {worker_of(client.post("/query/series")) for _ in range(10)} == names, "both are asked")


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
    left = worker_of(two.client.get("/health/live"))
    one.program.terminate()
    for _ in range(200):
        assert client.get("/query/series").status_code == 200
    assert one.program.wait(20) == 0
    assert {worker_of(client.get("/query/series")) for _ in range(20)} == {left}
