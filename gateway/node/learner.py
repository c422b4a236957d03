"""Has the queries' types learnt: a worker adopts what another has learnt, or learns over a connection of its pool."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import msgspec

from gateway.catalogue.query import Catalogue
from gateway.errors import GatewayError, NoEndpoint
from gateway.execution.plans import Known, Plans
from gateway.node.learnt import LearntFile
from gateway.node.spawning import Spawn, spawn_thread
from gateway.pool.pool import Pool
from gateway.postgres.connection import Connection
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book

log = logging.getLogger("gateway.node")

SOON = 0.02
"""Seconds between two tries while not every query has been looked at: nobody is served before."""
LATER = 0.2
"""Seconds between two glances at whether there is something to learn again."""
PATIENCE = 1.0
"""Seconds to wait for a connection."""
PER_QUERY = 5.0
"""Seconds that learning one query may take."""
PUBLISH_EVERY = 0.05
"""Seconds after which the others get what there is while the rest is being learnt."""


class Learner:
    """Keeps the plans of a process complete."""

    def __init__(
        self,
        *,
        plans: Plans,
        pool: Pool[Connection],
        catalogue: Catalogue,
        directory: Path | None,
        spawn: Spawn = spawn_thread,
    ) -> None:
        """Begin with what others have learnt; ``directory``: the node's runtime directory, None: nothing is shared."""
        self._plans = plans
        self._pool = pool
        self._file = None if directory is None else LearntFile(directory, catalogue)
        self._spawn = spawn
        self._stopped = threading.Event()
        self._told = ""
        self._adopt()

    def start(self) -> None:
        """Begin."""
        self._spawn(self._run)

    def stop(self) -> None:
        """End after the look under way."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(LATER if self._plans.complete else SOON):
            try:
                self._learn_unless_refused()
            except Exception:  # a bug of ours must not be the last try
                log.exception("the queries' types could not be learnt, by a bug of ours")

    def _learn_unless_refused(self) -> None:
        if self._plans.complete and not self._plans.wanting():
            return
        try:
            self.learn()
            self._told = ""
        except NoEndpoint:
            return  # the rotation says why
        except GatewayError as error:
            if error.detail != self._told:
                self._told = error.detail
                log.warning("learning the queries' types ended early: %s", error.detail)

    def learn(self) -> None:
        """Learn what is not known, from the node's other workers or else from the server.

        Raises a GatewayError when the connection fails, or none could be had; what was learnt until then is kept.
        """
        if self._file is None:
            self._learn_from_server()
            return
        try:
            self._adopt()
            with self._file.turn() as is_ours:
                if is_ours and (not self._plans.complete or self._plans.wanting()):
                    self._learn_from_server()
                    self._file.publish(self._plans)
        except OSError as error:
            # The directory is gone or full: that is no reason not to serve.
            log.warning("what the servers say of the queries is not shared any more: %s", error)
            self._file = None

    def _learn_from_server(self) -> None:
        if self._plans.wanting():
            with self._lend() as connection:
                self._ask(connection)
        self._plans.complete = True

    def _ask(self, connection: Connection) -> None:
        book = Book()
        published_at = monotonic()
        for known in self._plans.wanting():
            known.tried_at = monotonic()
            self._learn_one(connection, known, book)
            if self._file is not None and monotonic() - published_at > PUBLISH_EVERY:
                self._file.publish(self._plans)
                published_at = monotonic()

    def _learn_one(self, connection: Connection, known: Known, book: Book) -> None:
        query = known.query
        try:
            signature = learn(connection, query, book, monotonic() + PER_QUERY)
        except (CannotLearn, TryLater) as error:
            self._note_fault(known, str(error))
        except GatewayError:
            raise
        except Exception:  # a bug of ours costs this query, not the whole catalogue
            log.exception("%s:%d: %s: a bug of ours", query.file, query.line, query.name)
            self._note_fault(known, "a bug of ours: the log has more")
        else:
            self._plans.learnt(query.name, signature, at=time.time())

    def _note_fault(self, known: Known, fault: str) -> None:
        query = known.query
        if known.fault != fault:
            log.warning("%s:%d: %s cannot be served: %s", query.file, query.line, query.name, fault)
        self._plans.failed(query.name, fault)

    def _adopt(self) -> None:
        if self._file is not None:
            with suppress(OSError, msgspec.MsgspecError):  # then this worker learns for itself
                self._file.adopt(self._plans)

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        """Lend a connection of the first group that has an endpoint: it is counted as any other."""
        for group in self._pool.groups.values():
            if group.serving:
                with group.lease(monotonic() + PATIENCE) as lease:
                    yield lease.connection
                return
        raise NoEndpoint("no server has answered yet")
