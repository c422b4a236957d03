"""Plans of all queries: learnt from the first server that answers, once per node, and kept.

The worker that comes first writes what it learnt into the runtime directory; the others read it, so that all
connections of the node prepare with the same types. A query that the server does not take is tried again when it is
called, at most once a second: a migration may bring what it misses.
"""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import msgspec

from gateway.catalogue.arguments import Binder
from gateway.catalogue.query import Catalogue, Query
from gateway.catalogue.types import Signature
from gateway.errors import BackendUnavailable, GatewayError, QueryBroken
from gateway.postgres.connection import Connection
from gateway.postgres.declared import CannotLearn
from gateway.postgres.learning import learn
from gateway.postgres.statement import Plan
from gateway.postgres.types import TypeBook

log = logging.getLogger("gateway.node")

LEARN_AGAIN_AFTER = 1.0
"""Seconds between two tries at a query the server does not take."""
PER_QUERY = 5.0
"""Seconds that learning one query may take."""
PATIENCE = 3.0
"""Seconds for which another worker may be at it before we learn for ourselves: it may be stopped."""


PUBLISH_EVERY = 0.05
"""Seconds after which the others get what there is while the rest is being learnt."""


class Ready(NamedTuple):
    """What a call needs."""

    plan: Plan
    binder: Binder
    accumulating: Plan | None
    """The plan for many at once, where there is one."""


class Learnt(msgspec.Struct, frozen=True):
    """What the servers said of a catalogue, as the workers of a node share it."""

    signatures: dict[str, Signature]
    faults: dict[str, str]
    complete: bool = True
    """Whether every query has been looked at."""


class Plans:
    """The plans of one process: what another worker of the node has learnt, or else what ``learn_all`` learns.

    Until then every call is refused as unavailable.
    """

    def __init__(self, *, catalogue: Catalogue, directory: Path | None) -> None:
        """``directory``: the node's runtime directory; None: nothing is shared."""
        self._catalogue = catalogue
        self._file = None if directory is None else directory / f"signatures-{catalogue.hash[:16]}.json"
        self._signatures: dict[str, Signature] = {}
        self._faults: dict[str, str] = {}
        self._tried: dict[str, float] = {}
        self._asked: set[str] = set()
        self._doubted: set[str] = set()
        self._adopted = 0
        """When what was adopted last had been written."""
        self._ready: dict[tuple[str, bool], Ready] = {}
        self._learning = threading.Lock()
        self._held_up_since: float | None = None
        self.complete = False
        """Whether every query has been looked at."""
        self.adopt()

    def get(self, query: Query, *, bigint_as_string: bool = False) -> Ready:
        """The plan and binder of a query; raises BackendUnavailable before they are known, QueryBroken if never."""
        ready = self._ready.get((query.name, bigint_as_string))
        if ready is not None:
            return ready
        if not self.complete:
            self.adopt()
        signature = self._signatures.get(query.name)
        if signature is None:
            if query.name in self._faults:
                self._asked.add(query.name)
                raise QueryBroken(f"{query.name} cannot be served: see the gateway's log, or gateway check")
            self._asked.add(query.name)
            raise BackendUnavailable("no server has answered yet, so the types of this query are not known")
        plan = Plan.of(query, signature, bigint_as_string=bigint_as_string)
        many = None
        if query.batch is not False:
            many = Plan.accumulating(query, signature, bigint_as_string=bigint_as_string)
        ready = Ready(plan, Binder(query.parameters, signature.parameters), many)
        self._ready[(query.name, bigint_as_string)] = ready
        if self._signatures.get(query.name) is not signature:  # learnt anew meanwhile: not to be kept
            self._ready.pop((query.name, bigint_as_string), None)
        return ready

    def doubt(self, query: Query) -> None:
        """Learn a query's types once more: the server now refuses what it took before."""
        if query.name not in self._doubted:
            self._doubted.add(query.name)
            self._asked.add(query.name)

    def signature(self, name: str) -> Signature | None:
        """What the server said of a query; None as long as it said nothing."""
        return self._signatures.get(name)

    @property
    def faults(self) -> Mapping[str, str]:
        """Queries that cannot be served, with the reason for their author."""
        return self._faults

    def learn_all(self, lend: Callable[[], AbstractContextManager[Connection]]) -> None:
        """Learn what is not known yet, from the node's other workers or else from the server.

        ``lend`` lends a connection, and is called only if there is something to ask. Raises a GatewayError when the
        connection fails, or none could be had; what was learnt until then is kept.
        """
        if not self._learning.acquire(blocking=False):
            return  # another thread is at it
        try:
            if self._file is None:
                self._learn_from(lend)
            else:
                self._learn_for_all(lend, self._file)
        except (OSError, msgspec.MsgspecError) as error:
            # The directory is gone, full or damaged: that is no reason not to serve.
            log.warning("what the servers say of the queries is not shared any more: %s", error)
            self._file = None
        finally:
            self._learning.release()

    def _learn_for_all(self, lend: Callable[[], AbstractContextManager[Connection]], file: Path) -> None:
        with file.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # Another worker is at it, and the kernel frees the lock should it die.
                if self._held_up_since is None:
                    self._held_up_since = monotonic()
                if monotonic() - self._held_up_since < PATIENCE:
                    return
            self._held_up_since = None
            if not self.complete:
                self.adopt()
            if self.wants_another_look():
                self._learn_from(lend)
                self._publish(file)

    def wants_another_look(self) -> bool:
        """Whether there is something to learn now."""
        return not self.complete or bool(self._asked and self._wanting())

    def _wanting(self) -> list[Query]:
        """Queries never looked at, and those asked for whose last look was long enough ago."""
        queries = self._catalogue.queries
        unseen = queries.keys() - self._signatures.keys() - self._faults.keys()
        before = monotonic() - LEARN_AGAIN_AFTER
        again = {name for name in tuple(self._asked) if self._tried.get(name, before) <= before}
        return [queries[name] for name in sorted(unseen | again)]

    def _learn_from(self, lend: Callable[[], AbstractContextManager[Connection]]) -> None:
        wanting = self._wanting()
        if wanting:
            with lend() as connection:
                self._ask(connection, wanting)
        self.complete = True

    def _ask(self, connection: Connection, wanting: list[Query]) -> None:
        book = TypeBook()
        published_at = monotonic()
        remaining = {query.name: query for query in wanting}
        while remaining:
            # Somebody waits for those that were asked for.
            query = remaining.pop(next((name for name in remaining if name in self._asked), next(iter(remaining))))
            self._tried[query.name] = monotonic()
            try:
                self._note(query, learn(connection, query, book, monotonic() + PER_QUERY))
            except CannotLearn as error:
                self._note_fault(query, str(error))
            except GatewayError:
                raise
            except Exception:  # a bug of ours costs this query, not the whole catalogue
                log.exception("%s:%d: %s: a bug of ours", query.file, query.line, query.name)
                self._note_fault(query, "a bug of ours: the log has more")
            self._asked.discard(query.name)
            if self._file is not None and monotonic() - published_at > PUBLISH_EVERY:
                self._publish(self._file)
                published_at = monotonic()

    def _note(self, query: Query, signature: Signature) -> None:
        if self._signatures.get(query.name) != signature:
            self._doubted.discard(query.name)  # the doubt was right, so the next one may be
        self._signatures[query.name] = signature
        self._faults.pop(query.name, None)
        for bigint_as_string in (False, True):
            self._ready.pop((query.name, bigint_as_string), None)

    def _note_fault(self, query: Query, fault: str) -> None:
        if self._faults.get(query.name) != fault:
            log.warning("%s:%d: %s cannot be served: %s", query.file, query.line, query.name, fault)
        self._faults[query.name] = fault

    def adopt(self) -> None:
        """Take over what another worker has learnt, if there is one and it has."""
        if self._file is None:
            return
        try:
            written = self._file.stat().st_mtime_ns
            if written == self._adopted:
                return
            learnt = msgspec.json.decode(self._file.read_bytes(), type=Learnt)
        except (OSError, msgspec.MsgspecError):
            return  # we learn for ourselves, then
        self._signatures.update(learnt.signatures)
        self._faults = dict(learnt.faults)
        self.complete = learnt.complete
        self._adopted = written

    def _publish(self, file: Path) -> None:
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(Learnt(self._signatures, self._faults, self.complete)))
        draft.replace(file)
