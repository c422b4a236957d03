"""A call goes in, an answer comes out: what somebody wants run, and what came of it, as values without HTTP."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from gateway.catalogue.exporting import Format
from gateway.catalogue.query import Query
from gateway.execution.freshness import Freshness
from gateway.postgres.idempotency import Claim
from gateway.postgres.statement import Plan
from gateway.postgres.work import Work
from gateway.served import Allowance, Served
from gateway.settings.units import Rate
from gateway.waiting import Client

JSON: Final = "application/json"


def claim_of(claims: Mapping[str, Any], path: str) -> Any:
    """Return the claim of this name, or else the one that its dots lead to, through objects; None: there is none."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a call. One value for all calls of one identity, made when it was verified."""

    name: str = ""
    """``key:NAME``, ``jwt:SUBJECT`` or ``cert:NAME``; empty: anybody. Idempotency keys belong to it."""
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = {}
    """What is known of it: a token's claims, or a key's ``sub``, ``roles`` and parameters."""
    settings: Mapping[str, str] | None = {}
    """Settings of the session that stand for it in groups that ask for them (``Call.settings``); None: it may call
    nothing there."""

    rate: Rate | None = None
    """How often it may call, all queries together; None: as often as it likes."""

    def value_of(self, source: str) -> Any:
        """Return what ``claim:PATH`` or ``key:NAME`` is of this caller, None where it has no such thing."""
        kind, _, path = source.partition(":")
        if kind == "key":
            return self.claims.get(path) if self.name.startswith("key:") else None
        return claim_of(self.claims, path)

    def has_any(self, roles: Collection[str]) -> bool:
        """Whether it may call what is for these roles; what names none is for every caller."""
        return not roles or not self.roles.isdisjoint(roles)


ANONYMOUS = Caller()
"""Nobody known, with no role."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What every call has, whatever it runs."""

    group: str
    deadline: float
    """Point of ``time.monotonic`` by which it is answered."""
    client: Client | None = None
    """Whose hanging up ends a read; None: nobody's."""
    caller: Caller = ANONYMOUS
    settings: Mapping[str, str] = {}
    """Settings of the session that hold for this call's statements, and for nothing else: sent in front of them."""
    request_id: str = ""
    freshness: Freshness | None = None
    """How fresh the data of reads must be; None: as fresh as the group's."""
    allowances: Sequence[Allowance] = ()
    """Where the caller stands with its limits, this call included."""
    applied: str = ""
    """The preferences that its answer has kept, as ``Preference-Applied`` says them (RFC 7240)."""


C = TypeVar("C", bound=Call)


class SingleCall(Call, frozen=True, kw_only=True):
    """One query with one set of arguments. A write is a transaction of its own."""

    query: Query
    plan: Plan
    literals: Sequence[str]
    """In the order of ``$1`` …"""


class RawCall(Call, frozen=True, kw_only=True):
    """One read of a value that is answered as it is, without JSON."""

    query: Query
    plan: Plan
    literals: Sequence[str]


class PageCall(Call, frozen=True, kw_only=True):
    """One read of a page of a query's rows."""

    query: Query
    plan: Plan
    literals: Sequence[str]
    context: bytes
    """What its cursors are good for."""
    begins: bool
    """Whether it is the first page."""
    link: str | None = None
    """The query string of the same call, to which the next page's cursor is added; None: it is too long for a link."""


class TransactionCall(Call, frozen=True, kw_only=True):
    """Queries in one transaction whose COMMIT is a message of its own: a list, several steps, a write with a key."""

    queries: Sequence[Query]
    """Those of the work's steps."""
    work: Work
    retries: bool = False
    """Whether serialization failures and deadlocks are the gateway's to repeat."""


class StreamCall(Call, frozen=True, kw_only=True):
    """One read with many rows, to be sent line by line."""

    query: Query
    plan: Plan
    literals: Sequence[str]
    wanted: Format
    ends: bool = False
    """Whether its deadline is that of the whole, and not of the first rows alone."""


class BulkCall(Call, frozen=True, kw_only=True):
    """One write with records that are still coming."""

    query: Query
    plan: Plan
    summing: Plan | None
    """How it runs where the rows it touches are summed up by the server; None: where nothing can be put around it."""
    records: Iterator[Sequence[str]]
    """The literals of each; raises a GatewayError for one that is none, and where no more can be read."""
    drain: Callable[[], object]
    """Reads what is left, of which nothing is run. Raises a GatewayError."""
    claim: Claim | None = None
    """Without a hash, which is known at the end."""
    digest: Callable[[], str]
    """The request's hash, once all has been read."""
    most: int | None = None
    """Rows that all of it may touch; None: any number."""
    ends: bool = False
    """Whether its deadline is that of the whole, and not of its beginning and of each message alone."""


AnyCall = SingleCall | TransactionCall | StreamCall | RawCall | BulkCall | PageCall


def on_primary(call: C) -> C:
    """The same call of a read for which no replica has the data."""
    return replace(call, freshness=(call.freshness or Freshness())._replace(only_primary=True))


class Kept(msgspec.Struct, frozen=True):
    """How an answer stands that is kept, to be given to others as well."""

    tag: str
    """What its bytes are told by, the same in all processes."""
    age: float
    """Seconds since it was asked for."""
    rest: float
    """Seconds for which it is good."""


class Answer(msgspec.Struct, kw_only=True):
    """What came of a call that succeeded."""

    body: bytes
    """All of it, or what comes before ``pieces``."""
    pieces: Iterator[bytes] = iter(())
    """What follows while it comes; raises a GatewayError where it breaks off."""
    media: str = JSON
    served: Served | None = None
    """How it was run; None where nothing had to be."""
    replayed: bool = False
    """It is what an earlier request with the same idempotency key was answered."""
    kept: Kept | None = None
    """None: it is for this call alone."""
    next: str | None = None
    """The cursor of the page behind it; None: there is none, or it is no page."""
    is_known: bool = False
    """Its caller has it, and is told so (304)."""
    held: ExitStack | None = None
    """What must stay until the answer has been sent, above all the lease its rows still come over; None: nothing."""

    def close(self) -> None:
        """Let go of what is held. To be called once the answer has been sent, or cannot be; harmless when repeated."""
        if self.held is not None:
            self.held.close()
