"""Every test has a folder of its own, and nothing of ours in the environment."""

from pathlib import Path

import pytest

from tests.cli.starting import settle


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settle(tmp_path, monkeypatch)
    return tmp_path
