"""What a worker knows of each query: its signature or its fault, and from them the plans that run it."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import NamedTuple

from gateway.catalogue.arguments import Binder
from gateway.catalogue.paging import own_parameters
from gateway.catalogue.query import Catalogue, Query
from gateway.catalogue.types import Signature
from gateway.catalogue.values import Pause, no_pause
from gateway.errors import BackendUnavailable, CatalogueStale, QueryBroken
from gateway.execution.call import ANONYMOUS, Caller
from gateway.execution.paging import Variants
from gateway.postgres.statement import Plan

AGAIN_AFTER = 1.0
"""Seconds between two attempts to learn a query that the server does not take, or that has to wait."""
STALE_FOR = 1.0
"""Seconds for which calls use what was learnt before a migration that is known. What a read answers is compared with
it, and a write is guarded; so this bounds for how long arguments of a read may be sent as their former types."""


class Ready(NamedTuple):
    """What a call needs."""

    plan: Plan
    binder: Binder
    accumulating: Plan | None
    """The plan for many at once, where there is one."""
    variants: Variants | None = None
    """Where callers choose an order or a page: what makes of literals, which the binder gives more of, what runs."""


class Known:
    """What is known of one query."""

    __slots__ = (
        "asked",
        "doubted",
        "epoch",
        "fault",
        "is_seen",
        "learnt_at",
        "query",
        "ready",
        "signature",
        "stale_at",
        "tried_at",
        "waits",
    )

    def __init__(self, query: Query) -> None:
        self.query = query
        self.signature: Signature | None = None
        """None until the server has described the query."""
        self.epoch = 0
        """Grows whenever something else is learnt; part of the names under which statements are prepared."""
        self.learnt_at: float | None = None
        """When the signature was learnt, in seconds of the Unix epoch."""
        self.fault: str | None = None
        """Why it could not be learnt when that was tried last, for its author."""
        self.is_seen = False
        """Whether a server was asked about it."""
        self.waits = False
        """The fault is not the query's own: a lock, say. It is tried again without being asked for."""
        self.tried_at = float("-inf")
        """When this worker last tried to learn it or asked another one to, by ``time.monotonic``."""
        self.asked = False
        """It is to be learnt, or learnt again."""
        self.doubted = False
        """The server refused what it took before, and nothing else has been learnt since."""
        self.stale_at: float | None = None
        """When a migration was noticed that may change the signature, by ``time.monotonic``; None: it holds."""
        self.ready: dict[bool, Ready] = {}
        """What calls of it need, by ``bigint_as_string``; made when first asked for."""


class Plans:
    """The plans of one process. Until a query has been learnt, every call of it is refused as unavailable."""

    def __init__(self, catalogue: Catalogue, pause: Pause = no_pause, *, max_bytes: int | None = None) -> None:
        """``pause`` is called between parts of long work on one request's arguments.

        ``max_bytes``: longest result with many rows that a server is to send.
        """
        self._pause = pause
        self._max_bytes = max_bytes
        self._known = {name: Known(query) for name, query in catalogue.queries.items()}
        self._unseen = dict(reversed(self._known.items()))
        """Queries that nobody has begun to learn."""
        self._asked: dict[str, Known] = {}
        self._seen = 0
        self.asked_at = float("-inf")
        """When a query was last asked for, by ``time.monotonic``."""
        self.on_asked: Callable[[], None] | None = None
        """Called when one is asked for."""
        self.faults = 0
        """How many queries cannot be served."""
        self.revision = 0
        """Grows whenever something else is known of a query."""
        self.confirmed = True
        """Whether the database was looked at since this process runs, if it began with what another one had learnt."""

    @property
    def complete(self) -> bool:
        """Whether a server was asked about every query, and what it said is known to hold."""
        return self.confirmed and self._seen == len(self._known)

    def get(self, query: Query, caller: Caller = ANONYMOUS, *, bigint_as_string: bool = False) -> Ready:
        """The plan and binder of a query; what the caller decides on is bound already.

        Raises BackendUnavailable before they are known, QueryBroken if the server does not take the query, and
        CatalogueStale while it has to be learnt anew.
        """
        known = self._known[query.name]
        ready = known.ready.get(bigint_as_string) or self._make(known, bigint_as_string=bigint_as_string)
        return ready._replace(binder=ready.binder.filled(caller.value_of)) if ready.binder.is_bound else ready

    def summing(self, query: Query) -> Plan | None:
        """The plan of a write that adds the rows it touches to a setting; None where nothing can be put around it."""
        known = self._known[query.name]
        return None if known.signature is None else Plan.summing(query, known.signature, epoch=known.epoch)

    def doubt(self, query: Query) -> None:
        """Have a query learnt once more: the server now refuses what it took before."""
        known = self._known[query.name]
        if not known.doubted:
            known.doubted = True
            self.ask(known)

    def ask(self, known: Known) -> None:
        """Have a query learnt, or learnt again, before those that nobody has asked for."""
        if not known.asked:
            known.asked = True
            self._asked[known.query.name] = known
            self.asked_at = monotonic()
            if self.on_asked is not None:
                self.on_asked()

    def ask_all(self) -> None:
        """Have every query learnt, now."""
        for known in self._known.values():
            self.ask(known)
            known.tried_at = float("-inf")

    def known(self, name: str) -> Known:
        """What is known of a query of the catalogue."""
        return self._known[name]

    def all(self) -> Iterator[Known]:
        """What is known of every query, in the catalogue's order."""
        return iter(self._known.values())

    def faulty(self) -> Iterator[Known]:
        """Queries that cannot be served."""
        return (known for known in self._known.values() if known.fault is not None) if self.faults else iter(())

    def next_to_learn(self, *, waiting: bool = False) -> Known | None:
        """A query that was asked for, or else one that no server was asked about; None if there is none now.

        It is not given again until it was learnt, or ``AGAIN_AFTER`` has passed. ``waiting``: instead, one of those
        whose last attempt had to wait.
        """
        now = monotonic()
        known = next(
            (each for each in self._asked.values() if each.waits is waiting and each.tried_at <= now - AGAIN_AFTER),
            None,
        )
        if known is None and self._unseen and not waiting:
            _, known = self._unseen.popitem()
            self.ask(known)
        if known is not None:
            known.tried_at = now
        return known

    @property
    def is_settled(self) -> bool:
        """Whether no query is asked for, nor waits for being learnt for the first time."""
        return not self._asked and not self._unseen

    @property
    def has_asked(self) -> bool:
        """Whether a query was asked for that may be learnt now."""
        before = monotonic() - AGAIN_AFTER
        return any(not known.waits and known.tried_at <= before for known in self._asked.values())

    def asked(self) -> list[Known]:
        """Queries that were asked for, and that this process has not asked another one about for a while."""
        before = monotonic() - AGAIN_AFTER
        return [known for known in self._asked.values() if known.tried_at <= before]

    def learnt(self, name: str, signature: Signature, *, at: float, epoch: int = 0) -> None:
        """Take over what the server said of a query; ``at``: when it said so, in seconds of the Unix epoch."""
        known = self._known[name]
        if known.signature != signature or known.epoch != epoch:
            known.doubted = False  # the doubt was right, so the next one may be
            known.signature, known.epoch = signature, epoch
            known.ready = {}
            self.revision += 1
        elif known.stale_at is not None:
            known.ready = {}
        known.learnt_at, known.stale_at = at, None
        self._tried(known, None, waits=False)

    def failed(self, name: str, fault: str, *, waits: bool) -> None:
        """Take over why a query could not be learnt. Where it has to wait, calls go on with what is known of it."""
        known = self._known[name]
        if not waits:
            known.signature, known.stale_at, known.ready = None, None, {}
            self.revision += 1
        self._tried(known, fault, waits=waits)
        if waits:
            self.ask(known)
            known.tried_at = monotonic()

    def stale(self, names: Iterable[str], *, at: float) -> None:
        """Take over that a migration may have changed these queries; ``at``: when it was noticed."""
        for name in names:
            known = self._known[name]
            if known.signature is not None and known.stale_at is None:
                known.stale_at, known.ready = at, {}
            self.ask(known)
            known.tried_at = float("-inf")

    def _tried(self, known: Known, fault: str | None, *, waits: bool) -> None:
        if waits and known.signature is not None and known.stale_at is None:
            fault = None  # it is served
        if not known.is_seen:
            known.is_seen = True
            self._seen += 1
        self.faults += (fault is not None) - (known.fault is not None)
        known.fault, known.waits, known.asked = fault, waits, False
        self._asked.pop(known.query.name, None)
        self._unseen.pop(known.query.name, None)

    def _make(self, known: Known, *, bigint_as_string: bool) -> Ready:
        """Make what ``get`` returns, and keep it unless it may be out of date."""
        query, signature, ready = known.query, known.signature, known.ready
        if not self.confirmed or (signature is None and known.fault is None):
            self.ask(known)
            raise BackendUnavailable("no server has answered yet, so the types of this query are not known")
        if signature is None:
            self.ask(known)
            if known.waits:
                raise BackendUnavailable("the types of this query are not known: they are waited for, see GET /queries")
            raise QueryBroken(f"{query.name} cannot be served: see the gateway's log, or gateway check")
        if known.stale_at is not None:
            self.ask(known)
            if monotonic() - known.stale_at > STALE_FOR:
                raise CatalogueStale("the database has changed, and this query is being learnt anew")
        plan = Plan.of(
            query, signature, bigint_as_string=bigint_as_string, epoch=known.epoch, max_bytes=self._max_bytes
        )
        many, variants = None, None
        if own := own_parameters(query):
            variants = Variants(
                query, signature, bigint_as_string=bigint_as_string, epoch=known.epoch, max_bytes=self._max_bytes
            )
        elif query.batch is not False:
            many = Plan.accumulating(query, signature, bigint_as_string=bigint_as_string, epoch=known.epoch)
        parameters = (*query.parameters, *(parameter for parameter, _ in own))
        types = (*signature.parameters, *(type_ for _, type_ in own))
        made = Ready(plan, Binder(parameters, types, self._pause), many, variants)
        if known.stale_at is None:
            # NOTE: into the dictionary that was there before the signature was read. If another thread has learnt the
            # query anew meanwhile, that dictionary is not the query's any more.
            ready[bigint_as_string] = made
        return made
