"""The HTTP suite with PgBouncer between the gateway and its servers, in session and in transaction mode."""

from collections.abc import Iterator

import pytest

from gateway.demo.cluster import Cluster
from tests.live import test_http
from tests.live.gateways import Gateway, serving, with_tables
from tests.live.poolers import pgbouncer

pytestmark = pytest.mark.system
# The suite itself, with the fixtures of this module in the place of its own.
globals().update({name: found for name, found in vars(test_http).items() if name.lower().startswith("test")})


@pytest.fixture(scope="module")
def tables(cluster: Cluster) -> Iterator[Cluster]:
    with with_tables(cluster):
        yield cluster


@pytest.fixture(scope="module", params=["session", "transaction"])
def node(
    tables: Cluster, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "pooler").mkdir()
    with pgbouncer(tables, folder / "pooler", request.param) as dsns:
        prepares = {
            f"endpoints.{name}": {"dsn": dsn, "prepare": request.param == "session"} for name, dsn in dsns.items()
        }
        with serving(tables, folder, {"server": test_http.SETTINGS, **prepares}, endpoints=dsns) as running:
            yield running
