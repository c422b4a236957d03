"""The server that `gateway serve` becomes: how it starts, ends, reloads, and shares what it listens on."""

import contextlib
import os
import select
import signal
import socket
import time
from pathlib import Path

import pytest

from gateway.demo.ports import find_port
from gateway.server.runtime import FOLDER
from tests.cli.starting import Serve, gateway, write, write_project


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_serve_becomes_the_server_and_leaves_nothing_behind(serve: Serve, worker: str, end: signal.Signals) -> None:
    write_project(f'[server]\nworker = "{worker}"\n')
    served = serve("--workers", "1")
    assert served.get("/health/live").headers["Server"] in (None, "gateway")
    assert f"gateway.server {served.folder}" in served.command
    assert "postgast" not in Path(f"/proc/{served.process.pid}/maps").read_text()
    folder = served.folder
    assert (folder / "current").exists()
    served.process.send_signal(end)
    assert served.exits_within(15)
    assert served.process.returncode == 0
    assert not folder.exists()


def test_what_a_killed_gateway_left_is_removed_by_a_later_one(serve: Serve) -> None:
    write_project()
    killed = serve("--workers", "1")
    folder = killed.folder
    worker = killed.worker
    killed.process.kill()
    killed.process.wait()
    assert folder.exists()
    worker_gone = select.poll()
    worker_gone.register(worker)
    assert worker_gone.poll(10_000)
    os.close(worker)
    long_ago = time.time() - 120
    os.utime(folder, (long_ago, long_ago))
    serve("--workers", "1")
    assert not folder.exists()


def test_two_gateways_cannot_share_a_runtime_directory(serve: Serve, folder: Path) -> None:
    write_project()
    first = serve("--workers", "1", GATEWAY_SERVER__RUNTIME_DIR="run")
    result = gateway("serve", "--bind", f"127.0.0.1:{find_port()}", GATEWAY_SERVER__RUNTIME_DIR="run")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == (
        f"server.runtime_dir: {folder / 'run' / FOLDER} is in use by another gateway (process {first.process.pid})"
    )
    assert first.get("/health/live").status == 200


def test_a_hangup_with_a_faulty_project_changes_nothing_and_is_told(serve: Serve) -> None:
    write_project()
    served = serve("--workers", "1", GATEWAY_SERVER__RUNTIME_DIR="run")
    workers = served.log().count("Booting worker")
    Path("queries/broken.sql").write_text("-- name: broken$\nSELEKT 1;\n")
    served.process.send_signal(signal.SIGHUP)
    served.wait_until(lambda: "not reloaded" in served.log())
    assert "broken.sql:2" in served.log()
    assert served.get("/health/live").status == 200
    assert served.log().count("Booting worker") == workers
    assert served.process.poll() is None


def test_a_changed_address_is_refused_by_a_reload(serve: Serve) -> None:
    write_project()
    served = serve("--workers", "1")
    write_project('[server]\nadmin_bind = "127.0.0.1:1"\nworker = "sync"\n')
    served.process.send_signal(signal.SIGHUP)
    served.wait_until(lambda: "not reloaded" in served.log())
    for key in ("server.admin_bind", "server.worker"):
        assert f"{key}: cannot be changed by a reload" in served.log()


def test_silent_clients_do_not_stop_a_worker_for_good(serve: Serve) -> None:
    write_project('[server]\nworker = "gthread"\nthreads = 2\nbody_timeout = "500ms"\n')
    served = serve("--workers", "1")
    with contextlib.ExitStack() as clients:
        for _ in range(2):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", served.port), 15))
            client.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Half: ")
        assert served.get("/health/live").status == 200
        assert client.recv(1) == b""


def test_tls_is_served_with_the_configured_certificate(serve: Serve) -> None:
    tls = Path(__file__).parents[1] / "tls"
    write_project()
    served = serve(
        "--workers",
        "1",
        GATEWAY_SERVER__CERTFILE=str(tls / "certificate.pem"),
        GATEWAY_SERVER__KEYFILE=str(tls / "key.pem"),
    )
    assert served.get("/health/live").status == 200


def test_sockets_of_systemd_are_served_in_the_place_of_the_configured_ones(serve: Serve) -> None:
    write_project()
    with socket.create_server(("127.0.0.1", find_port())) as listener:
        served = serve("--workers", "1", inherited=listener)
        assert served.port == listener.getsockname()[1]
        assert served.get("/health/live").status == 200


def test_several_gateways_share_a_port_if_all_say_so(serve: Serve) -> None:
    write_project()
    first = serve("--workers", "1", "--reuse-port")
    second = gateway("serve", "--bind", f"127.0.0.1:{first.port}")
    assert "the address is in use" in second.stderr
    third = serve("--workers", "1", "--reuse-port", "--bind", f"127.0.0.1:{first.port}")
    assert first.process.poll() is None
    assert third.process.poll() is None
    assert {first.get("/health/live").status for _ in range(8)} == {200}


def test_python_files_in_the_current_folder_are_not_imported(serve: Serve) -> None:
    write_project()
    write("falcon.py", "raise SystemExit('imported from the current folder')")
    served = serve("--workers", "1")
    assert served.get("/health/live").status == 200
