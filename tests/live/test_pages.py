"""The gateway's own pages, in a real browser."""

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.auth import keys, keys_file
from gateway.auth.keys import Key
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.browsing import FORMS, axe, barriers, chromium, quiet_page
from tests.live.gateways import Gateway, serving

pytestmark = pytest.mark.system
QUERY = "#operations-queries-orders_of_customer"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with quiet_page(browser, allowed=("401 (Unauthorized)",)) as page:
        yield page


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


@pytest.fixture(scope="module")
def axe_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("form", FORMS)
def test_nothing_serious_keeps_anybody_from_using_the_page_of_the_catalogue(
    form: str, node: Gateway, browser: Browser, axe_script: str
) -> None:
    with quiet_page(browser, **FORMS[form]) as page:
        page.goto(f"{node.url}/docs")
        assert run_query(page).strip() == "200"
        found = barriers(page, axe_script)
        assert [each for each in found if each[1] in ("serious", "critical")] == []


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Keys, by name."""
    return {name: keys.make() for name in ("seller", "watcher")}


@pytest.fixture(scope="module")
def guarded(cluster: Cluster, made: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("guarded")
    text = ""
    for name, role in (("seller", "sales"), ("watcher", "monitor")):
        digest = keys.digest_of(made[name]).hex()
        expires = time.time() + 2 * 86400 if name == "seller" else None
        entry = Key(id=made[name][4:12], sha256=digest, name=name, roles=(role,), expires=expires)
        text = keys_file.added(text, entry)
    file = folder / "keys.toml"
    file.write_text(text)
    file.chmod(0o600)
    auth = {"auth": {"mode": "keys", "keys_file": str(file)}}
    with serving(cluster, folder / "node", auth, paths=[shop.QUERIES], ready=False) as running:
        running.wait_until_ready()
        yield running


def assert_kept_in_memory(page: Page) -> None:
    assert page.evaluate("JSON.stringify([localStorage.length, sessionStorage.length, document.cookie])") == '[0,0,""]'


def test_the_page_asks_for_a_key_and_shows_what_it_may_run(guarded: Gateway, made: dict[str, str], page: Page) -> None:
    page.goto(f"{guarded.url}/docs")
    expect(page.locator("#said")).not_to_be_empty()
    page.fill("#given", "gwk_wrong")
    page.click("#key button")
    expect(page.locator("#said")).not_to_be_empty()
    expect(page.locator(QUERY)).to_have_count(0)
    page.fill("#given", made["seller"])
    page.click("#key button")
    assert run_query(page).strip() == "200"
    assert_kept_in_memory(page)


def test_the_page_of_the_node_tells_strangers_little_and_a_monitor_all(
    guarded: Gateway, made: dict[str, str], page: Page
) -> None:
    page.goto(guarded.url)
    expect(page.locator("#verdict")).to_have_text("The gateway serves")
    expect(page.locator("#rest")).to_be_hidden()
    for wrong, said in (("gwk_wrong", "Who calls is not known"), (made["seller"], "neither the role monitor")):
        page.fill("#given", wrong)
        page.press("#given", "Enter")
        expect(page.locator("#told")).to_contain_text(said)
        expect(page.locator("#rest")).to_be_hidden()
    page.fill("#given", made["watcher"])
    page.press("#given", "Enter")
    expect(page.locator("#key")).to_be_hidden()
    expect(page.locator("#endpoints > li")).to_have_count(3)
    expect(page.locator("#keys")).to_contain_text("seller:")
    expect(page.locator("#troubles")).to_contain_text("expires in 1 day")
    assert_kept_in_memory(page)
