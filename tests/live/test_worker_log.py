"""Standard output and error as they are found: pipes that nobody reads, descriptors that are closed."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.live import strange
from tests.live.workers import Node, configure, environment, wait_until

CLOSED = """
import os, sys
for descriptor in map(int, sys.argv[1].split(",")):
    os.close(descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that takes nothing more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"." * 4096)
    os.set_blocking(writer, True)
    yield reader, writer
    os.close(reader)
    with suppress(OSError):
        os.close(writer)


def read_until(reader: int, pattern: bytes) -> bytes:
    """Read on until the pattern is there."""
    seen = b""
    ends = time.monotonic() + 15
    os.set_blocking(reader, False)
    while not re.search(pattern, seen):
        assert time.monotonic() < ends, seen[-3000:]
        with suppress(BlockingIOError):
            seen += os.read(reader, 1 << 20)
            continue
        time.sleep(0.01)
    return seen


def test_a_log_that_nobody_reads_stops_neither_worker_nor_master(tmp_path: Path, full_pipe: tuple[int, int]) -> None:
    reader, writer = full_pipe
    node = strange.start(tmp_path, stderr=writer)
    try:
        wait_until(node.is_ready, "ready")
        before = node.workers()
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: set(node.workers()).isdisjoint(before) and node.workers(), "the master replaces its worker")
        wait_until(node.is_ready, "ready again")
        slowest = 0.0
        for _ in range(5000):
            began = time.monotonic()
            assert node.get("/raise").status == 500
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 5
        assert node.get("/health/live").status == 200
        log = read_until(reader, rb"\d+ more events of the kind bug_found were not logged")
        if b"was sent SIGKILL" not in log:  # the master waits for the same pipe, and may be the later one
            read_until(reader, rb"was sent SIGKILL")
    finally:
        node.close()


@pytest.mark.parametrize("closed", ["1", "2", "0,1,2"])
def test_it_serves_with_standard_streams_closed(cluster: Cluster, tmp_path: Path, closed: str) -> None:
    address = f"127.0.0.1:{find_port()}"
    command = configure(cluster, tmp_path, address)
    program = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", CLOSED, closed, *command], env=environment(), cwd=tmp_path, start_new_session=True
    )
    node = Node(program, address=address, log=tmp_path / "none", context=None)
    try:
        wait_until(lambda: program.poll() is not None or node.is_ready(), "ready")
        assert program.poll() is None
        for pid in (program.pid, *node.workers()):
            for descriptor in closed.split(","):
                assert Path(f"/proc/{pid}/fd/{descriptor}").resolve() == Path("/dev/null")
        assert node.run("echo", value="a").json() == {"value": "a"}
        assert node.end() == 0
    finally:
        node.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder for the node, beside the code."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".home-") as folder:
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_it_serves_where_nothing_but_the_runtime_directory_can_be_written(cluster: Cluster, home: Path) -> None:
    address = f"127.0.0.1:{find_port()}"
    command = configure(cluster, home, address)
    # The code, and so this folder, may itself be in a folder for temporary files.
    script = "set -e\n" + "".join(
        f"mount --bind {folder} {folder}\nmount -o remount,bind,{access} {folder}\n"
        for folder, access in [("/tmp", "ro"), ("/var/tmp", "ro"), ("/dev/shm", "ro"), (home, "rw")]  # noqa: S108
    )
    log = home / "log"
    with log.open("ab") as output:
        program = subprocess.Popen(  # noqa: S603 - our own words
            ["unshare", "-m", "sh", "-c", f'{script}exec "$@"', "sh", *command],  # noqa: S607
            env=environment(),
            cwd="/",
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    node = Node(program, address=address, log=log, context=None)
    try:
        wait_until(lambda: program.poll() is not None or node.is_ready(), "ready")
        assert program.poll() is None, node.log
        assert node.run("echo", value="a").json() == {"value": "a"}
        assert node.end() == 0
    finally:
        node.close()
