"""README.md and the pages of docs/: what can be tried without a server; the rest is in ``tests.live``."""

import json
import re
from pathlib import Path

import pytest
import yaml

from gateway.settings import load_settings
from gateway.web.problem import STATUS
from tests import measured
from tests.bench import joined
from tests.bench import page as bench_page
from tests.bench.results import costs_from_json
from tests.bench.results import from_json as bench_results
from tests.chaos.report import page as chaos_page
from tests.documentation import PAGES, ROOT, blocks, commands

LANGUAGES = {"", "console", "json", "python", "sql", "toml", "yaml"}
"""Each has a test that tries its blocks; without a language it is a drawing or what installs."""


def names(pages: tuple[Path, ...]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


each_page = pytest.mark.parametrize("page", PAGES, ids=names(PAGES))


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 180


@each_page
def test_every_block_is_of_a_kind_that_is_tried(page: Path) -> None:
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert set(fences) <= LANGUAGES
    found = list(blocks(page, *LANGUAGES))
    assert len(found) * 2 == len(fences), "a block has an empty line before it, and its fences are indented alike"
    assert [block.text for block in found if block.language == "console" and not list(commands(block))] == []


@each_page
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("https://"):
            path, _, section = target.partition("#")
            linked = page.parent / path if path else page
            assert linked.exists(), target
            assert linked.resolve().is_relative_to(ROOT), target
            assert not section or section in sections(linked), target


def sections(page: Path) -> set[str]:
    """The names under which GitHub links to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_block_of_settings_can_be_served(page: Path, tmp_path: Path) -> None:
    (tmp_path / "pg").write_text("secret\n")
    for block in blocks(page, "toml"):
        if block.file and block.file.endswith(".test.toml"):
            continue
        file = tmp_path / "gateway.toml"
        file.write_text(block.text.replace("/run/secrets", str(tmp_path)))
        complete = "[endpoints." in block.text
        load_settings(file, {} if complete else {"DATABASE_URL": "postgresql://gateway@127.0.0.1/shop"})


@each_page
def test_every_block_of_json_and_yaml_can_be_read(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block.text)
    for block in blocks(page, "yaml"):
        assert isinstance(yaml.safe_load(block.text), dict)


def test_the_tables_show_what_was_measured_last() -> None:
    results = bench_results(json.loads(measured.BENCH.read_text()))
    assert measured.part(measured.README, "bench") == bench_page.readme(results)
    assert measured.part(measured.PAGE, "bench") == bench_page.page(results)
    costs = costs_from_json(json.loads(measured.COSTS.read_text()))
    assert measured.part(measured.PAGE, "costs") == bench_page.costs_page(costs)
    assert measured.part(measured.PAGE, "joined") == joined.table(json.loads(measured.JOINED.read_text()))
    assert measured.part(measured.PAGE, "chaos") == chaos_page(json.loads(measured.CHAOS.read_text()))


def test_every_code_has_an_entry_with_its_status_and_a_place_in_the_table() -> None:
    statuses = {kind.code: str(status) for kind, status in STATUS.items()}
    operations, queries = ((ROOT / "docs" / name).read_text() for name in ("operations.md", "queries.md"))
    assert dict(re.findall(r"^### `(\w+)` \((\d+)\)$", operations, re.MULTILINE)) == statuses
    lines = re.findall(r"^\| (\d{3}[^|]*) \| (.+) \|$", queries, re.MULTILINE)
    table = {code: status for status, codes in lines for code in re.findall(r"`(\w+)`", codes)}
    assert table.keys() == statuses.keys() - {"client_closed_request"}
    assert [code for code, status in table.items() if statuses[code] not in status] == []
