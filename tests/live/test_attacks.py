"""The short form of what ``make fuzz`` sends to a running gateway: the same inputs every time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.fuzz.running import LOGGED, attacked, refuse_new_words, send_bodies, send_examples, send_heads, words_run

SEED = 15
BODIES = 6_000
HEADS = 2_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose log has every statement."""
    with Cluster(replicas=0, settings=LOGGED) as cluster:
        shop.load(cluster)
        yield cluster


def test_a_gateway_under_attack_fails_nowhere_and_asks_its_server_for_nothing_new(
    cluster: Cluster, tmp_path: Path
) -> None:
    with attacked(cluster, tmp_path) as node:
        send_examples(node)
        known = words_run(cluster)
        bodies = send_bodies(node, SEED, BODIES)
        heads = send_heads(node, SEED, HEADS)
        assert bodies["200"] > BODIES / 50
        assert {"400 invalid_json", "422 invalid_arguments", "404 unknown_query"} <= bodies.keys()
        assert heads["200"] > 0
        refuse_new_words(cluster, known)
