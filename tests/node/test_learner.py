"""What the servers say of the queries reaches every worker, over the connections there are."""

import fcntl
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.query import Catalogue
from gateway.catalogue.types import Form, Signature
from gateway.demo.cluster import Cluster
from gateway.errors import BackendUnavailable, NoEndpoint
from gateway.execution.plans import Plans
from gateway.node import learnt as learnt_module
from gateway.node.learner import Learner
from gateway.node.learnt import Learnt
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.connection import Connection
from gateway.postgres.driver import Address, Driver
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from tests.live.sessions import wait_until

SIGNATURE = Signature(parameters=(), columns=(), form=Form.PLAIN)
LEARNT = Learnt({"q": (SIGNATURE, 1.0)}, {})


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    folder = tmp_path / "queries"
    folder.mkdir()
    (folder / "q.sql").write_text("-- name: q$\nSELECT 1\n")
    return compile_catalogue([folder], groups={"read": "read", "write": "write"}, timeout=5.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with Cluster(replicas=0) as cluster:
        yield cluster


def published(directory: Path, catalogue: Catalogue) -> Path:
    return directory / f"signatures-{catalogue.hash[:16]}.json"


def pool_of(server: Cluster, *, probed: bool) -> Pool[Connection]:
    rotation = Rotation(views=LocalViews(["primary"]))
    if probed:
        rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))
    group = Group(
        GroupConfig(name="read", access_write=False, endpoints=("primary",), size=1, queue_limit=0),
        driver=Driver({"primary": Address(dsn=server.primary.dsn())}, read_only=True),
        rotation=rotation,
        waits=ThreadWaits(),
    )
    return Pool(rotation=rotation, groups=[group])


def learner_of(
    directory: Path | None, catalogue: Catalogue, server: Cluster, *, probed: bool = True
) -> tuple[Learner, Plans, Pool[Connection]]:
    plans, pool = Plans(catalogue), pool_of(server, probed=probed)
    return Learner(plans=plans, pool=pool, catalogue=catalogue, directory=directory), plans, pool


def test_what_another_worker_has_learnt_is_known_from_the_start(
    tmp_path: Path, catalogue: Catalogue, server: Cluster
) -> None:
    published(tmp_path, catalogue).write_bytes(msgspec.json.encode(LEARNT))
    _, plans, _ = learner_of(tmp_path, catalogue, server, probed=False)
    assert plans.complete
    assert plans.known("q").signature == SIGNATURE
    assert plans.known("q").learnt_at == 1.0


def test_what_another_worker_learns_meanwhile_is_adopted_without_a_connection(
    tmp_path: Path, catalogue: Catalogue, server: Cluster
) -> None:
    learner, plans, _ = learner_of(tmp_path, catalogue, server, probed=False)
    assert not plans.complete
    published(tmp_path, catalogue).write_bytes(msgspec.json.encode(LEARNT))
    learner.learn()
    assert plans.complete


def test_while_another_worker_is_at_it_no_connection_is_taken(
    tmp_path: Path, catalogue: Catalogue, server: Cluster
) -> None:
    learner, plans, _ = learner_of(tmp_path, catalogue, server, probed=False)
    with published(tmp_path, catalogue).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        learner.learn()
    with pytest.raises(NoEndpoint):
        learner.learn()
    assert not plans.complete


def test_one_that_is_stopped_while_at_it_is_not_waited_for_for_ever(
    tmp_path: Path, catalogue: Catalogue, server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learnt_module, "PATIENCE", 0.0)
    learner, _, _ = learner_of(tmp_path, catalogue, server, probed=False)
    with published(tmp_path, catalogue).with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(NoEndpoint):
            learner.learn()


def test_queries_are_learnt_over_a_connection_of_the_pool(
    tmp_path: Path, catalogue: Catalogue, server: Cluster
) -> None:
    learner, plans, pool = learner_of(tmp_path, catalogue, server)
    learner.start()
    try:
        wait_until(lambda: plans.complete)
    finally:
        learner.stop()
    assert plans.known("q").signature is not None
    assert pool["read"].stats().leased == 0
    assert learner_of(tmp_path, catalogue, server, probed=False)[1].complete
    pool.close()


def test_nothing_is_asked_before_a_server_has_answered(
    tmp_path: Path, catalogue: Catalogue, server: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    learner, plans, pool = learner_of(tmp_path, catalogue, server, probed=False)
    learner.start()
    try:
        pool.rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))
        wait_until(lambda: plans.complete)
    finally:
        learner.stop()
    assert not caplog.messages
    pool.close()


def test_what_was_learnt_before_a_worker_died_is_not_learnt_again(
    tmp_path: Path, catalogue: Catalogue, server: Cluster
) -> None:
    published(tmp_path, catalogue).write_bytes(msgspec.json.encode(msgspec.structs.replace(LEARNT, complete=False)))
    learner, plans, _ = learner_of(tmp_path, catalogue, server, probed=False)
    assert plans.get(catalogue.queries["q"]).plan
    learner.learn()  # nothing is left to be asked
    assert plans.complete
    assert learner_of(tmp_path, catalogue, server, probed=False)[1].complete


def test_what_is_asked_for_is_learnt_first(tmp_path: Path, server: Cluster) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "q.sql").write_text("".join(f"-- name: q{number}$\nSELECT {number}\n\n" for number in range(9)))
    catalogue = compile_catalogue([folder], groups={"read": "read"}, timeout=5.0)
    learner, plans, pool = learner_of(None, catalogue, server)
    for name in ("q7", "q5"):
        with pytest.raises(BackendUnavailable):
            plans.get(catalogue.queries[name])
    learner.learn()
    in_order = sorted(plans.all(), key=lambda known: known.tried_at)
    assert {known.query.name for known in in_order[:2]} == {"q5", "q7"}
    assert all(known.signature for known in in_order)
    pool.close()
