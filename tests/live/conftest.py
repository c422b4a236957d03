"""One embedded cluster for all tests against real servers. A test that harms its servers starts a cluster itself."""

from collections.abc import Iterator

import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A primary and two replicas with the sample shop; left as it was found, but for rows of the shop."""
    with Cluster(replicas=2) as cluster:
        shop.load(cluster)
        yield cluster
