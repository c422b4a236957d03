"""What the tests of proxies in front share: two gateways, and a published example made to fit this machine."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.demo.cluster import Cluster
from tests.live.gateways import QUERIES, Gateway, serving, with_tables

Two = tuple[Gateway, Gateway]


@contextmanager
def two_gateways(cluster: Cluster, folders: list[Path], settings: Mapping[str, Mapping[str, Any]]) -> Iterator[Two]:
    with (
        with_tables(cluster),
        serving(cluster, folders[0], settings, paths=[QUERIES]) as one,
        serving(cluster, folders[1], settings, paths=[QUERIES]) as two,
    ):
        yield one, two


def fitted(example: Path, gateways: Two, others: Mapping[str, str]) -> str:
    """The example's text with the gateways' addresses and ``others``, each of which must stand in it once."""
    addresses = {"10.0.0.11:8080": f"127.0.0.1:{gateways[0].port}", "10.0.0.12:8080": f"127.0.0.1:{gateways[1].port}"}
    return changed(example, {**addresses, **others})


def changed(example: Path, others: Mapping[str, str]) -> str:
    """The example's text with these changes; what is changed must stand in it once."""
    text = example.read_text()
    for written, real in others.items():
        assert text.count(written) == 1, written
        text = text.replace(written, real)
    return text
