"""Compiles query files that are given as text."""

from pathlib import Path

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.query import (
    Catalogue,
    Query,
)
from gateway.faults import FaultsFound

GROUPS = {"read": "read", "write": "write", "reporting": "read", "batch": "write"}
TIMEOUT = 5.0


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return folder


class Compile:
    """Compiles texts given in place."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, text: str, groups: dict[str, str] = GROUPS) -> Catalogue:
        return compile_catalogue([write(self.folder, a=text)], groups=groups, timeout=TIMEOUT)

    def query(self, text: str) -> Query:
        (query,) = self(text).queries.values()
        return query

    def faults(self, text: str, groups: dict[str, str] = GROUPS) -> list[tuple[int, str]]:
        with pytest.raises(FaultsFound) as caught:
            self(text, groups)
        assert all(fault.where == str(self.folder / "a.sql") for fault in caught.value.faults)
        return [(fault.line, fault.message) for fault in caught.value.faults]
