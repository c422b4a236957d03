"""What a worker knows of each query: its signature or its fault, and from them the plans that run it."""

from collections.abc import Iterator
from time import monotonic
from typing import NamedTuple

from gateway.catalogue.arguments import Binder
from gateway.catalogue.query import Catalogue, Query
from gateway.catalogue.types import Signature
from gateway.errors import BackendUnavailable, QueryBroken
from gateway.postgres.statement import Plan

LEARN_AGAIN_AFTER = 1.0
"""Seconds between two attempts to learn a query that the server does not take."""


class Ready(NamedTuple):
    """What a call needs."""

    plan: Plan
    binder: Binder
    accumulating: Plan | None
    """The plan for many at once, where there is one."""


class Known:
    """What is known of one query."""

    __slots__ = ("asked", "doubted", "fault", "learnt_at", "query", "ready", "signature", "tried_at")

    def __init__(self, query: Query) -> None:
        self.query = query
        self.signature: Signature | None = None
        """None until the server has described the query."""
        self.fault: str | None = None
        """Why the server does not take it now, for its author."""
        self.learnt_at: float | None = None
        """When the signature was learnt, in seconds of the Unix epoch."""
        self.tried_at = float("-inf")
        """When this worker last tried to learn it, by ``time.monotonic``."""
        self.asked = False
        """It is to be learnt, or learnt again: a call was refused, or the server refused a statement."""
        self.doubted = False
        """The server refused what it took before, and learning again has not changed the signature since."""
        self.ready: dict[bool, Ready] = {}
        """What calls of it need, by ``bigint_as_string``; made when first asked for."""

    @property
    def is_seen(self) -> bool:
        """Whether a server has said anything of it."""
        return self.signature is not None or self.fault is not None


class Plans:
    """The plans of one process. Until a query has been learnt, every call of it is refused as unavailable."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._known = {name: Known(query) for name, query in catalogue.queries.items()}
        self.faults = 0
        """How many queries cannot be served."""
        self.complete = False
        """Whether every query has been looked at."""

    def get(self, query: Query, *, bigint_as_string: bool = False) -> Ready:
        """The plan and binder of a query; raises BackendUnavailable before they are known, QueryBroken if never."""
        known = self._known[query.name]
        return known.ready.get(bigint_as_string) or self._make(known, bigint_as_string=bigint_as_string)

    def doubt(self, query: Query) -> None:
        """Have a query learnt once more: the server now refuses what it took before."""
        known = self._known[query.name]
        if not known.doubted:
            known.doubted = known.asked = True

    def known(self, name: str) -> Known:
        """What is known of a query of the catalogue."""
        return self._known[name]

    def all(self) -> Iterator[Known]:
        """What is known of every query, in the catalogue's order."""
        return iter(self._known.values())

    def wanting(self) -> list[Known]:
        """Queries never looked at, and those asked for whose last attempt was long enough ago; asked ones first."""
        before = monotonic() - LEARN_AGAIN_AFTER
        wanting = [known for known in self._known.values() if not known.is_seen or known.asked]
        return sorted(
            (known for known in wanting if not known.is_seen or known.tried_at <= before),
            key=lambda known: not known.asked,
        )

    def learnt(self, name: str, signature: Signature, *, at: float) -> None:
        """Take a signature over; ``at``: when the server gave it, in seconds of the Unix epoch."""
        known = self._known[name]
        if known.signature != signature:
            known.doubted = False  # the doubt was right, so the next one may be
        known.signature, known.learnt_at = signature, at
        self._replace_fault(known, None)

    def failed(self, name: str, fault: str) -> None:
        """Take over why the server does not take a query. One that worked before goes on with its old plan."""
        self._replace_fault(self._known[name], fault)

    def _replace_fault(self, known: Known, fault: str | None) -> None:
        self.faults += (fault is not None) - (known.fault is not None)
        known.fault = fault
        known.asked = False
        known.ready = {}

    def _make(self, known: Known, *, bigint_as_string: bool) -> Ready:
        query, signature, ready = known.query, known.signature, known.ready
        if signature is None:
            known.asked = True
            if known.fault is not None:
                raise QueryBroken(f"{query.name} cannot be served: see the gateway's log, or gateway check")
            raise BackendUnavailable("no server has answered yet, so the types of this query are not known")
        plan = Plan.of(query, signature, bigint_as_string=bigint_as_string)
        many = None
        if query.batch is not False:
            many = Plan.accumulating(query, signature, bigint_as_string=bigint_as_string)
        # NOTE: into the dictionary that was there before the signature was read. If another thread has learnt the
        # query anew meanwhile, that dictionary is not the query's any more.
        made = ready[bigint_as_string] = Ready(plan, Binder(query.parameters, signature.parameters), many)
        return made
