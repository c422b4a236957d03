"""The Model Context Protocol's own conformance suite and its inspector, over the sample shop."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving

pytestmark = pytest.mark.system

SOURCES = Path(__file__).parent.parent / "agents"
"""Versions of the suite, the inspector, and of the Node that they need, which Debian's is too old for."""

EXCEPTIONS = {
    "there are tools, but no resources, prompts, completions and log messages": [
        r"(resources|prompts)-.*",
        r"completion-complete",
        r"logging-set-level",
        r"tools-call-with-logging",
        r"sep-2549-(prompts-list|resources-list|resources-templates-list)-caching-hints",
        r"sep-2322-non-tool-incomplete",
    ],
    "the suite calls a tool of its own, which answers what no query does: fixed texts, pictures, sounds, progress": [
        r"tools-call-(simple-text|image|audio|embedded-resource|mixed-content|error|with-progress)",
        r"json-schema-2020-12-tool-found",
        r"sep-2575-server-no-log-without-loglevel",
    ],
    "no tool asks the agent for anything (elicitation, sampling, roots), or needs it to be able to do more": [
        r"tools-call-(sampling|elicitation)",
        r"elicitation-.*-general",
        r"sep-2322-.*",
        r"sep-2575-(server-rejects-undeclared-capability|missing-capability-http-400)",
        r"sep-2575-http-server-no-independent-requests-on-stream",
    ],
    "no argument is repeated in a header": [
        r"sep-2243-server-(no-xmcp-tool|decode-base64|validate-param-match|reject-invalid-param-chars)",
        r"sep-2243-server-reject-param-mismatch",
    ],
    "tasks are an extension, for what takes longer than a query may": [r"tasks-.*", r"sep-2663-.*"],
}
"""Checks that fail, with the reason of each."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the programs are installed."""
    folder = tmp_path_factory.mktemp("agents")
    for source in SOURCES.iterdir():
        shutil.copy(source, folder)
    # Not `npm ci`: that wants to know what an optional package for Windows is, which not every mirror has.
    run(folder, "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    return folder


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    settings = {"mcp": {"enabled": True}}
    with serving(cluster, tmp_path_factory.mktemp("mcp"), settings, paths=[shop.QUERIES]) as running:
        yield running


def run(folder: Path, *command: str, fails: bool = False) -> str:
    """What a program prints; ``fails``: it may say that something is wrong."""
    environment = {**os.environ, "PATH": f"{folder / 'node_modules' / '.bin'}:{os.environ['PATH']}"}
    done = subprocess.run(  # noqa: S603 -- our own words
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert fails or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def inspected(tools: Path, node: Gateway, method: str, *more: str) -> dict[str, Any]:
    """What the inspector gets of a method."""
    words = ["mcp-inspector", "--cli", f"{node.url}/mcp", "--transport", "http", "--method", method, *more]
    result: dict[str, Any] = json.loads(run(tools, *words))
    return result


@pytest.mark.parametrize(("revision", "passed"), [("2026-07-28", 96), ("2025-11-25", 35)])
def test_all_that_is_offered_conforms(tools: Path, node: Gateway, revision: str, passed: int) -> None:
    out = tools / f"results-{revision}"
    command = ["conformance", "server", "--url", f"{node.url}/mcp", "--requirements", revision, "-o", str(out)]
    said = run(tools, *command, fails=True)
    checks = [check for file in sorted(out.glob("*/checks.json")) for check in json.loads(file.read_bytes())]
    counts = Counter(check["status"] for check in checks)
    excepted = [pattern for patterns in EXCEPTIONS.values() for pattern in patterns]
    failed = {check["id"]: check.get("errorMessage") for check in checks if check["status"] == "FAILURE"}
    unexpected = {id_: why for id_, why in failed.items() if not any(re.fullmatch(each, id_) for each in excepted)}
    assert unexpected == {}, said
    assert counts["SUCCESS"] == passed, counts


def test_the_inspector_lists_tools_and_finds_no_fault_in_their_schemas(tools: Path, node: Gateway) -> None:
    listed = inspected(tools, node, "tools/list", "--strict")
    assert [tool["name"] for tool in listed["tools"]] == sorted(tool["name"] for tool in listed["tools"])
    assert {"create_order", "find_customers", "reports_daily_totals"} <= {tool["name"] for tool in listed["tools"]}


def test_the_inspector_reads_and_writes_and_a_repeated_write_is_the_first_one(tools: Path, node: Gateway) -> None:
    called = ["--tool-name", "find_customers", "--tool-arg", "name=Ada", "max_rows=2"]
    assert inspected(tools, node, "tools/call", *called)["structuredContent"]["row_count"] == 2
    called = ["--tool-name", "create_order", "--tool-arg", "customer_id=7", f"idempotency_key={uuid4().hex}"]
    first, again = (inspected(tools, node, "tools/call", *called)["structuredContent"] for _ in range(2))
    assert first == again
    assert first["outcome"] == "committed"
