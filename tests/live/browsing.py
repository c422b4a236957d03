"""A real browser."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.test_deploy import find_program

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Newer browsers protect loopback addresses themselves; here they are to let everything through.
    "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests",
]

LIGHT: dict[str, Any] = {"color_scheme": "light"}
DARK: dict[str, Any] = {"color_scheme": "dark"}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
FORMS = {"light": LIGHT, "dark": DARK, "phone": PHONE, "phone in the dark": PHONE | DARK}
"""Options of a browser's context."""

_RUN_AXE = """
async () => (await axe.run()).violations.map((each) => [each.id, each.impact, each.nodes.map((node) => node.html)])
"""


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Browser]:
    """Debian's Chromium; its profile and what it keeps of its user are in ``folder``."""
    program = find_program("chromium", "on Debian, apt-get install chromium")
    environment: dict[str, str | float | bool] = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags], env=environment)
        yield browser
        browser.close()


@contextmanager
def quiet_page(browser: Browser, *, allowed: tuple[str, ...] = (), **options: Any) -> Iterator[Page]:
    """A page that has said nothing on its console but what has one of these words, and asked no other host."""
    said: list[str] = []
    hosts: set[str] = set()
    with browser.new_context(**options) as context:
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: hosts.add(request.url.partition("://")[2].partition("/")[0]))
        yield page
    assert [text for text in said if not any(word in text for word in allowed)] == []
    assert {host.partition(":")[0] for host in hosts if host} <= {"127.0.0.1"}


def barriers(page: Page, axe_script: str) -> list[tuple[str, str, list[str]]]:
    """What keeps people from using a page: the rule, how serious it is, the elements."""
    page.evaluate(axe_script)
    return [(rule, impact, elements) for rule, impact, elements in page.evaluate(_RUN_AXE)]


def axe(folder: Path) -> str:
    """The script that looks for such barriers."""
    for source in (Path(__file__).parent.parent / "pages").iterdir():
        shutil.copy(source, folder)
    find_program("npm", "on Debian, apt-get install npm")
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)  # noqa: S603 -- our own words
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
