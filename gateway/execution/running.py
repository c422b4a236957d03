"""Runs a call on a connection: on which endpoint, and how often.

Reads are run once more where the server is to blame, writes only where they provably did not execute (``retries``).
Reads that ask for fresh data wait for an endpoint that has it (``freshness``). Whatever an attempt raises is raised
again here, and nowhere else, with how it was served.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Protocol, TypeVar

from msgspec.structs import replace

from gateway.errors import ConnectionLost, GatewayError, NoEndpoint, Outcome, TooStale
from gateway.events import CallRepeated, Observer, ignore
from gateway.execution import freshness
from gateway.execution.call import Call
from gateway.execution.freshness import Freshness
from gateway.execution.retries import MOST_ATTEMPTS, RetryBudget, did_not_execute, may_succeed_elsewhere
from gateway.execution.tokens import Tokens
from gateway.pool.group import Group
from gateway.pool.lease import ANY, Lease, LeaseRequest
from gateway.pool.pool import Pool
from gateway.postgres.session import Session
from gateway.postgres.work import Unresolved
from gateway.rotation.choosing import Candidates
from gateway.rotation.endpoint import EndpointView, Role
from gateway.served import Served
from gateway.waiting import Client, Waits

C = TypeVar("C", bound=Call)
T = TypeVar("T")

ReadWork = Callable[[C, Session, str], T]
"""Runs a call that reads. The text is a guard (``postgres.guarding``, or empty) that must go in front of the data."""
WriteWork = Callable[[C, Session], T]
"""Runs a call that writes, and commits before it returns. An error that it raises has the outcome."""

PATIENCE = 1.0
"""Seconds, or half of the time left, for which replicas are asked again before a read with a token goes to the
primary."""
SETTLING = 0.02
"""Seconds between the loss of a connection and the one re-run of its read: what breaks one connection (a server that
shuts down, an administrator who ends all sessions) breaks others within milliseconds."""
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05
"""Seconds between two questions whether an endpoint is fresh enough, longer each time."""
MOST_LOOKS = 6
"""Primaries that may say of a token that they are not on its timeline: a promotion of which this node has not heard yet
takes the probes about a second. More would be for tokens that nobody was given."""
PAUSE_OF_PRIMARIES = 0.25
"""Seconds between two such looks."""


class Leasing(Protocol):
    """What a read needs of its group."""

    @property
    def endpoints(self) -> Sequence[str]:
        """Names of all its endpoints."""

    @property
    def candidates(self) -> Candidates:
        """The endpoints that may be given work now."""

    def lease(
        self, deadline: float, request: LeaseRequest, client: Client | None
    ) -> AbstractContextManager[Lease[Session]]:
        """Return a lease, as ``Group.lease`` does."""


class Runner:
    """Runs reads and writes in the groups of a pool."""

    def __init__(
        self,
        *,
        pool: Pool[Session],
        waits: Waits,
        retry_budget: float,
        probe_interval: float,
        observe: Observer = ignore,
    ) -> None:
        """``retry_budget``: share of the reads that may be run again; ``probe_interval`` in seconds."""
        self._pool = pool
        self._waits = waits
        self._tokens = Tokens(waits)
        self._interval = probe_interval
        self._observe = observe
        self._view = pool.rotation.view
        self._budgets = {name: RetryBudget(share=retry_budget, least=group.size) for name, group in pool.groups.items()}

    # --- reads -------------------------------------------------------------------------------------------------

    def read(self, call: C, work: ReadWork[C, T], group: Leasing | None = None) -> tuple[T, Served]:
        """Do ``work``; what it returned, and how it was served. Raises a GatewayError.

        ``group``: what stands for the call's group, where its leases are to be held for longer than this.
        """
        if group is None:
            group = self._pool.groups[call.group]
        budget = self._budgets[call.group]
        budget.note(monotonic())
        try:
            if call.freshness is None:
                return self._attempt(group, call, work)
            return self._read_fresh(group, call, work, call.freshness)
        except GatewayError as error:
            if error.served is None or not may_succeed_elsewhere(error) or not budget.spend(monotonic()):
                raise
            first, left = error, frozenset({error.served.endpoint})
        self.repeated(call, first)
        if isinstance(first, ConnectionLost):
            self._waits.pause(max(0.0, min(SETTLING, call.deadline - monotonic())))
        try:
            if call.freshness is None:
                return self._attempt(group, call, work, LeaseRequest(avoid=left, answered_since=monotonic()), number=2)
            return self._read_fresh(group, call, work, call.freshness, left, number=2)
        except GatewayError as error:
            if not error.was_started:
                raise first from error
            raise

    def note_reads(self, group: str, count: int) -> None:
        """Count reads that are answered along with another one: a share of all may be run again."""
        self._budgets[group].note(monotonic(), count)

    def _attempt(
        self, group: Leasing, call: C, work: ReadWork[C, T], requested: LeaseRequest = ANY, *, number: int = 1
    ) -> tuple[T, Served]:
        with group.lease(call.deadline, requested, call.client) as lease:
            started = monotonic()
            view = self._view(lease.endpoint)
            try:
                guard = "" if call.freshness is None else self._check(call.freshness, view, started)
                lease.connection.run.asker = call.client
                done = work(call, lease.connection, guard)
            except GatewayError as error:
                raise error.but(served=self._served(lease, view, started, number)) from error
            return done, self._served(lease, view, started, number)

    def _served(self, lease: Lease[Session], view: EndpointView, started: float, number: int) -> Served:
        return Served(
            endpoint=lease.endpoint,
            attempts=number,
            queued=lease.queued,
            took=monotonic() - started,
            lag_ms=freshness.lag_now(view, started, self._interval) if view.role is Role.REPLICA else None,
        )

    def _read_fresh(
        self,
        group: Leasing,
        call: C,
        work: ReadWork[C, T],
        asked: Freshness,
        late: frozenset[str] = frozenset(),
        *,
        number: int = 1,
    ) -> tuple[T, Served]:
        """Do the work on an endpoint that is as fresh as asked, once there is one; rather not on those in ``late``.

        NOTE: an endpoint that was asked and had not come far enough did not do the work: that is no attempt.
        """
        if asked.token is not None:
            freshness.refuse_foreign(asked.token, map(self._view, group.endpoints))
        now = monotonic()
        answered_since = now if number > 1 else 0.0
        patient_until = now + min(PATIENCE, (call.deadline - now) / 2)
        pause = FIRST_PAUSE
        looks = 0
        while True:
            requested = self._request(group, asked, patient=now < patient_until, late=late, now=now)
            if requested is not None:
                if answered_since:
                    requested = replace(requested, answered_since=answered_since)
                try:
                    return self._attempt(group, call, work, requested, number=number)
                except TooStale as error:
                    late = frozenset() if error.served is None else frozenset({error.served.endpoint})
                    if any(self._view(name).role is Role.PRIMARY for name in late):
                        looks, pause = looks + 1, max(pause, PAUSE_OF_PRIMARIES)
                        if looks == MOST_LOOKS:
                            raise
                except NoEndpoint:
                    if requested.only is None:
                        raise
            now = monotonic() + pause
            if now >= call.deadline or (requested is None and asked.token is None):
                if asked.only_primary:
                    raise NoEndpoint("the data is on the primary only, and no primary may answer")
                raise TooStale("no endpoint that may answer is known to be as fresh as was asked for")
            self._waits.pause(pause, call.client)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _request(
        self, group: Leasing, asked: Freshness, *, patient: bool, late: frozenset[str], now: float
    ) -> LeaseRequest | None:
        candidates = group.candidates
        if not candidates.serving:
            return ANY  # whether to wait for an endpoint is the group's decision; the one that comes is checked then
        return freshness.lease_request(
            asked,
            serving=[self._view(name) for name in candidates.serving],
            reserve=[self._view(name) for name in candidates.reserve],
            newest=freshness.newest_timeline(self._pool.rotation.views()),
            patient=patient,
            late=late,
            now=now,
            interval=self._interval,
        )

    def _check(self, asked: Freshness, view: EndpointView, now: float) -> str:
        newest = freshness.newest_timeline(self._pool.rotation.views())
        return freshness.check(asked, view, newest=newest, now=now, interval=self._interval)

    def repeated(self, call: Call, error: GatewayError) -> None:
        """Report that a call is run once more, and after which failure."""
        self._observe(CallRepeated(request_id=call.request_id, group=call.group, reason=error.code))

    # --- writes ------------------------------------------------------------------------------------------------

    def write(self, call: C, work: WriteWork[C, T]) -> tuple[T, Served]:
        """Do ``work``; what it returned, and how it was served. Raises a GatewayError with the outcome, or Unresolved.

        It is done again only where it provably did not execute; the new primary, or the old one restarted, is waited
        for. A call whose client leaves before it has begun is dropped.
        """
        group = self._pool.groups[call.group]
        first: GatewayError | None = None
        for number in range(1, MOST_ATTEMPTS + 1):
            try:
                return self._attempt_write(group, call, work, number)
            except GatewayError as error:
                if first is not None and not error.was_started:
                    raise first from error
                if number == MOST_ATTEMPTS or not did_not_execute(error):
                    if error.outcome is None:  # the pool's errors know nothing of writes
                        raise error.but(outcome=Outcome.NOT_EXECUTED) from error
                    raise
                first = error
                self.repeated(call, first)
        raise AssertionError("the last attempt returns or raises")

    def _attempt_write(self, group: Group[Session], call: C, work: WriteWork[C, T], number: int) -> tuple[T, Served]:
        with group.lease(call.deadline, ANY, call.client) as lease:
            started = monotonic()
            lease.connection.run.asker = call.client
            try:
                done = work(call, lease.connection)
            except Unresolved as lost:
                raise Unresolved(
                    lost.error.but(served=_written(lease, monotonic() - started, number)), lost.mark, lost.body
                ) from lost
            except GatewayError as error:
                took = monotonic() - started
                token = self.token(lease, call.deadline) if error.outcome is Outcome.COMMITTED else None
                raise error.but(served=_written(lease, took, number, token)) from error
            took = monotonic() - started
            return done, _written(lease, took, number, self.token(lease, call.deadline))

    def token(self, lease: Lease[Session], deadline: float) -> str | None:
        """How far a server must have come to show what was just committed, if any but the primary ever answers.

        Never raises and changes nothing else of the answer: where the position is not known in time there is none.
        """
        views = self._pool.rotation.views()
        if len(views) < 2 or all(view.role is Role.PRIMARY for view in views):
            return None
        return self._tokens.after_commit(lease, deadline)


def _written(lease: Lease[Session], took: float, number: int, token: str | None = None) -> Served:
    return Served(endpoint=lease.endpoint, attempts=number, queued=lease.queued, took=took, token=token)
