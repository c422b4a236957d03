"""What each worker of a node says of itself, so that any of them can answer for all.

One file a worker in the runtime directory, replaced as a whole several times a second. A worker that is killed is
gone from what the others read at once, for they look whether its process lives; one that is stopped stays, with the
time when it was last heard of, because its connections stay too.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.events import NodeNotShared, Observer, ignore
from gateway.execution.plans import Plans
from gateway.node.processes import is_alive, my_start
from gateway.pool.exchange import GroupStats
from gateway.pool.pool import Pool

PUBLISH_EVERY = 0.1
READ_EVERY = 0.1
"""Seconds; together with the beat of who calls us they stay below the quarter of a second in which all answer alike."""
CLEAN_EVERY = 5.0
"""Seconds between two looks for what dead workers have left, if nobody asks meanwhile."""

_PREFIX = "worker-"


class LearningStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How true what a worker knows of the queries is. Points in time are of ``time.monotonic``."""

    looked_at: float = 0.0
    """When it last looked at the database for the node, 0.0 if it never did."""
    all_since: float = 0.0
    """It acts on what was learnt of every query since then; 0.0 where nobody asked for that."""
    is_alone: bool = False
    """It cannot share what it learns with the other workers."""
    fault: str | None = None
    """Why it could not look or learn when it tried last."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One worker at one moment. Points in time are of ``time.monotonic``, which all processes of a machine share."""

    pid: int
    started: int
    """When the process started, in clock ticks since the machine did."""
    since: float
    """When it began to serve."""
    at: float
    """When it said this."""
    in_flight: int
    """Requests it works on."""
    draining: bool
    """It was told to end."""
    version: int
    """Of what is known of endpoints: all its groups act upon what is not newer."""
    groups: dict[str, GroupStats]
    leases: dict[str, int]
    """Requests that have a connection now, by endpoint."""
    catalogue: str
    """Hash of what it serves."""
    loaded: float
    """When it was loaded, in seconds of the Unix epoch."""
    faults: int
    """Queries that cannot be served."""
    learning: LearningStatus


class Snapshots:
    """Publishes this worker's snapshot and reads those of all. Without a directory this process is all there is."""

    def __init__(
        self,
        *,
        directory: Path | None,
        pool: Pool[Any],
        catalogue: Catalogue,
        plans: Plans,
        learning: Callable[[], LearningStatus],
        in_flight: Callable[[], int],
        is_draining: Callable[[], bool],
        observe: Observer = ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``in_flight``: how many requests this process works on."""
        self._directory = directory
        self._pool = pool
        self._catalogue = catalogue
        self._plans = plans
        self._learning = learning
        self._in_flight = in_flight
        self._is_draining = is_draining
        self._observe = observe
        self._clock = clock
        self._since = clock()
        self._loaded = time.time()
        self._id = (0, 0)
        self._others: tuple[Snapshot, ...] = ()
        self._read_at = self._published_at = self._cleaned_at = float("-inf")
        self._is_failing = False

    def take(self) -> Snapshot:
        """Look at this worker."""
        version = self._pool.rotation.told  # before the leases are counted: none is made by what was known earlier
        leases: dict[str, int] = {}
        for group in self._pool.groups.values():
            for endpoint, count in group.leases().items():
                leases[endpoint] = leases.get(endpoint, 0) + count
        pid, started = self._identity()
        return Snapshot(
            pid=pid,
            started=started,
            since=self._since,
            at=self._clock(),
            in_flight=self._in_flight(),
            draining=self._is_draining(),
            version=version,
            groups=self._pool.stats(),
            leases=leases,
            catalogue=self._catalogue.hash,
            loaded=self._loaded,
            faults=self._plans.faults,
            learning=self._learning(),
        )

    def publish(self) -> None:
        """Tell the others, now. A directory that is gone or full costs them this worker's news, and nothing else."""
        if self._directory is None:
            return
        snapshot = self.take()
        self._published_at = snapshot.at
        name = f"{_PREFIX}{snapshot.pid}-{snapshot.started}"
        draft = self._directory / f"{name}.draft"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.msgpack.encode(snapshot))
            draft.replace(self._directory / name)
        except OSError as error:
            if not self._is_failing:
                self._observe(NodeNotShared(what="this worker is not known to the others any more", detail=str(error)))
            self._is_failing = True
        else:
            self._is_failing = False

    def tend(self) -> bool:
        """Publish and clean when it is time. Whether it was not, so that there is something to be published soon.

        To be called some twenty times a second while there is work, after what others are to know, and now and then.
        """
        now = self._clock()
        is_due = now - self._published_at >= PUBLISH_EVERY
        if is_due:
            self.publish()
        if now - max(self._cleaned_at, self._read_at) >= CLEAN_EVERY:
            self._cleaned_at = now
            self._read()
        return not is_due

    def all(self, *, newest: bool = False) -> tuple[Snapshot, ...]:
        """All living workers, the oldest first; this one as it is now, others as they were a moment ago.

        ``newest``: look at the files again, though that was done within the last ``READ_EVERY``.
        """
        now = self._clock()
        if newest or now - self._read_at >= READ_EVERY:
            self._read_at = now
            self._others = self._read()
        return tuple(sorted((*self._others, self.take()), key=lambda snapshot: (snapshot.since, snapshot.pid)))

    def _read(self) -> tuple[Snapshot, ...]:
        """Read what the others have published, and remove what the dead have left."""
        if self._directory is None:
            return ()
        found = []
        try:
            names = [name for name in os.listdir(self._directory) if name.startswith(_PREFIX)]  # noqa: PTH208 -- 3 µs, not 30
        except OSError:
            return ()
        for name in names:
            file = self._directory / name
            pid, _, started = name.removeprefix(_PREFIX).removesuffix(".draft").partition("-")
            if not (pid.isdigit() and started.isdigit()) or (int(pid), int(started)) == self._identity():
                continue
            if not is_alive(int(pid), int(started)):
                file.unlink(missing_ok=True)
            elif not name.endswith(".draft") and (snapshot := _decoded(file)) is not None:
                found.append(snapshot)
        return tuple(found)

    def _identity(self) -> tuple[int, int]:
        pid = os.getpid()
        if self._id[0] != pid:  # asked for anew after a fork
            self._id = (pid, my_start())
        return self._id


def _decoded(file: Path) -> Snapshot | None:
    """What a worker published; None if it cannot be read (by another version of the gateway, say)."""
    try:
        return msgspec.msgpack.decode(file.read_bytes(), type=Snapshot)
    except (OSError, msgspec.MsgspecError):
        return None


def sum_of(snapshots: tuple[Snapshot, ...], group: str) -> GroupStats:
    """One group of all workers together: counts added up, and the longest wait."""
    stats = [snapshot.groups[group] for snapshot in snapshots if group in snapshot.groups]
    return GroupStats(
        sum(each.size for each in stats),
        sum(each.leased for each in stats),
        sum(each.idle for each in stats),
        sum(each.empty for each in stats),
        sum(each.waiting for each in stats),
        max((each.max_wait for each in stats), default=0.0),
    )


def leases_on(endpoint: str, snapshots: tuple[Snapshot, ...]) -> int:
    """How many requests of all workers have a connection to this endpoint."""
    return sum(snapshot.leases.get(endpoint, 0) for snapshot in snapshots)


def unaware(version: int, snapshots: tuple[Snapshot, ...]) -> Mapping[int, float]:
    """Workers that do not act upon this version of what is known yet: pid, and when they were last heard of."""
    return {snapshot.pid: snapshot.at for snapshot in snapshots if snapshot.version < version}
