"""A real browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

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


@contextmanager
def chromium(folder: Path, *flags: str) -> Iterator[Browser]:
    """Debian's Chromium; its profile and what it keeps of its user are in ``folder``."""
    program = find_program("chromium", "on Debian, apt-get install chromium")
    environment: dict[str, str | float | bool] = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS, *flags], env=environment)
        yield browser
        browser.close()
