"""What the servers say of the queries reaches every worker, and stays true."""

from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.catalogue.query import Catalogue
from gateway.catalogue.types import Signature
from gateway.demo.cluster import Cluster
from gateway.errors import BackendUnavailable, QueryBroken
from gateway.events import CatalogueChanged, Event, LearningNotShared, QueryRefused
from gateway.execution.plans import Plans
from gateway.node.learner import Learner
from gateway.node.learning import LOOK_EVERY
from gateway.node.snapshots import Snapshot, Snapshots
from gateway.node.tasks import Task, every
from gateway.pool.configuration import GroupConfig
from gateway.pool.group import Group
from gateway.pool.pool import Pool
from gateway.postgres.driver import Address, Driver
from gateway.rotation.endpoint import Role
from gateway.rotation.moves import Probed
from gateway.rotation.rotation import LocalViews, Rotation
from gateway.waiting import ThreadWaits
from tests.live.databases import plain, soon
from tests.live.sessions import wait_until

QUERIES = """
-- name: one$
SELECT 1

-- name: labels
SELECT label FROM learnt_things WHERE label = :label

-- name: add!
INSERT INTO learnt_things (label, at) VALUES (:label, :at)

-- name: broken$
SELECT count(*) FROM learnt_not_there
"""
TABLES = """
DROP TABLE IF EXISTS learnt_things, learnt_not_there;
DROP TYPE IF EXISTS learnt_label;
CREATE TYPE learnt_label AS ENUM ('a', 'b');
CREATE TABLE learnt_things (label learnt_label, at timestamp);
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(replicas=0) as cluster:
        yield cluster


@pytest.fixture
def server(cluster: Cluster) -> Cluster:
    cluster.primary.sql(TABLES)
    return cluster


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return compiled(tmp_path, QUERIES)


def compiled(directory: Path, text: str) -> Catalogue:
    folder = directory / "queries"
    folder.mkdir(exist_ok=True)
    (folder / "q.sql").write_text(text)
    return compile_catalogue([folder], groups={"read": "read", "write": "write"}, timeout=30.0)


class Worker:
    """As much of a worker as learns: two of them in one directory are a node of two."""

    def __init__(self, server: Cluster, catalogue: Catalogue, directory: Path | None, *, probed: bool = True) -> None:
        self.events: list[Event] = []
        self.catalogue = catalogue
        self.plans = Plans(catalogue)
        self.rotation = Rotation(views=LocalViews(["primary"]))
        self._probes = Task("the probe", every(0.1, self._find_well), observe=self.events.append)
        if probed:
            self.probe()
        group = Group(
            GroupConfig(name="read", access_write=False, endpoints=("primary",), size=2, queue_limit=2),
            driver=Driver({"primary": Address(dsn=server.primary.dsn())}, read_only=True),
            rotation=self.rotation,
            waits=ThreadWaits(),
        )
        self.pool = Pool(rotation=self.rotation, groups=[group])
        self.neighbours: list[Worker] = []
        self.snapshots = Snapshots(
            directory=None,
            pool=self.pool,
            catalogue=catalogue,
            plans=self.plans,
            learning=lambda: self.learner.status,
            in_flight=lambda: 0,
            is_draining=lambda: False,
        )
        self.learner = Learner(
            plans=self.plans,
            pool=self.pool,
            catalogue=catalogue,
            directory=directory,
            workers=self.workers,
            tell=self.tell,
            publish=lambda: None,
            observe=self.events.append,
        )

    def tell(self) -> None:
        for worker in self.neighbours:
            worker.learner.notice()

    def workers(self, **_: bool) -> list[Snapshot]:
        return [worker.snapshots.take() for worker in (self, *self.neighbours)]

    def probe(self) -> None:
        """From now on the server is found well: again and again, as a connection that is lost casts a doubt on it."""
        self._find_well()
        self._probes.start()

    def _find_well(self) -> None:
        self.rotation.apply("primary", Probed(role=Role.PRIMARY, ping_ms=0.1))

    def signature(self, name: str) -> Signature | None:
        return self.plans.known(name).signature

    def parameters(self, name: str) -> list[str]:
        signature = self.signature(name)
        return [] if signature is None else [parameter.name for parameter in signature.parameters]

    def labels(self) -> tuple[str, ...]:
        signature = self.signature("labels")
        return () if signature is None else signature.parameters[0].labels

    def has_learnt(self) -> bool:
        """Whether no query is left; on a busy server a first attempt may have come to nothing."""
        return self.plans.complete and not any(known.waits for known in self.plans.all())

    def close(self) -> None:
        self._probes.close()
        self.learner.close()
        self.pool.close()


Start = Callable[..., Worker]


@pytest.fixture
def start(server: Cluster, catalogue: Catalogue, tmp_path: Path) -> Iterator[Start]:
    """Starts workers of one node, and closes them."""
    workers: list[Worker] = []

    def start(*, catalogue: Catalogue = catalogue, directory: Path | None = tmp_path, probed: bool = True) -> Worker:
        worker = Worker(server, catalogue, directory, probed=probed)
        for other in workers:
            other.neighbours.append(worker)
            worker.neighbours.append(other)
        workers.append(worker)
        worker.learner.start()
        return worker

    yield start
    for worker in workers:
        worker.close()


def wait_until_watched(*workers: Worker) -> None:
    """Wait until all is learnt, and what changes from now on is a change.

    The first look at what queries depend on follows the learning: what was written in between is learnt once more
    without being told, as nobody can say whether it came before or after.
    """
    wait_until(lambda: all(worker.has_learnt() for worker in workers))
    learnt_at = monotonic()
    wait_until(lambda: max(worker.learner.status.looked_at for worker in workers) > learnt_at)
    wait_until(lambda: all(worker.plans.is_settled for worker in workers))


def test_a_worker_learns_over_a_connection_of_its_pool(start: Start) -> None:
    worker = start()
    wait_until(worker.has_learnt)
    assert worker.parameters("add") == ["learnt_label", "timestamp without time zone"]
    assert worker.plans.known("add").learnt_at
    wait_until(lambda: worker.pool["read"].stats().leased == 0)


def test_a_worker_takes_over_what_another_has_learnt(start: Start) -> None:
    first = start()
    wait_until(first.has_learnt)
    second = start()
    wait_until(second.has_learnt)
    for name in first.catalogue.queries:
        assert second.signature(name) == first.signature(name)
    assert second.plans.known("broken").fault == first.plans.known("broken").fault
    assert second.pool["read"].stats().idle == 0  # nothing was asked


def test_nothing_is_asked_before_a_server_has_answered(start: Start) -> None:
    worker = start(probed=False)
    wait_until(lambda: worker.learner.status.fault is not None)
    with pytest.raises(BackendUnavailable):
        worker.plans.get(worker.catalogue.queries["one"])
    worker.probe()
    wait_until(worker.has_learnt)
    assert not [event for event in worker.events if not isinstance(event, QueryRefused)]


def test_a_query_that_the_server_does_not_take_is_told_once_and_stops_no_other(start: Start, server: Cluster) -> None:
    first, second = start(), start()
    wait_until(lambda: first.has_learnt() and second.has_learnt())
    for worker in (first, second):
        worker.plans.get(worker.catalogue.queries["one"])
        with pytest.raises(QueryBroken):
            worker.plans.get(worker.catalogue.queries["broken"])
    assert [event.query for event in first.events + second.events if isinstance(event, QueryRefused)] == ["broken"]
    server.primary.sql("CREATE TABLE learnt_not_there (id int)")
    wait_until(lambda: second.signature("broken") is not None)  # it was asked for


def test_what_a_migration_changes_is_learnt_anew_by_all_workers(start: Start, server: Cluster) -> None:
    first, second = start(), start()
    wait_until_watched(first, second)
    before = {name: first.plans.known(name).epoch for name in first.catalogue.queries}
    names = [worker.plans.get(worker.catalogue.queries["add"]).plan.name for worker in (first, second)]
    server.primary.sql("ALTER TABLE learnt_things ALTER at TYPE timestamptz")
    for worker in (first, second):
        wait_until(lambda worker=worker: worker.parameters("add")[1] == "timestamp with time zone")  # type: ignore[misc]
        wait_until(lambda worker=worker: worker.plans.known("labels").stale_at is None)  # type: ignore[misc]
        assert worker.plans.get(worker.catalogue.queries["add"]).plan.name not in names
    assert first.plans.known("add").epoch == second.plans.known("add").epoch == before["add"] + 1
    assert first.plans.known("one").epoch == before["one"]  # it does not depend on the table
    assert [event.queries for event in first.events + second.events if isinstance(event, CatalogueChanged)] == [2]


def test_a_new_label_of_an_enum_is_known_to_all_workers(start: Start, server: Cluster) -> None:
    first, second = start(), start()
    wait_until(lambda: first.has_learnt() and second.has_learnt())
    server.primary.sql("ALTER TYPE learnt_label ADD VALUE 'c'")
    wait_until(lambda: first.labels() == second.labels() == ("a", "b", "c"))


def test_all_is_learnt_again_when_somebody_wants_that_and_told_when_all_workers_know(
    start: Start, server: Cluster
) -> None:
    first, second = start(), start()
    wait_until(lambda: first.has_learnt() and second.has_learnt())
    server.primary.sql("CREATE TABLE learnt_not_there (id int)")
    assert second.learner.learn_now(soon()) == []
    for worker in (first, second):
        assert worker.signature("broken") is not None
    epochs = [known.epoch for known in first.plans.all()]
    assert first.learner.learn_now(soon()) == []
    assert [known.epoch for known in first.plans.all()] == epochs  # nothing else was found


def test_who_has_not_learnt_again_is_named(start: Start) -> None:
    first = start()
    wait_until(first.has_learnt)
    assert first.learner.learn_now(0.0) == [first.snapshots.take().pid]


def test_what_a_former_node_learnt_is_compared_with_the_database_before_it_is_used(
    start: Start, server: Cluster, catalogue: Catalogue
) -> None:
    former = start()
    wait_until(former.has_learnt)
    former.close()
    server.primary.sql("ALTER TABLE learnt_things ALTER at TYPE timestamptz")
    worker = start(probed=False)
    wait_until(lambda: worker.signature("add") is not None)
    with pytest.raises(BackendUnavailable):
        worker.plans.get(catalogue.queries["add"])
    worker.probe()
    wait_until(lambda: worker.parameters("add")[1] == "timestamp with time zone")
    worker.plans.get(catalogue.queries["add"])


def test_when_the_worker_that_learns_is_gone_another_goes_on(start: Start, server: Cluster) -> None:
    first = start()
    wait_until(first.has_learnt)
    second = start()
    wait_until(second.has_learnt)
    first.close()
    server.primary.sql("ALTER TYPE learnt_label ADD VALUE 'c'")
    wait_until(lambda: second.labels() == ("a", "b", "c"))


def test_what_a_former_worker_learnt_is_not_learnt_again(start: Start) -> None:
    former = start()
    wait_until(former.has_learnt)
    # What it watches from now on may have changed before: where something was written, that is learnt once more.
    looked_at = former.learner.status.looked_at
    wait_until(lambda: former.learner.status.looked_at > looked_at + 2 * LOOK_EVERY and not former.plans.has_asked)
    former.close()
    worker = start()
    wait_until(worker.has_learnt)
    for known in worker.plans.all():
        assert known.learnt_at == former.plans.known(known.query.name).learnt_at


def test_queries_that_were_asked_for_are_learnt_first(server: Cluster, tmp_path: Path) -> None:
    catalogue = compiled(tmp_path, "".join(f"-- name: q{number}$\nSELECT {number}\n\n" for number in range(200)))
    worker = Worker(server, catalogue, None)
    for name in ("q7", "q150"):
        with pytest.raises(BackendUnavailable):
            worker.plans.get(catalogue.queries[name])
    first = [worker.plans.next_to_learn() for _ in range(3)]
    assert [known.query.name for known in first if known] == ["q7", "q150", "q0"]
    worker.close()


def test_a_worker_that_cannot_share_learns_for_itself(start: Start, tmp_path: Path) -> None:
    worker = start(directory=tmp_path / "gone")
    wait_until(worker.has_learnt)
    assert [event for event in worker.events if isinstance(event, LearningNotShared)]
    other = start()  # it can, but the first would not hear of it
    wait_until(lambda: other.learner.status.is_alone and other.plans.complete)


def test_a_query_whose_table_is_locked_waits_and_the_others_are_served(
    start: Start, server: Cluster, catalogue: Catalogue
) -> None:
    with plain(server.primary.dsn()) as cursor:
        cursor.execute("BEGIN; LOCK TABLE learnt_things IN ACCESS EXCLUSIVE MODE")
        worker = start()
        wait_until(lambda: worker.plans.complete)
        worker.plans.get(catalogue.queries["one"])
        with pytest.raises(BackendUnavailable, match="waited for"):
            worker.plans.get(catalogue.queries["labels"])
        assert worker.plans.known("labels").waits
        assert {event.query for event in worker.events if isinstance(event, QueryRefused)} == {
            "broken",
            "labels",
            "add",
        }
        cursor.execute("ROLLBACK")
    wait_until(lambda: worker.signature("labels") is not None and worker.signature("add") is not None)
