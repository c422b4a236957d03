"""Takes the pictures of the pages in docs/: ``make pictures``.

Over a cluster of its own under a little load, with one replica that was stopped: what a page is for is trouble.
"""

import base64
import random
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.live.browsing import DARK, LIGHT, PHONE, chromium
from tests.live.gateways import Gateway, serving

DOCS = Path(__file__).parents[1] / "docs"
WHOLE = """
() => ({x: 0, y: 0, width: document.documentElement.scrollWidth, height: Math.min(1700, document.body.scrollHeight)})
"""
QUALITY = 82
LARGEST = 150_000
"""Bytes of a picture."""
WATCHED = 75_000
"""Milliseconds for which a page is looked at, so that its charts have something to show."""
WIDE: dict[str, Any] = {"viewport": {"width": 1180, "height": 860}}
PICTURES: dict[str, dict[str, Any]] = {
    "status-light": WIDE | LIGHT,
    "status-dark": WIDE | DARK,
    "status-phone": PHONE | LIGHT,
}
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("orders_of_customer", {"max_rows": 5}),
    ("orders_of_customer", {"max_rows": 50}),
    ("customer", {}),
    ("create_order", {}),
    ("reports.best_customers", {}),
    ("products_tagged", {"tags": ["garden"]}),
    ("product", {"sku": "SKU-0197"}),
)


@contextmanager
def busy(node: Gateway) -> Iterator[None]:
    """The node under a little load."""
    ended = threading.Event()
    chance = random.Random(7)  # noqa: S311 -- nothing is to be kept from anybody

    def call() -> None:
        with node.new_client() as client:
            while not ended.wait(chance.uniform(0.0, 0.08)):
                name, arguments = chance.choice(CALLS)
                key = {"customer": "id"}.get(name, "customer_id")
                of = {} if name.startswith(("reports", "product")) else {key: chance.randint(1, 9000)}
                client.post(f"/query/{name}", json=arguments | of)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def take(browser: Browser, cluster: Cluster, node: Gateway) -> None:
    """Take all pictures of one moment."""
    pages = {name: browser.new_context(**options).new_page() for name, options in PICTURES.items()}
    for page in pages.values():
        page.goto(node.url)
    first = next(iter(pages.values()))
    first.wait_for_timeout(WATCHED / 3)
    cluster.replicas[1].kill()
    first.wait_for_timeout(WATCHED / 6)
    cluster.replicas[1].start()
    first.wait_for_timeout(WATCHED / 3)
    cluster.replicas[0].kill()
    first.wait_for_timeout(WATCHED / 6)
    for name, page in pages.items():
        expect(page.locator("#verdict")).to_have_text("Degraded: replica1 is out")
        # Not by playwright's own function, which knows no WebP: that takes a third of the room.
        whole = page.evaluate(WHOLE) | {"scale": 1}
        asked = {"format": "webp", "quality": QUALITY, "captureBeyondViewport": True, "clip": whole}
        taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", asked)
        picture = base64.b64decode(taken["data"])
        (DOCS / f"{name}.webp").write_bytes(picture)
        print(f"{name}.webp: {len(picture):,} bytes")
        assert len(picture) <= LARGEST


def main() -> None:
    """Start everything, and take them."""
    with (
        Cluster(replicas=2) as cluster,
        tempfile.TemporaryDirectory(prefix="gateway-pictures-") as folder,
        chromium(Path(folder) / "browser") as browser,
    ):
        shop.load(cluster)
        settings = {"server": {"workers": 2}}
        with serving(cluster, Path(folder) / "node", settings, paths=[shop.QUERIES]) as node, busy(node):
            take(browser, cluster, node)


if __name__ == "__main__":
    main()
