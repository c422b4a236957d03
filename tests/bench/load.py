"""Load by wrk, and what it measured."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_PATIENCE = 30.0  # seconds that wrk may take beyond the time it was given


class BenchError(Exception):
    """The measurement cannot be had; the message is for people."""


class Load(NamedTuple):
    """What one run of wrk did and saw."""

    requests: int
    seconds: float
    p99_ms: float
    failures: int
    """Connections, reads, writes and time-outs that failed, and answers of 400 and above."""


def find_wrk() -> str:
    """Path of wrk; BenchError says how to install it."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise BenchError("wrk is not installed. On Debian and Ubuntu: apt-get install wrk")
    return wrk


def run_wrk(url: str, script: Path, *arguments: str, connections: int, seconds: int) -> Load:
    """Run wrk once with a script that ends by printing a Load as JSON; keep-alive connections, one thread."""
    command = [find_wrk(), "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", str(script), url, "--", *arguments]
    done = subprocess.run(  # noqa: S603 -- our own words
        command, capture_output=True, text=True, check=False, timeout=seconds + _PATIENCE
    )
    if done.returncode:
        raise BenchError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return Load(**json.loads(done.stdout.splitlines()[-1]))
