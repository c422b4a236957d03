"""The life of a node: from `gateway init` to its last request, and what is left of it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port, is_free
from gateway.server.runtime import LOCK, memory_directory
from tests.live.gateways import QUERIES, Gateway, environment, running_marked, serving, wait_until, with_tables

WORKERS = ["gateway", "gthread", "sync"]
CANARY = "canary-of-the-password"


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> Iterator[Cluster]:
    with with_tables(cluster):
        yield cluster


@pytest.mark.parametrize("worker", WORKERS)
def test_sigterm_lets_requests_in_flight_finish(worker: str, whole: Cluster, tmp_path: Path) -> None:
    with (
        serving(whole, tmp_path, {"server": {"worker": worker}}, paths=[QUERIES]) as running,
        ThreadPoolExecutor() as threads,
    ):
        nap = threads.submit(running.run, "marked_nap", mark=f"term-{worker}", seconds=0.8)
        wait_until(lambda: any(running_marked(each, f"term-{worker}") for each in whole.replicas), "it runs")
        running.program.send_signal(signal.SIGTERM)
        assert nap.result().json() == {"value": f"term-{worker}"}
        assert running.program.wait(10) == 0


@pytest.mark.parametrize("worker", WORKERS)
def test_a_killed_worker_comes_back_and_serves(worker: str, whole: Cluster, tmp_path: Path) -> None:
    with serving(whole, tmp_path, {"server": {"worker": worker, "workers": 2}}, paths=[QUERIES]) as running:
        before = set(running.workers())
        victim = running.health()["workers"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(set(running.workers()) - {victim}) == 2, "there are two again")
        assert len(set(running.workers()) & before) == 1
        running.wait_until_ready()
        for _ in range(10):
            with running.new_client() as client:
                assert client.post("/query/series").status_code == 200


def test_a_password_is_told_to_nobody(whole: Cluster, tmp_path: Path) -> None:
    primary = whole.primary
    endpoints = {
        "primary": f"{shop.dsn(primary)} password={CANARY}",
        "stranger": f"postgresql://nobody-here:{CANARY}@127.0.0.1:{primary.port}/{shop.DATABASE}?sslmode=disable",
        "nowhere": f"host=127.0.0.1 port=1 user=gateway password={CANARY}",
        "elsewhere": f"host=127.0.0.1 port={primary.port} dbname=no_such_database user=gateway password={CANARY}",
    }
    with serving(whole, tmp_path, {}, endpoints=endpoints, paths=[QUERIES]) as running:
        wait_until(lambda: running.health()["status"] == "degraded", "the others are known to be bad")
        reasons = {name: each["reason"] for name, each in running.health()["endpoints"].items()}
        assert reasons["nowhere"] == "refused"
        said = [running.client.get(path).text for path in ("/health", "/health/ready", "/queries")]
        said += [running.run(name).text for name in ("broken_at_run", "forbidden", "nothing", "no_such_query")]
        said += [running.log]
        for pid in [running.program.pid, *running.workers()]:
            said.append(Path(f"/proc/{pid}/cmdline").read_text())
        for file in filter(Path.is_file, running.runtime.iterdir()):
            assert file.stat().st_mode & 0o077 == 0 or CANARY not in file.read_text()
        running.end()
        said.append(running.log)
    assert CANARY not in "\n".join(said)


def test_nothing_is_left_after_sigterm_and_what_a_crash_left_is_swept(whole: Cluster, tmp_path: Path) -> None:

    def folder_of(running: Gateway) -> Path:
        owner = f"{running.program.pid}\n"
        memory = memory_directory()
        assert memory is not None
        (folder,) = (lock.parent for lock in memory.glob(f"*/{LOCK}") if lock.read_text() == owner)
        return folder

    with serving(whole, tmp_path / "crashed", {"server": {"runtime_dir": ""}}, paths=[QUERIES]) as running:
        left = folder_of(running)
        os.killpg(running.program.pid, signal.SIGKILL)
        running.program.wait()
    assert left.exists()
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    with serving(whole, tmp_path / "next", {"server": {"runtime_dir": ""}}, paths=[QUERIES]) as running:
        assert not left.exists()
        own = folder_of(running)
        assert running.end() == 0
    assert not own.exists()


def command(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `gateway` there to its end."""
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gateway", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def answers(url: str) -> int:
    """The status of a GET; 0 while nobody listens."""
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code
    except httpx.TransportError:
        return 0


@pytest.mark.parametrize(
    "server", [["gateway", "serve"], ["gunicorn", "gateway.app:application"]], ids=["gateway", "gunicorn"]
)
def test_what_init_writes_is_checked_and_served(server: list[str], whole: Cluster, tmp_path: Path) -> None:
    assert command(tmp_path, "init").returncode == 0
    port = find_port()
    settings = tmp_path / "gateway.toml"
    written, replaced = re.subn(r"(?m)^dsn = .*$", f'dsn = "{shop.dsn(whole.primary)}"', settings.read_text())
    assert replaced == 1
    settings.write_text(written)
    checked = command(tmp_path, "check")
    assert (checked.returncode, checked.stdout) == (0, "1 query, 1 endpoint: no faults\n")
    bind = f"127.0.0.1:{port}"
    serve = [sys.executable, "-m", *server, "--bind", bind, "--workers", "1"]
    if "gunicorn" in server:
        serve += ["--threads", "2", "--no-control-socket"]
    log = tmp_path / "log"
    program = whole.launch(serve, log=log, environment=environment(), cwd=tmp_path)
    try:
        wait_until(lambda: program.poll() is not None or answers(f"http://{bind}/health/ready") == 200, "ready")
        assert program.poll() is None, log.read_text()
        listed = httpx.get(f"http://{bind}/queries", trust_env=False).json()["queries"]
        assert [query["name"] for query in listed] == ["hello"]
        answer = httpx.post(f"http://{bind}/query/hello", json={}, trust_env=False)
        assert answer.status_code == 200, answer.text
    finally:
        program.terminate()
        assert program.wait(10) == 0


def test_with_any_fault_every_one_is_told_with_its_place_and_nothing_is_started(tmp_path: Path) -> None:
    port = find_port()
    (tmp_path / "gateway.toml").write_text(
        f'[server]\nbind = "127.0.0.1:{port}"\nthreads = 0\nverbose = true\n'
        f'[endpoints.primary]\ndsn = "host=127.0.0.1 password={CANARY} port=none"\n'
    )
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "a.sql").write_text("-- name: one$\n-- @cash 3s\nSELECT 1;\n\n-- name: one$\nSELECT 2;\n")
    (tmp_path / "queries" / "b.sql").write_text("-- name: two\nSELECT 1; DROP TABLE x;\n-- name: three\nSELEC 1;\n")
    began = time.monotonic()
    ended = command(tmp_path, "serve")
    assert time.monotonic() - began < 10
    assert (ended.returncode, ended.stdout) == (1, "")
    *faults, total = ended.stderr.splitlines()
    assert total == f"{len(faults)} faults"
    places = {re.match(r"[^:]+:\d+", fault)[0] for fault in faults}  # type: ignore[index]  # every line has a place
    assert places >= {
        "gateway.toml:3",
        "gateway.toml:4",
        "gateway.toml:6",
        "queries/a.sql:2",
        "queries/a.sql:5",
        "queries/b.sql:2",
        "queries/b.sql:4",
    }
    assert CANARY not in ended.stderr
    assert is_free(port)
