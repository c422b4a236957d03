"""ARCHITECTURE.md names what is there: rooms, modules, layers and dependencies are those of the code."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gateway"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LONGEST = 150
"""Lines."""
ROOM = re.compile(r"^\| `([\w./]+)`(?:, `([\w./]+)`)? \| (.*) \|$", re.MULTILINE)
NAMES = re.compile(r"`([\w.]+)`")
FOREIGN = {"gateway.toml", "os.environ"}


def rooms() -> dict[str, str]:
    """What the table says of each room, or of a module that is none."""
    found: dict[str, str] = {}
    for first, second, told in ROOM.findall(TEXT):
        found |= {name: told for name in (first, second) if name}
    return found


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(TEXT.splitlines()) <= LONGEST


def test_the_table_has_every_room_and_no_other() -> None:
    there = {f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    there |= {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    assert rooms().keys() == there


@pytest.mark.parametrize("room", [room for room in rooms() if room.endswith("/")])
def test_the_modules_that_a_room_is_said_to_have_are_in_it(room: str) -> None:
    modules = {path.stem for path in (PACKAGE / room).glob("*.py")} | {"server", "web", "app"}
    named = {name for name in NAMES.findall(rooms()[room]) if name.isidentifier() and name not in {"many", "EVENTS"}}
    assert named <= modules


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:\w+/)+\w+\.\w+)`", TEXT))))
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (PACKAGE / path).exists() or (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+\.\w+)(?:\.\w+)*`", TEXT)) - FOREIGN))
def test_a_module_that_is_named_is_there(name: str) -> None:
    path = PACKAGE / name.replace(".", "/")
    assert path.with_suffix(".py").exists() or (PACKAGE / name).exists() or (ROOT / name).exists()


def test_the_layers_are_those_that_the_imports_are_held_to() -> None:
    (layers,) = (
        contract["layers"] for contract in PROJECT["tool"]["importlinter"]["contracts"] if contract["type"] == "layers"
    )
    said = re.search(r"Imports go downwards only: (.*?)\. `lint-imports`", TEXT, re.DOTALL)
    assert said is not None
    told = " ".join(said[1].split()).replace("`", "").split(" → ")
    assert told == [layer for layer in layers if layer != "__main__"]


def test_every_dependency_has_earned_its_line() -> None:
    names = re.compile(r"^[\w.-]+")
    extras = [
        line for name, lines in PROJECT["project"]["optional-dependencies"].items() if name != "test" for line in lines
    ]
    lines = [*PROJECT["project"]["dependencies"], *extras]
    needed = {match[0] for line in lines if (match := names.match(line))}
    rows = re.findall(r"^\| ([\w., -]+?)(?: \(extra `\w+`\))? \| ", TEXT, re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"package", "room"}
    assert needed == listed
