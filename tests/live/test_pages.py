"""The gateway's own pages, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.browsing import chromium
from tests.live.gateways import Gateway, serving

pytestmark = pytest.mark.system
QUERY = "#operations-queries-orders_of_customer"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that has said nothing on its console and asked no other host."""
    opened = browser.new_page()
    said: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: hosts.add(request.url.partition("://")[2].partition("/")[0]))
    yield opened
    opened.close()
    assert [text for text in said if "401 (Unauthorized)" not in text] == []
    assert {host.partition(":")[0] for host in hosts if host} <= {"127.0.0.1"}


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(cluster, tmp_path_factory.mktemp("pages"), paths=[shop.QUERIES]) as running:
        yield running


def run_query(page: Page) -> str:
    page.click(f"{QUERY} .opblock-summary-control")
    page.click(f"{QUERY} .execute")
    status = page.locator(f"{QUERY} .live-responses-table .response-col_status").nth(1)
    expect(status).to_be_visible()
    return status.inner_text()


def test_a_query_runs_from_the_page_of_the_catalogue(node: Gateway, page: Page) -> None:
    page.goto(f"{node.url}/docs")
    assert run_query(page).strip() == "200"
    expect(page.locator("#key")).to_be_hidden()


def test_the_page_asks_for_a_key_and_shows_what_it_may_run(cluster: Cluster, tmp_path: Path, page: Page) -> None:
    made = keys.make()
    entry = Key(id=made[4:12], sha256=keys.digest_of(made).hex(), name="seller", roles=("sales",))
    file = tmp_path / "keys.toml"
    file.write_text(keys_file.added("", entry))
    file.chmod(0o600)
    auth = {"auth": {"mode": "keys", "keys_file": str(file)}}
    with serving(cluster, tmp_path / "node", auth, paths=[shop.QUERIES], ready=False) as guarded:
        guarded.wait_until_ready()
        page.goto(f"{guarded.url}/docs")
        expect(page.locator("#said")).not_to_be_empty()
        page.fill("#given", "gwk_wrong")
        page.click("#key button")
        expect(page.locator("#said")).not_to_be_empty()
        expect(page.locator(QUERY)).to_have_count(0)
        page.fill("#given", made)
        page.click("#key button")
        assert run_query(page).strip() == "200"
        assert (
            page.evaluate("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])") == '[0,0,""]'
        )
