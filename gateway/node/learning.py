"""Looks at the database and learns what its queries take and give, for all workers of a node.

A look tells which parts of the server's catalogue have changed since the last one; queries that depend on them are
learnt anew. What was learnt is known to hold once a look before it and a look after it agree on all it depends on.
"""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from time import monotonic

from gateway.catalogue.dependencies import ALWAYS, SETTINGS, Dependencies
from gateway.errors import GatewayError
from gateway.events import BugFound, CatalogueChanged, Observer, QueryRefused
from gateway.execution.plans import Known, Plans
from gateway.node.learnt import Entry, Failed, Learnt, Looked, Stale
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, learn
from gateway.postgres.looking import Look, look
from gateway.postgres.objects import Book
from gateway.postgres.session import Session

LOOK_EVERY = 0.5
"""Seconds between two looks. One costs 0.1 ms where nothing was written in the server meanwhile."""
PER_LOOK = 2.0
PER_QUERY = 2.0
"""Seconds that one look, and learning one query, may take."""
SLICE = 0.05
"""Seconds of learning after which the other workers get what there is, and the connection goes back to its pool."""
_AT_ONCE = 200
"""Queries compared with what has changed before requests have their turn on a loop."""

Lend = Callable[[], AbstractContextManager[Session]]
"""Lends a connection; raises a GatewayError."""


class Learning:
    """What the worker that learns for the node does, in turns that one thread takes."""

    def __init__(
        self, *, plans: Plans, lend: Lend, share: Callable[[Sequence[Entry]], None], observe: Observer
    ) -> None:
        """``share`` has all workers, this one included, take over what was found."""
        self._plans = plans
        self._lend = lend
        self._share = share
        self._observe = observe
        self.parts: dict[str, int] = {}
        """What the last look showed, whichever process looked."""
        self._look: Look | None = None
        """The last look by this process."""
        self._watched = self._looked_for = Dependencies()
        """What is to be watched, and what the last look watched."""
        self._watched_parts: AbstractSet[str] | None = None
        """Parts that the last look by this process was at; None: there was none."""
        self._book = Book()
        self._found: list[Dependencies] = []
        """What is to be watched because of what was learnt since the last look."""
        self._locked: set[str] = set()
        """Relations of queries that had to wait, since the last look."""
        self._all_since: float | None = None
        """Since when all queries are being learnt, where somebody wants that."""
        self.looked_at = float("-inf")
        """When the last look that succeeded began, by ``time.monotonic``."""

    @property
    def is_learning_all(self) -> bool:
        """Whether ``learn_all`` is in progress."""
        return self._all_since is not None

    def take_over(self, looked: Looked) -> None:
        """Go on from a look of any worker of the node."""
        self.parts = looked.parts

    def learn_all(self) -> None:
        """Learn every query, at the next turns."""
        self._all_since = monotonic()
        self._book = Book()
        self._plans.ask_all()

    def turn(self) -> float:
        """Do what is due; returns the seconds after which there may be more. Raises a GatewayError."""
        is_asked = self._plans.asked_at > self.looked_at and self._plans.has_asked
        if is_asked or monotonic() - self.looked_at >= LOOK_EVERY:
            self._look_for_changes()
        if self._learn_slice():
            return 0.0
        if self._found:
            self._look_for_changes()
            return 0.0
        if self._all_since is not None:
            self._share([Looked(self.parts, all_since=self._all_since)])
            self._all_since = None
        return max(0.0, self.looked_at + LOOK_EVERY - monotonic())

    # --- looking ---------------------------------------------------------------------------------------------------

    def _look_for_changes(self) -> None:
        began = monotonic()
        if self._look is None:
            self._found = [known.signature.dependencies for known in self._plans.all() if known.signature is not None]
        self._watch_more()
        since = self._look if self._watched is self._looked_for else None  # there may be more to be watched
        with self._lend() as connection:
            seen = look(connection, self._watched, began + PER_LOOK, since=since)
        if seen is not self._look:
            self._compare(seen, is_unwritten=self._look is not None and seen.moment == self._look.moment)
            self._look, self._looked_for = seen, self._watched
            self._watched_parts = self._watched.parts | seen.parts.keys() | ALWAYS
        self._locked.clear()
        self._plans.confirmed = True
        self.looked_at = began

    def _watch_more(self) -> None:
        """Watch what was found since the last look as well."""
        while self._found:
            found, self._found = self._found[:_AT_ONCE], self._found[_AT_ONCE:]
            self._watched = Dependencies.of_all([self._watched, *found])
            time.sleep(0)  # let requests have their turn on a loop

    def _compare(self, seen: Look, *, is_unwritten: bool) -> None:
        """Have learnt anew what depends on parts that differ; ``is_unwritten``: nothing was written meanwhile.

        NOTE: a part that was not watched before may have changed between the moment when a query was learnt and this
        look, unless nothing was written at all. What depends on it is learnt once more; the next look compares it.
        """
        differing = seen.changed_since(self.parts)
        if not differing:
            return
        changed = differing if self._watched_parts is None else differing & self._watched_parts
        new = frozenset() if is_unwritten else differing - changed
        self._book = Book()
        entries: list[Entry] = []
        if stale := self._touched_by(changed):
            entries.append(Stale(tuple(known.query.name for known in stale), monotonic()))
            self._observe(CatalogueChanged(parts=len(changed), queries=len(stale)))
        if changed:
            for known in self._plans.faulty():
                self._plans.ask(known)
        for known in self._touched_by(new):
            self._plans.ask(known)
        self._share([*entries, Looked(seen.parts, sessions_stale=SETTINGS in changed)])

    def _touched_by(self, parts: frozenset[str]) -> list[Known]:
        touched: list[Known] = []
        if not parts:
            return touched
        for number, known in enumerate(self._plans.all()):
            if number % _AT_ONCE == 0:
                time.sleep(0)  # as above
            if known.signature is not None and known.signature.dependencies.touched_by(parts):
                touched.append(known)
        return touched

    # --- learning --------------------------------------------------------------------------------------------------

    def _learn_slice(self) -> bool:
        """Learn for a while; whether there was anything to learn."""
        known = self._plans.next_to_learn()
        is_waiting = known is None
        if known is None:
            known = self._plans.next_to_learn(waiting=True)
        if known is None:
            return False
        entries: list[Entry] = []
        ends = monotonic() + SLICE
        try:
            with self._lend() as connection, briefly(connection, PER_QUERY):
                while known is not None:
                    entries.append(self._learn(connection, known, is_retry=is_waiting))
                    if is_waiting or connection.closed or monotonic() >= ends:
                        break
                    known = self._plans.next_to_learn()
        finally:
            self._share(entries)
        return True

    def _learn(self, connection: Session, known: Known, *, is_retry: bool) -> Learnt | Failed:
        query = known.query
        if not is_retry and not self._locked.isdisjoint(query.statement.relations):
            return self._failed(known, "it has to wait, as another query of the same table has", waits=True)
        try:
            signature = learn(connection, query, self._book, monotonic() + PER_QUERY)
        except CannotLearn as error:
            return self._failed(known, str(error))
        except TryLater as error:
            self._locked.update(query.statement.relations)
            return self._failed(known, str(error), waits=True)
        except GatewayError as error:
            # The connection is gone. It may be this query that ends connections, so it is not the first to be tried
            # on the next one; if there is no next one, that is an error of its own.
            return self._failed(known, error.detail, waits=True)
        except Exception as error:  # noqa: BLE001 -- a bug of ours costs this query, not all
            self._observe(BugFound(where=f"learning the types of {query.name}", error=error))
            return self._failed(known, "a bug of the gateway: its log has more")
        self._found.append(signature.dependencies)
        is_new = known.stale_at is not None or known.signature not in (None, signature)
        return Learnt(query.name, signature, known.epoch + is_new, time.time())

    def _failed(self, known: Known, fault: str, *, waits: bool = False) -> Failed:
        query = known.query
        if known.fault != fault:
            self._observe(QueryRefused(query=query.name, file=query.file, line=query.line, fault=fault))
        return Failed(query.name, fault, waits=waits)
