"""deploy/haproxy/haproxy.cfg, run by HAProxy for real: a gateway that cannot serve gets no requests."""

import os
import subprocess
from collections import Counter
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
EXAMPLE = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
SOON = 2.0
"""Seconds within which HAProxy has seen a change: it asks twice a second, and the machine may be busy."""
SETTINGS: dict[str, dict[str, Any]] = {
    "groups.read": {"endpoints": ["replica1"], "fallback": "none"},
    "groups.write": {},
}


@pytest.fixture(scope="module")
def gateways(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with two_gateways(cluster, [tmp_path_factory.mktemp(name) for name in ("one", "two")], SETTINGS) as both:
        yield both


@pytest.fixture(scope="module")
def proxy(cluster: Cluster, gateways: Two, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    program = find_program("haproxy", "on Debian and Ubuntu, apt-get install haproxy")
    folder = tmp_path_factory.mktemp("haproxy")
    port = find_port()
    file = folder / "haproxy.cfg"
    file.write_text(fitted(EXAMPLE, gateways, {"127.0.0.1:8000": f"127.0.0.1:{port}"}))
    checked = subprocess.run([program, "-c", "-f", file], capture_output=True, text=True, check=False)  # noqa: S603
    assert (checked.returncode, checked.stderr) == (0, "")
    log = folder / "log"
    running = cluster.launch([program, "-db", "-f", str(file)], log=log, environment=dict(os.environ), cwd=folder)
    limits = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, limits=limits) as client:
            wait_until(lambda: running.poll() is not None or _answers(client), "HAProxy answers")
            assert running.poll() is None, tail(log)
            yield client
    finally:
        running.terminate()
        running.wait(10)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.post("/query/series").status_code == 200
    except httpx.TransportError:
        return False


def asked(client: httpx.Client, times: int = 10) -> Counter[str]:
    """Who answered how often; every answer is a good one."""
    seen: Counter[str] = Counter()
    for _ in range(times):
        answer = client.post("/query/series")
        assert answer.status_code == 200, answer.text
        seen[worker_of(answer)] += 1
    return seen


def test_both_are_asked(gateways: Two, proxy: httpx.Client) -> None:
    wait_until(lambda: len(asked(proxy)) == 2, "both are in")
    names = {worker_of(each.client.get("/health/live")) for each in gateways}
    assert set(asked(proxy)) == names


def test_one_whose_only_server_is_drained_gets_no_requests_until_it_is_back(gateways: Two, proxy: httpx.Client) -> None:
    one, two = gateways
    mine = worker_of(one.client.get("/health/live"))
    assert one.operator.post("/admin/endpoints/replica1/drain").status_code == 200
    try:
        assert one.client.get("/health/ready").json()["reasons"] == ["group read: no endpoint may answer"]

        def is_out() -> bool:
            return {worker_of(proxy.post("/query/series")) for _ in range(10)} == {
                worker_of(two.client.get("/health/live"))
            }

        assert wait_until(is_out, "it is out") < SOON
        assert mine not in asked(proxy, 50)
    finally:
        assert one.operator.post("/admin/endpoints/replica1/resume?wait=10s").status_code == 200
    assert wait_until(lambda: mine in asked(proxy), "it is back") < SOON


def test_administration_is_not_reached_through_it(gateways: Two, proxy: httpx.Client) -> None:
    for path in (
        "/admin/endpoints/replica1/drain",
        "//admin/endpoints/replica1/drain",
        "/%61dmin/endpoints/replica1/drain",
    ):
        assert proxy.post(path).status_code == 404
    assert gateways[0].health()["endpoints"]["replica1"]["reason"] is None


def test_one_that_is_told_to_end_is_out_before_it_has_ended(gateways: Two, proxy: httpx.Client) -> None:
    one, two = gateways
    one.program.terminate()
    for _ in range(100):
        assert proxy.post("/query/series").status_code == 200
    assert one.program.wait(10) == 0
    assert set(asked(proxy)) == {worker_of(two.client.get("/health/live"))}
