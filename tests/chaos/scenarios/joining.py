"""Reads of many callers at once, which are answered together, while servers and sessions end under them."""

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from tests.chaos import servers
from tests.chaos.asking import get
from tests.chaos.results import Figure
from tests.chaos.rig import Node, Stage
from tests.chaos.scenarios.dying import WARM

CALLERS = 48
_KEYS = 1000


def joined(stage: Stage) -> Iterator[Figure]:
    """Each caller asks for a row of its own: a replica is killed, another one frozen, all sessions are ended."""
    cluster = stage.cluster
    killed, frozen, *_ = cluster.replicas
    over = Event()
    with stage.serve(cluster) as node, ThreadPoolExecutor(CALLERS) as threads:
        asking = [threads.submit(_ask, node, caller, over) for caller in range(CALLERS)]
        try:
            time.sleep(3 * WARM)
            killed.kill()
            time.sleep(1.0)
            frozen.freeze()
            time.sleep(1.5)
            frozen.thaw()
            killed.launch()
            servers.streams(killed)
            servers.terminate_backends(cluster.servers)
            time.sleep(1.0)
            told = json.loads(node.ask(get("/queries/look")).body)
        finally:
            over.set()
        seen, slowest = Counter[str](), 0.0
        for each in asking:
            counts, longest = each.result()
            seen += counts
            slowest = max(slowest, longest)
    stage.remark(f"{seen.total()} reads of {CALLERS} callers: {dict(seen)}")
    yield Figure("reads", seen.total(), 1000, least=True)
    yield Figure("answered another's row", seen["another's"], 0)
    yield Figure("failed reads", seen.total() - seen["200"] - seen["another's"], 0)
    yield Figure("slowest read", slowest, 1.5, "s")
    yield Figure("workers that say they join", int(told["joined"] is True), 1, least=True)


def _ask(node: Node, caller: int, over: Event) -> tuple[Counter[str], float]:
    """Ask for one row after the other; how often what came, and the longest that an answer took."""
    seen, slowest = Counter[str](), 0.0
    connection = http.client.HTTPConnection("127.0.0.1", node.port, timeout=30)
    number = caller
    while not over.is_set():
        number += CALLERS
        asked = number % _KEYS + 1
        began = time.monotonic()
        connection.request("POST", "/query/look", json.dumps({"n": asked}))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        slowest = max(slowest, time.monotonic() - began)
        is_own = answer.status != http.client.OK or body["row"]["n"] == asked
        seen[str(answer.status) if is_own else "another's"] += 1
    connection.close()
    return seen, slowest
