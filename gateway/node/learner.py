"""Keeps what a worker knows of its queries true: one worker of the node learns for all, the others take that over."""

import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

from gateway.catalogue.query import Catalogue
from gateway.errors import GatewayError, NoEndpoint, PoolTimeout, QueueFull
from gateway.events import LearningInterrupted, LearningNotShared, Observer
from gateway.execution.plans import Plans
from gateway.node.election import Election
from gateway.node.learning import PER_LOOK, PER_QUERY, Learning
from gateway.node.learnt import Asked, Entry, Failed, Learnt, LearntFile, Looked, Stale
from gateway.node.snapshots import LearningStatus, Snapshot
from gateway.node.tasks import Task
from gateway.pool.lease import LeaseRequest
from gateway.pool.pool import Pool
from gateway.postgres.session import Session

TICK = 0.05
"""Seconds between two turns while there is something to learn, or nobody to learn from."""
REST = 0.5
"""Seconds between two turns at other times: what others have learnt, or ask for, is told (``news``)."""
STALE_AFTER = PER_LOOK + PER_QUERY + 0.5
"""Seconds without a sign of life after which the worker that learns for the node is stopped or stuck."""
GLANCE_EVERY = 1.0
"""Seconds between two looks at whether other workers can share."""
RECENT = 1.0
"""Seconds for which what others have learnt is known to hold since one of them looked at the database."""
PATIENCE = 1.0
"""Seconds to wait for a connection."""
PATIENCE_AT_START = 0.5
LOOK_EVERY = 0.02
"""Seconds between two looks at what the workers say, while somebody waits for them to have learnt."""


class Learner:
    """Keeps the plans of one process complete and true."""

    def __init__(
        self,
        *,
        plans: Plans,
        pool: Pool[Session],
        catalogue: Catalogue,
        directory: Path | None,
        workers: Callable[..., Iterable[Snapshot]],
        tell: Callable[[], None],
        publish: Callable[[], None],
        observe: Observer,
    ) -> None:
        """``directory``: the node's; None: nothing is shared. ``workers``: see ``Snapshots.all``.

        ``tell`` is called after something was written for the other workers, ``publish`` when ``status`` has changed.
        """
        self._plans = plans
        self._pool = pool
        self._catalogue = catalogue
        self._workers = workers
        self._tell = tell
        self._publish = publish
        self._observe = observe
        self._learning = Learning(plans=plans, lend=self._lend, share=self._share, observe=observe)
        self._is_alone = directory is None
        self._file: LearntFile | None = None
        self._election = Election(None, name="", stale_after=STALE_AFTER)
        if directory is not None:
            try:
                self._file = LearntFile(directory, catalogue)
                self._election = Election(directory, name=f"learner-{self._file.key}", stale_after=STALE_AFTER)
            except OSError as error:
                self._go_alone(str(error))
        plans.confirmed = False
        self._all_wanted = self._all_since = 0.0
        self._fault: str | None = None
        self._learns = False
        """Whether this worker learns for the node, or for itself alone."""
        self._next_glance = 0.0
        self._is_frozen = False
        self._confirmed = threading.Event()
        self._task = Task("the learning of the queries' types", self._turn, observe=observe)
        plans.on_asked = self._task.wake

    def start(self) -> None:
        """Begin with what other workers have learnt, and go on beside requests.

        Where others have learnt something, this waits a moment for what shows that it still holds: a worker that is
        started while the node serves refuses no request meanwhile.
        """
        self._take_over()
        self._task.start()
        if any(known.signature is not None for known in self._plans.all()):
            self._confirmed.wait(PATIENCE_AT_START)

    def close(self) -> None:
        """End, and let another worker learn for the node."""
        self._task.close()
        self._election.close()
        if self._file is not None:
            self._file.close()

    def notice(self) -> None:
        """Take over what others have written, now."""
        self._task.wake()

    @property
    def status(self) -> LearningStatus:
        """How far this worker has come."""
        return LearningStatus(
            looked_at=max(0.0, self._learning.looked_at),
            all_since=self._all_since,
            is_alone=self._is_alone,
            fault=self._fault,
        )

    def learn_now(self, deadline: float) -> list[int]:
        """Have every query learnt again, and wait until all workers of the node act on it.

        Returns the pids of those that did not until the deadline.
        """
        wanted = monotonic()
        self._ask(Asked(at=wanted))
        while True:
            late = [worker.pid for worker in self._neighbours(newest=True) if worker.learning.all_since < wanted]
            if not late or monotonic() >= deadline:
                return late
            time.sleep(LOOK_EVERY)

    # --- turns -----------------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        neighbours: list[Snapshot] = []
        if not self._plans.confirmed or monotonic() >= self._next_glance:
            self._next_glance = monotonic() + GLANCE_EVERY
            neighbours = self._neighbours()
        # NOTE: the file is read after the snapshots. Whoever looked wrote what it found before it said that it looked.
        self._take_over()
        if not self._is_alone and any(worker.learning.is_alone for worker in neighbours):
            self._go_alone("another worker cannot write it")
        if self._plans.complete and not self._is_frozen:
            # PERF: none of it is garbage soon. To look through what is known of 10,000 queries takes 0.2 s.
            self._is_frozen = True
            gc.freeze()
        self._learns = self._is_alone or self._election.is_elected()
        if self._learns:
            rest = self._learn()
            return rest if self._plans.is_settled else min(TICK, rest)
        if any(worker.learning.looked_at >= monotonic() - RECENT for worker in neighbours):
            self._plans.confirmed = True
            self._confirmed.set()
        self._pass_on()
        return REST if self._plans.confirmed and self._plans.is_settled else TICK

    def _neighbours(self, *, newest: bool = False) -> list[Snapshot]:
        """The workers of the node that serve the same catalogue, this one included."""
        return [worker for worker in self._workers(newest=newest) if worker.catalogue == self._catalogue.hash]

    def _learn(self) -> float:
        if self._all_wanted > self._all_since and not self._learning.is_learning_all:
            self._learning.learn_all()
        looked_at = self._learning.looked_at
        try:
            rest = self._learning.turn()
        except GatewayError as error:
            if error.detail != self._fault and not isinstance(error, NoEndpoint):  # of which the rotation tells why
                self._observe(LearningInterrupted(detail=error.detail))
            self._fault = error.detail
            return TICK
        finally:
            self._election.stamp()
        self._fault = None
        self._confirmed.set()
        if self._learning.looked_at != looked_at:
            self._publish()
        if self._file is not None and not self._is_alone and self._file.is_long:
            self._file.rewrite(self._everything())
        return rest

    def _pass_on(self) -> None:
        """Have the worker that learns for the node learn what was asked for here."""
        if asked := self._plans.asked():
            now = monotonic()
            for known in asked:
                known.tried_at = now
            self._ask(Asked(tuple(known.query.name for known in asked), now))

    def _ask(self, asked: Asked) -> None:
        if self._file is None or self._is_alone:
            self._apply(asked)
        else:
            try:
                self._file.append([asked])
                self._tell()
            except OSError as error:
                self._go_alone(str(error))
                self._apply(asked)
        self._task.wake()

    # --- what is shared --------------------------------------------------------------------------------------------

    def _share(self, entries: Sequence[Entry]) -> None:
        if self._file is not None and not self._is_alone:
            try:
                self._file.append(entries)
            except OSError as error:
                self._go_alone(str(error))
            else:
                self._tell()
                self._take_over()
                return
        for entry in entries:
            self._apply(entry)

    def _take_over(self) -> None:
        if self._file is None:
            return
        is_new = False
        while entries := self._file.read():
            is_new = True
            for entry in entries:
                self._apply(entry)
            time.sleep(0)  # let requests have their turn on a loop
        if is_new:
            self._publish()

    def _apply(self, entry: Entry) -> None:
        match entry:
            case Learnt():
                self._plans.learnt(entry.query, entry.signature, epoch=entry.epoch, at=entry.at)
            case Failed():
                self._plans.failed(entry.query, entry.fault, waits=entry.waits)
            case Stale():
                self._plans.stale(entry.queries, at=entry.at)
                self._leave_to_others(entry.queries)
            case Looked():
                self._learning.take_over(entry)
                if entry.sessions_stale and self._plans.confirmed:
                    for group in self._pool.groups.values():
                        group.retire_all()
                self._all_since = max(self._all_since, entry.all_since)
            case Asked(queries=()):
                self._all_wanted = max(self._all_wanted, entry.at)
            case Asked():
                for name in entry.queries:
                    self._plans.ask(self._plans.known(name))
                self._leave_to_others(entry.queries)

    def _leave_to_others(self, names: Sequence[str]) -> None:
        """Whoever learns for the node knows that these are asked for; should it not get to it, ask again later."""
        if not self._learns:
            for name in names:
                self._plans.known(name).tried_at = monotonic()

    def _go_alone(self, reason: str) -> None:
        """Learn for this worker alone: the runtime directory is gone, or full. That is no reason not to serve."""
        self._is_alone = True
        self._publish()
        self._observe(LearningNotShared(detail=reason))

    def _everything(self) -> Iterator[Entry]:
        """What the file has to say to a worker that reads it from its beginning."""
        for known in self._plans.all():
            if known.signature is not None:
                yield Learnt(known.query.name, known.signature, known.epoch, known.learnt_at or 0.0)
            if known.fault is not None:
                yield Failed(known.query.name, known.fault, waits=known.waits)
            if known.stale_at is not None:
                yield Stale((known.query.name,), known.stale_at)
        yield Looked(self._learning.parts, all_since=self._all_since)

    @contextmanager
    def _lend(self) -> Iterator[Session]:
        """Lend a connection of a group that writes, if one has an endpoint, or else of any: it is counted as theirs.

        A standby may be behind; the primary is what a migration changes first. So while all connections of a group that
        writes are in use, a connection of another group is lent only if it is to the same endpoint.
        """
        groups = [group for group in self._pool.groups.values() if group.serving]
        if not groups:
            raise NoEndpoint("no server has answered yet")
        groups.sort(key=lambda group: not group.access_write)
        request = LeaseRequest(only=frozenset(groups[0].serving))
        with ExitStack() as stack:
            for group in groups:
                try:
                    lease = stack.enter_context(group.lease(monotonic() + PATIENCE / len(groups), request))
                except (PoolTimeout, QueueFull, NoEndpoint):
                    if group is groups[-1]:
                        raise
                else:
                    break
            yield lease.connection
