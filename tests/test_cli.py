"""The command ``gateway``: what it prints, how it ends, and the server it becomes."""

import contextlib
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import main
from gateway.demo.ports import find_port
from gateway.server.control import SPARE, NotDone, NotDoneYet, Target, ask
from gateway.server.registry import NodeNotFound, find
from gateway.server.runtime import FOLDER

NOWHERE = "host=127.0.0.1 port=1 dbname=shop user=gateway"
"""A server that is down: the gateway starts all the same."""
START = """
import os, sys
from gateway.cli import main
if sys.argv[1].isdigit():  # a listening socket, passed on as systemd does
    os.dup2(int(sys.argv.pop(1)), 3)
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
sys.argv[0] = "gateway"
main()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    return tmp_path


def gateway(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_project(settings: str = "", query: str = "-- name: one$\nSELECT 1;\n") -> None:
    write("gateway.toml", f'{settings}\n[endpoints.primary]\ndsn = "{NOWHERE}"\n')
    write("queries/one.sql", query)


def test_the_version_is_told() -> None:
    assert gateway("--version").output == f"gateway, version {__version__}\n"


@pytest.mark.parametrize(
    "command",
    ["serve", "check", "init", "init-db", "demo", "drain", "resume", "learn", "reload", "requests", "explain"],
)
def test_the_help_of_every_command_has_an_example(command: str) -> None:
    result = gateway(command, "--help")
    assert result.exit_code == 0
    assert f"\n  gateway {command}" in result.output.partition("Options:")[0]


def test_init_writes_what_check_accepts() -> None:
    assert gateway("init").exit_code == 0
    checked = gateway("check", "--offline")
    assert (checked.exit_code, checked.output) == (0, "1 query: no faults\n")


def test_init_in_a_new_folder_says_how_to_go_on(folder: Path) -> None:
    result = gateway("init", "new/place")
    assert result.output.splitlines()[-1] == (
        "Now write your dsn into new/place/gateway.toml, then: gateway check -c new/place/gateway.toml"
    )
    assert (folder / "new/place/queries/hello.sql").exists()


def test_init_overwrites_nothing_and_lists_what_is_there() -> None:
    write("queries/hello.sql", "mine")
    result = gateway("init")
    assert (result.exit_code, result.stderr) == (
        1,
        "queries/hello.sql: is there already; nothing was written\n1 fault\n",
    )
    assert Path("queries/hello.sql").read_text() == "mine"
    assert not Path("gateway.toml").exists()


def test_init_says_when_it_cannot_write() -> None:
    write("queries", "a file")
    result = gateway("init")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize("command", [("check", "--offline"), ("serve",)])
def test_every_fault_of_settings_and_queries_is_printed_at_once(command: tuple[str, ...]) -> None:
    write_project("[server]\nthreads = 0\n", "-- name: one$\n-- @cash 3s\nSELECT 1;\n-- name: two\nDROP TABLE x;\n")
    result = gateway(*command, GATEWAY_SERVER__WORKERS="many")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "environment GATEWAY_SERVER__WORKERS: server.workers: must be a whole number"
    assert lines[1] == "gateway.toml:2: server.threads: expected `int` >= 1 (it is 0)"
    assert [line.partition(": ")[0] for line in lines[2:-1]] == ["queries/one.sql:2", "queries/one.sql:5"]
    assert lines[-1] == "4 faults"


def test_an_offline_check_needs_no_secrets() -> None:
    write_project()
    write("gateway.toml", Path("gateway.toml").read_text() + 'password_file = "nowhere"\n')
    assert gateway("check", "--offline").exit_code == 0
    assert "nowhere cannot be read" in gateway("check").stderr


def test_check_says_which_server_cannot_be_reached() -> None:
    write_project()
    result = gateway("check")
    assert result.exit_code == 1
    assert result.stderr.startswith("endpoints.primary: cannot connect: ")
    assert result.stderr.endswith("1 fault\n")


def test_init_db_prints_what_it_would_run_and_needs_no_settings_for_it() -> None:
    printed = gateway("init-db", "--print")
    assert printed.exit_code == 0
    assert printed.output.startswith("CREATE TABLE IF NOT EXISTS gateway_idempotency (")


def test_init_db_says_that_no_primary_can_be_reached() -> None:
    write_project()
    result = gateway("init-db")
    assert result.exit_code == 1
    assert "primary: cannot connect" in result.stdout
    assert "groups.write: none of its endpoints is a primary that can be reached" in result.stderr


def test_roles_that_nobody_checks_are_warned_of() -> None:
    write_project(query="-- name: one$\n-- @role sales\nSELECT 1;\n")
    result = gateway("check", "--offline")
    assert result.exit_code == 0
    assert 'warning: 1 query names a @role (one), but with auth.mode = "none" no role is checked' in result.stderr


@pytest.mark.parametrize("command", [("check", "--offline"), ("serve",)])
def test_a_server_that_is_not_verified_is_a_fault_that_says_what_to_do(command: tuple[str, ...]) -> None:
    write_project()
    result = gateway(*command, DATABASE_URL="", GATEWAY_ENDPOINTS__FAR__DSN="host=db.example sslmode=require")
    assert result.exit_code == 1
    fault, count = result.stderr.splitlines()
    assert fault.startswith("endpoints.far.dsn: sslmode=require is not enough off this machine")
    assert "set allow_insecure = true" in fault
    assert count == "1 fault"


def test_a_server_that_is_meant_not_to_be_verified_is_warned_of() -> None:
    write_project()
    far = {"GATEWAY_ENDPOINTS__FAR__DSN": "host=db.example", "GATEWAY_ENDPOINTS__FAR__ALLOW_INSECURE": "true"}
    assert gateway("check", "--offline", **far).stderr == ""
    result = gateway("check", "--offline", **far, PGSSLMODE="disable")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: endpoints.far: sslmode=disable: others on the way could read")


def test_an_option_names_itself_in_its_fault() -> None:
    write_project()
    result = gateway("serve", "--bind", "0.0.0.0:80", "--workers", "x")
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["--bind", "--workers", "2 faults"]


def test_a_busy_port_is_told_before_anything_starts() -> None:
    write_project()
    port = find_port()
    with socket.create_server(("127.0.0.1", port)):
        result = gateway("serve", "--bind", f"127.0.0.1:{port}")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        1,
        f"server.bind 127.0.0.1:{port}: the address is in use; is another server, or another gateway, running there?",
    )


def test_a_file_that_is_not_there_is_a_fault() -> None:
    result = gateway("serve", "-c", "nope.toml")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (
        1,
        "nope.toml: cannot be read: No such file or directory",
    )


class Served:
    """A ``gateway serve`` in a process of its own."""

    def __init__(self, *arguments: str, inherited: socket.socket | None = None, **environ: str) -> None:
        self.port = inherited.getsockname()[1] if inherited else find_port()
        self.is_tls = "GATEWAY_SERVER__CERTFILE" in environ
        self.stderr = Path("stderr.txt")
        bind = f"127.0.0.1:{find_port() if inherited else self.port}"
        descriptors = [inherited.fileno()] if inherited else []
        with self.stderr.open("w") as stderr:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-P", "-c", START, *map(str, descriptors), "serve", "--bind", bind, *arguments],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), **environ},
                pass_fds=descriptors,
                stderr=stderr,
                stdout=stderr,
            )

    def answers(self) -> bool:
        try:
            return self.get("/health/live").status == 200
        except OSError:
            return False

    def get(self, path: str) -> http.client.HTTPResponse:
        if self.is_tls:
            context = ssl.create_default_context(cafile=Path(__file__).parent / "tls" / "certificate.pem")
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=10, context=context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        return response

    def exits_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 20
        while not condition():
            assert not self.exits_within(0.05), self.log()
            assert time.monotonic() < give_up, self.log()

    def log(self) -> str:
        return self.stderr.read_text()

    @property
    def command(self) -> str:
        return Path(f"/proc/{self.process.pid}/cmdline").read_text().replace("\0", " ")

    @property
    def folder(self) -> Path:
        """Its runtime directory."""
        return Path(self.command.partition("gateway.server ")[2].partition(" ")[0])

    @property
    def worker(self) -> int:
        """A descriptor of its only worker, readable once that is gone."""
        pid = self.process.pid
        return os.pidfd_open(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            if not self.exits_within(15):
                self.process.kill()
                self.process.wait()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Start gateways that are stopped at the end of the test."""
    started: list[Served] = []

    def start(*arguments: str, inherited: socket.socket | None = None, **environ: str) -> Served:
        served = Served(*arguments, inherited=inherited, **environ)
        started.append(served)
        served.wait_until(served.answers)
        return served

    yield start
    for served in started:
        served.stop()


Serve = Callable[..., Served]


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


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_running_node_is_found_by_its_settings_file(serve: Serve, folder: Path, worker: str) -> None:
    write_project(f'[server]\nworker = "{worker}"\n')
    logins = folder / "logins"
    logins.mkdir()
    served = serve("--workers", "1", XDG_RUNTIME_DIR=str(logins))
    node = find(Path("gateway.toml"), folders=[logins])
    assert (node.pid, node.config) == (served.process.pid, str(folder / "gateway.toml"))
    with socket.socket(socket.AF_UNIX) as operator:
        operator.settimeout(10)
        operator.connect(node.admin.removeprefix("unix:"))
        operator.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert operator.recv(100).startswith(b"HTTP/1.1 200 ")
    served.stop()
    with pytest.raises(NodeNotFound):
        find(Path("gateway.toml"), folders=[logins])
    assert list(logins.iterdir()) == []


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
    tls = Path(__file__).parent / "tls"
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


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_running_node_is_found_and_does_what_it_is_told(worker: str, serve: Serve) -> None:
    write_project(f'[server]\nworker = "{worker}"\n[groups.read]\n')
    served = serve("--workers", "1", GATEWAY_SERVER__RUNTIME_DIR="run")
    pid = ("--pid", str(served.process.pid))
    for which in (pid, ("-c", "gateway.toml"), ("-c", "gateway.toml", *pid)):
        drained = gateway("drain", "primary", *which)
        assert (drained.exit_code, drained.output) == (
            0,
            "primary is drained: no request is at work on it, and none will be\n",
        )
        resumed = gateway("resume", "primary", *which)
        assert (resumed.exit_code, resumed.output) == (0, "primary may have work as soon as it is found fit\n")
    late = gateway("resume", "primary", "--wait", "50ms", *pid)
    assert (late.exit_code, late.output) == (
        3,
        "primary may have work, but after 0.05 s it is out of the rotation: refused\n",
    )
    unknown = gateway("drain", "replica9", *pid)
    assert (unknown.exit_code, unknown.output) == (1, "there is no endpoint replica9\n")
    too_long = gateway("drain", "primary", "--wait", "2h", *pid)
    assert too_long.exit_code == 1
    assert "wait must be at most" in too_long.output
    unlearnt = gateway("learn", "--wait", "50ms", *pid)
    assert unlearnt.exit_code == 3
    assert "may still act on what was learnt before" in unlearnt.output
    listed = gateway("requests", *pid)
    assert (listed.exit_code, listed.output.split()) == (
        0,
        ["AGE", "STATE", "QUERY", "ENDPOINT", "CALLER", "WORKER", "ID"],
    )
    absent = gateway("requests", "--end", "a/b", *pid)
    assert (absent.exit_code, absent.output) == (1, "Not found\n")
    absent = gateway("requests", "--end", "ab", *pid)
    assert (absent.exit_code, absent.output) == (1, "no request with this id is in flight\n")
    unknown = gateway("explain", "nothing", *pid)
    assert unknown.exit_code == 1
    assert "the catalogue has no query of this name" in unknown.output
    assert gateway("explain", "hello", "name", *pid).exit_code == 2
    strange = gateway("drain", "a/b?wait=1h#c", *pid)
    assert (strange.exit_code, strange.output) == (1, "Not found\n")


def test_a_node_that_is_not_there_is_a_sentence() -> None:
    ended = subprocess.Popen(["/bin/true"])
    ended.wait()
    lost = gateway("drain", "primary", "--pid", str(ended.pid))
    assert (lost.exit_code, lost.output) == (1, f"no running gateway with process {ended.pid} was found\n")
    lost = gateway("resume", "primary", "-c", "nowhere.toml")
    assert (lost.exit_code, lost.output) == (1, "no running gateway with settings from nowhere.toml was found\n")
    wrong = gateway("drain", "primary", "--wait", "5")
    assert wrong.exit_code == 2
    assert 'must be a duration such as "250ms", "5s"' in wrong.output


def test_a_node_that_does_not_answer_is_a_sentence(folder: Path) -> None:
    node = Target(f"unix:{folder / 'admin.sock'}", "process 4711")
    with pytest.raises(NotDone, match=r"process 4711 cannot be asked at unix:/.*: No such file or directory"):
        ask(node, "POST", "/admin/learn", wait=0)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "admin.sock"))
        with pytest.raises(NotDone, match="Connection refused"):
            ask(node, "POST", "/admin/learn", wait=0)
        deaf.listen()
        with pytest.raises(NotDoneYet, match=r"has not answered for 0\.1 s"):
            ask(node, "POST", "/admin/learn", wait=0.1 - SPARE)
