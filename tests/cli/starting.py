"""Runs commands in this process, and `gateway serve` in one of its own, over a server that is down."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.demo.ports import find_port

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


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go there, with nothing of ours in the environment."""
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GATEWAY_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)


def gateway(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_project(settings: str = "", query: str = "-- name: one$\nSELECT 1;\n") -> None:
    write("gateway.toml", f'{settings}\n[endpoints.primary]\ndsn = "{NOWHERE}"\n')
    write("queries/one.sql", query)


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
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), **environ},
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
            context = ssl.create_default_context(cafile=Path(__file__).parents[1] / "tls" / "certificate.pem")
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


Serve = Callable[..., Served]
