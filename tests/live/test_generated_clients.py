"""Code that is generated from the typed document of the sample shop compiles under strict rules and calls it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.gateways import Gateway, serving

SOURCES = Path(__file__).parent.parent / "clients"


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(cluster, tmp_path_factory.mktemp("clients"), paths=[shop.QUERIES]) as running:
        yield running


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(  # noqa: S603 -- our own words
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check(told: dict[str, Any]) -> None:
    assert len(told["totals"]) == 2
    assert (told["outcome"], told["status"]) == ("committed", "open")
    assert (told["code"], told["faults"]) == ("invalid_arguments", ["max_rows"])


@pytest.mark.system
def test_a_typescript_client(node: Gateway, tmp_path: Path) -> None:
    for source in SOURCES.iterdir():
        if source.is_file():
            shutil.copy(source, tmp_path)
    run(tmp_path, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    run(tmp_path, "npx", "openapi-typescript", f"{node.url}/openapi.json", "--output", "schema.d.ts")
    run(tmp_path, "npx", "tsc")
    check(json.loads(run(tmp_path, "node", "built/main.js", node.url, uuid4().hex)))


def test_a_python_client(node: Gateway, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_bytes(node.client.get("/openapi.json").content)
    shutil.copy(SOURCES / "main.py", tmp_path)
    run(
        tmp_path,
        "openapi-python-client",
        "generate",
        "--path",
        "openapi.json",
        "--meta",
        "none",
        "--output-path",
        "shop",
    )
    # Not its client.py, which is the same for every document and not strict.
    run(tmp_path, "mypy", "--strict", "--follow-imports=silent", "main.py", "shop/api", "shop/models")
    check(json.loads(run(tmp_path, sys.executable, "main.py", node.url, uuid4().hex)))
