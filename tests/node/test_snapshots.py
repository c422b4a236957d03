"""What workers say of themselves: the second worker of these tests is a process that was started for it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from gateway.node.processes import start_of
from gateway.node.snapshots import READ_EVERY, LearningStatus, Snapshot, Snapshots, leases_on, sum_of, unaware
from gateway.pool.exchange import GroupStats
from gateway.rotation.moves import Drain
from tests.web.rigs import HealthRig


@pytest.fixture
def node(tmp_path: Path) -> HealthRig:
    node = HealthRig(tmp_path)
    node.probe_all()
    return node


class Neighbour:
    """Another worker of the node, by its process and what it has published."""

    def __init__(self, folder: Path, like: Snapshot) -> None:
        self._folder = folder
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        started = start_of(self.process.pid)
        assert started is not None
        groups = {"read": GroupStats(4, 2, 1, 1, 3, 0.5), "write": GroupStats(2, 0, 0, 2, 0, 0.0)}
        self.snapshot = replace(
            like, pid=self.process.pid, started=started, in_flight=5, groups=groups, leases={"replica1": 2}
        )
        self.file = folder / f"worker-{self.process.pid}-{started}"
        self.publish()

    def publish(self) -> None:
        self.file.write_bytes(msgspec.msgpack.encode(self.snapshot))


@pytest.fixture
def neighbour(node: HealthRig, tmp_path: Path) -> Iterator[Neighbour]:
    neighbour = Neighbour(tmp_path, node.snapshots.take())
    yield neighbour
    neighbour.process.kill()
    neighbour.process.communicate()


def pids(snapshots: Snapshots) -> list[int]:
    return [snapshot.pid for snapshot in snapshots.all(newest=True)]


def test_what_is_published_is_what_another_worker_reads(node: HealthRig, tmp_path: Path) -> None:
    with node.pool["read"].lease(node.rig.soon()) as lease:
        node.snapshots.publish()
        (file,) = tmp_path.iterdir()
        read = msgspec.msgpack.decode(file.read_bytes(), type=Snapshot)
        assert replace(read, at=0.0) == replace(node.snapshots.take(), at=0.0)
        assert read.leases == {name: int(name == lease.endpoint) for name in node.rig.servers}
    assert file.stat().st_mode & 0o777 == 0o600
    assert (read.pid, read.draining, read.version) == (os.getpid(), False, node.rotation.version)


def test_the_groups_of_all_workers_are_added_up(node: HealthRig, neighbour: Neighbour) -> None:
    with node.pool["read"].lease(node.rig.soon()):
        told = node.client.simulate_get("/health").json
    assert told["groups"]["read"] == {
        "access": "read",
        "status": "ready",
        "rotation": ["replica1", "replica2"],
        "size": 4,  # of the node, though the slots of both workers are eight
        "leased": 3,
        "idle": 1,
        "empty": 0,
        "waiting": 3,
        "max_wait_ms": 500,
    }
    assert {worker["pid"]: worker["in_flight"] for worker in told["workers"]} == {
        os.getpid(): 1,
        neighbour.process.pid: 5,
    }


def test_sums_are_of_what_the_workers_have() -> None:
    assert sum_of((), "read") == GroupStats(0, 0, 0, 0, 0, 0.0)


def test_a_killed_worker_is_forgotten_at_once_and_its_file_removed(node: HealthRig, neighbour: Neighbour) -> None:
    assert len(pids(node.snapshots)) == 2
    neighbour.process.kill()
    os.waitid(os.P_PID, neighbour.process.pid, os.WEXITED | os.WNOWAIT)
    assert pids(node.snapshots) == [os.getpid()]
    assert not neighbour.file.exists()


def test_a_stopped_worker_stays(node: HealthRig, neighbour: Neighbour) -> None:
    neighbour.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, neighbour.process.pid, os.WSTOPPED)
    assert neighbour.process.pid in pids(node.snapshots)


def test_what_the_others_said_is_read_ten_times_a_second_and_not_with_every_request(
    tmp_path: Path, neighbour: Neighbour, node: HealthRig
) -> None:
    now = [100.0]
    snapshots = Snapshots(
        directory=tmp_path,
        pool=node.pool,
        catalogue=node.snapshots._catalogue,
        plans=node.plans,
        learning=LearningStatus,
        in_flight=lambda: 0,
        is_draining=lambda: False,
        clock=lambda: now[0],
    )
    assert leases_on("replica1", snapshots.all()) == 2
    neighbour.snapshot = replace(neighbour.snapshot, leases={})
    neighbour.publish()
    assert leases_on("replica1", snapshots.all()) == 2
    assert leases_on("replica1", snapshots.all(newest=True)) == 0
    neighbour.snapshot = replace(neighbour.snapshot, leases={"replica1": 1})
    neighbour.publish()
    now[0] += 1.1 * READ_EVERY
    assert leases_on("replica1", snapshots.all()) == 1


def test_a_worker_that_does_not_act_upon_a_change_yet_is_known(node: HealthRig, neighbour: Neighbour) -> None:
    node.rotation.apply("replica1", Drain())
    version = node.rotation.version
    assert unaware(version, node.snapshots.all(newest=True)) == {neighbour.process.pid: neighbour.snapshot.at}
    neighbour.snapshot = replace(neighbour.snapshot, version=version, leases={})
    neighbour.publish()
    assert not unaware(version, node.snapshots.all(newest=True))


def test_what_cannot_be_read_costs_nothing_else(node: HealthRig, neighbour: Neighbour, tmp_path: Path) -> None:
    neighbour.file.write_bytes(b"half of")
    for name in ("worker-", "worker-x-y", "worker-1", "signatures-1"):
        (tmp_path / name).write_bytes(b"")
    assert pids(node.snapshots) == [os.getpid()]
    assert neighbour.file.exists()


def test_a_draft_a_dead_worker_left_is_removed(node: HealthRig, tmp_path: Path) -> None:
    draft = tmp_path / "worker-4194305-17.draft"  # no pid is as high
    draft.write_bytes(b"half of")
    assert pids(node.snapshots) == [os.getpid()]
    assert not draft.exists()


def test_a_directory_that_is_gone_is_told_once_and_this_worker_is_all_there_is(node: HealthRig, tmp_path: Path) -> None:
    tmp_path.rmdir()
    for _ in range(3):
        node.snapshots.publish()
    assert pids(node.snapshots) == [os.getpid()]
    assert [str(event).partition(":")[0] for event in node.events] == [
        "this worker is not known to the others any more"
    ]
