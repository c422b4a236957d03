"""README.md and the pages of docs/, as the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_BLOCK = re.compile(
    r"(?P<before>[^\n]*)\n\n(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)\n(?P=indent)```", re.DOTALL
)
_FILE = re.compile(r"In `([\w./-]+)`:$")
_CONTINUED = "    "


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    language: str
    text: str
    file: str | None
    """The file it is the content of, where the line before it ends with "In `FILE`:"."""


@dataclass(frozen=True)
class Command:
    """A command of a console block, and what it prints."""

    line: str
    """As it is pasted; may have several lines, of which those after the first begin with four spaces."""
    output: str


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The page's blocks in these languages, in their order."""
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found["language"] in languages:
            text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
            file = _FILE.search(found["before"])
            yield Block(found["language"], text, file and file[1])


def commands(block: Block) -> Iterator[Command]:
    """What is pasted of a console block, and what is printed then."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        count = next((number for number, line in enumerate(rest) if not line.startswith(_CONTINUED)), len(rest))
        yield Command("\n".join([first, *rest[:count]]), "\n".join(rest[count:]))
