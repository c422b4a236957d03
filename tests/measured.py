"""The parts of the documentation that ``make bench`` and ``make chaos`` write: figures, between two comments."""

import re
from datetime import UTC, datetime
from pathlib import Path

from tests.documentation import ROOT

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "measured.md"
BENCH = ROOT / "docs" / "bench.json"
COSTS = ROOT / "docs" / "costs.json"
JOINED = ROOT / "docs" / "joined.json"
CHAOS = ROOT / "docs" / "chaos.json"
"""What the parts called ``bench``, ``costs``, ``joined`` and ``chaos`` are made from."""


def today() -> str:
    """The date that is written beside what is measured now."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def part(page: Path, name: str) -> str:
    """What stands on the page between the comments of this part."""
    return _find(page, name)[2]


def write_part(page: Path, name: str, text: str) -> None:
    """Put this between the comments of the part, in place of what was there."""
    found = _find(page, name)
    page.write_text(found.string[: found.start(2)] + text + found.string[found.end(2) :], encoding="utf-8")


def _find(page: Path, name: str) -> "re.Match[str]":
    pattern = rf"(<!-- {name}: written by make \w+ -->\n\n)(.*?)(\n\n<!-- {name}: end -->)"
    found = re.search(pattern, page.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise LookupError(f"{page} has no part {name}")
    return found
