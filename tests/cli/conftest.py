"""Every test has a folder of its own, and nothing of ours in the environment."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.starting import Served


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GATEWAY_") or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)
    return tmp_path


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
