"""Load by wrk, and what it measured."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.bench.failures import BenchError

_SCRIPT = Path(__file__).with_suffix(".lua")
_PATIENCE = 30.0  # seconds that wrk may take beyond the time it was given


class Load(NamedTuple):
    """What one run of wrk did and saw."""

    requests: int
    """Answers of any status."""
    seconds: float
    p50_ms: float
    p99_ms: float
    refused: int
    """Answers of status 400 and above."""
    failures: int
    """Connections, reads, writes and time-outs that failed."""


def find_wrk() -> str:
    """Path of wrk; BenchError says how to install it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("wrk is not installed. On Debian and Ubuntu: apt-get install wrk")
    return wrk


def run_wrk(
    port: int, requests: Path, *, connections: int, seconds: int, rest_ms: int = 0, authorization: str = ""
) -> Load:
    """Let keep-alive connections, in one thread, send the requests of a file (see ``load.lua``) in turn."""
    command = [find_wrk(), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    if authorization:
        command += ["--header", f"Authorization: {authorization}"]
    command += ["--timeout", "10s", "--script", str(_SCRIPT), f"http://127.0.0.1:{port}/", "--"]
    command += [str(requests), str(rest_ms)]
    try:
        done = subprocess.run(  # noqa: S603 -- our own words
            command, capture_output=True, text=True, check=False, timeout=seconds + _PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"wrk did not end within {seconds + _PATIENCE:g} s") from None
    if done.returncode:
        raise BenchError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return Load(**json.loads(done.stdout.splitlines()[-1]))
