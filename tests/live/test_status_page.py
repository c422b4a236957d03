"""The page of a node's state, in a real browser, while servers leave and return."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.browsing import FORMS, axe, barriers, chromium, quiet_page
from tests.live.gateways import Gateway, serving

pytestmark = pytest.mark.system

LOST = ("net::ERR_INTERNET_DISCONNECTED",)
"""What a browser says of requests without a network."""
PATIENCE = 60_000
"""Milliseconds."""
ANSWERS = "() => performance.getEntriesByName(new URL('/status.json', location)).length"

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def own() -> Iterator[Cluster]:
    """Servers that may be killed."""
    with Cluster(replicas=1) as cluster:
        shop.load(cluster)
        yield cluster


@pytest.fixture(scope="module")
def node(own: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(own, tmp_path_factory.mktemp("page"), paths=[shop.QUERIES]) as running:
        yield running


@pytest.fixture(scope="module")
def axe_script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return axe(tmp_path_factory.mktemp("axe"))


def card(page: Page, name: str) -> Locator:
    """A server's card."""
    return page.locator(f'#endpoints > li[data-key="{name}"]')


def assert_in(page: Page, name: str) -> None:
    expect(card(page, name).locator(".state")).to_contain_text("in the rotation, for")


@pytest.mark.parametrize("worker", ["gateway", "gthread", "sync"])
def test_a_replica_is_seen_to_leave_and_to_return(worker: str, own: Cluster, tmp_path: Path, browser: Browser) -> None:
    (replica,) = own.replicas
    settings = {"server": {"worker": worker, "workers": 2}}
    with serving(own, tmp_path / "node", settings, paths=[shop.QUERIES]) as node, quiet_page(browser) as page:
        page.goto(node.url)
        for name in ("primary", "replica1"):
            assert_in(page, name)
        line = page.locator('#wires path[data-key="read to replica1"]')
        expect(line).to_have_attribute("data-state", "serves")
        replica.kill()
        expect(page.locator("#verdict")).to_have_text("Degraded: replica1 is out")
        expect(page.locator("#announcement")).to_contain_text("replica1 is out")
        expect(page.locator("#troubles")).to_contain_text("replica1 refuses connections")
        expect(page).to_have_title("! Degraded: replica1 is out · pg-query-gateway")
        expect(card(page, "replica1").locator(".state")).to_contain_text("out of the rotation")
        expect(line).to_have_attribute("data-state", "out")
        expect(page.locator("#events")).to_contain_text("endpoint replica1: out of the rotation, refused")
        replica.start()
        assert_in(page, "replica1")
        expect(line).to_have_attribute("data-state", "serves")
        expect(page.locator("#verdict")).not_to_contain_text("Degraded")
        seen = page.locator("#events li").first
        expect(seen).to_contain_text("endpoint replica1: in the rotation as replica")
        # Another page knows of it, too, whichever worker it asks.
        page.reload()
        expect(page.locator("#events")).to_contain_text("endpoint replica1: out of the rotation, refused")
        label = card(page, "replica1").locator('[data-part="pingPlot"]')
        expect(label).to_have_attribute(
            "aria-label", re.compile(r"^ping of replica1 .*; out of the rotation for \d+ of")
        )


def test_calls_are_seen_by_query_a_moment_later(node: Gateway, browser: Browser) -> None:
    with quiet_page(browser) as page:
        page.goto(node.url)
        assert_in(page, "primary")
        for _ in range(20):
            assert node.run("orders_of_customer", customer_id=7).status_code == 200
            assert node.run("orders_of_customer", customer_id="x").status_code == 422
        row = page.locator('#queries tr[data-key="orders_of_customer"]')
        expect(row).to_be_visible()
        expect(row.locator('[data-key="refused"]')).to_have_text("50 %")
        expect(row.locator('[data-key="failed"]')).to_have_text("0 %")
        expect(row.locator('[data-key="p99"]')).to_contain_text("s")
        header = page.locator('#columns th[data-key="name"]')
        header.locator("button").focus()
        page.keyboard.press("Enter")
        expect(header).to_have_attribute("aria-sort", "ascending")


def test_whoever_wants_to_read_stops_it_and_it_asks_no_more(node: Gateway, browser: Browser) -> None:
    with quiet_page(browser) as page:
        page.goto(node.url)
        assert_in(page, "primary")
        page.locator("#pause").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#fresh")).to_contain_text("paused")
        page.wait_for_load_state("networkidle")
        asked = page.evaluate(ANSWERS)
        page.wait_for_timeout(1500)
        assert page.evaluate(ANSWERS) == asked
        page.keyboard.press("Enter")
        expect(page.locator("#fresh")).to_have_text("live")


def test_a_gateway_that_does_not_answer_is_told_and_what_is_shown_is_called_old(
    node: Gateway, browser: Browser
) -> None:
    with quiet_page(browser, allowed=LOST) as page:
        page.goto(node.url)
        assert_in(page, "primary")
        page.context.set_offline(True)
        expect(page.locator("#verdict")).to_have_text("The gateway does not answer")
        expect(page.locator("#summary")).to_contain_text("s old")
        expect(page.locator("#fresh")).to_contain_text("as of")
        page.context.set_offline(False)
        expect(page.locator("#fresh")).to_have_text("live")
        expect(page.locator("#verdict")).not_to_have_text("The gateway does not answer")


@pytest.mark.parametrize("form", FORMS)
def test_everybody_can_use_it(form: str, own: Cluster, node: Gateway, browser: Browser, axe_script: str) -> None:
    """Also when something is wrong, which has colours of its own."""
    with quiet_page(browser, **FORMS[form]) as page:
        page.goto(node.url)
        assert_in(page, "primary")
        assert node.run("orders_of_customer", customer_id=7).status_code == 200
        expect(page.locator("#queries tr")).not_to_have_count(0)
        assert barriers(page, axe_script) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        (replica,) = own.replicas
        replica.stop()
        try:
            expect(page.locator("#verdict")).to_have_text("Degraded: replica1 is out")
            assert barriers(page, axe_script) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        finally:
            replica.start()


def test_it_is_on_the_listener_for_operators_too(node: Gateway) -> None:
    assert node.operator.get("/").headers["Content-Type"] == "text/html; charset=utf-8"
    assert node.operator.get("/status/status.js").status_code == 200
    assert node.operator.get("/status.json").json()["health"]["endpoints"].keys() == {"primary", "replica1"}
