"""Runs a request's work on a connection: on which endpoint, how often, and what the answer tells of it.

Reads are run once more where the server is to blame, writes only where they provably did not execute (``retries``);
reads that ask for fresh data find somebody who has it (``freshness``).
"""

import time
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

import falcon
from msgspec.structs import replace

from gateway.errors import ClientGone, ConnectionLost, GatewayError, NoEndpoint, Outcome, TooStale
from gateway.pool.group import Group
from gateway.pool.lease import ANY, Lease, LeaseRequest
from gateway.pool.pool import Pool
from gateway.postgres.connection import Connection
from gateway.postgres.positions import token_after_commit
from gateway.rotation.endpoint import EndpointView, Role
from gateway.waiting import Client
from gateway.web import freshness
from gateway.web.freshness import Freshness
from gateway.web.retries import MOST_ATTEMPTS, RetryBudget, did_not_execute, may_succeed_elsewhere

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds, or half of the time left, for which replicas are asked again before a read with a token goes to the
primary."""
SETTLING = 0.02
"""Seconds between the loss of a connection and the one re-run of its read: what breaks one connection (a server that
shuts down, somebody who ends all sessions) breaks others within milliseconds, and news of it is on the way."""
PAUSE_FIRST = 0.002
PAUSE_LONGEST = 0.05
"""Seconds between two such questions."""
TOKEN_TIMEOUT = 0.25
"""Seconds that a committed write's answer waits for its token at most."""


class Runner:
    """Runs reads and writes in the groups of a pool, and writes the ``Gateway-`` headers of their answers."""

    def __init__(self, *, pool: Pool[Connection], retry_budget: float, probe_interval: float) -> None:
        """``retry_budget``: share of the reads that may be run again; ``probe_interval`` in seconds."""
        self._pool = pool
        self._interval = probe_interval
        self._view = pool.rotation.view
        self._budgets = {name: RetryBudget(share=retry_budget, least=group.size) for name, group in pool.groups.items()}

    # --- reads -------------------------------------------------------------------------------------------------

    def read(
        self,
        response: falcon.Response,
        group_name: str,
        work: Callable[[Connection, str], T],
        deadline: float,
        client: Client | None = None,
        asked: Freshness | None = None,
    ) -> T:
        """Do ``work``, which reads, and give what it gave; raises a GatewayError.

        Its second argument is a guard (``postgres.guarding``, or empty) that must go in front of the data.
        """
        group = self._pool.groups[group_name]
        budget = self._budgets[group_name]
        budget.note(monotonic())
        try:
            if asked is None:
                return self._attempt(response, group, work, deadline, client)
            return self._read_fresh(response, group, work, deadline, client, asked)
        except GatewayError as error:
            if not error.was_started or not may_succeed_elsewhere(error) or not budget.spend(monotonic()):
                raise
            first, left = error, frozenset(filter(None, [error.endpoint]))
        if isinstance(first, ConnectionLost):
            time.sleep(max(0.0, min(SETTLING, deadline - monotonic())))
        try:
            if asked is None:
                want = LeaseRequest(avoid=left, answered_since=monotonic())
                return self._attempt(response, group, work, deadline, client, want, attempt=2)
            return self._read_fresh(response, group, work, deadline, client, asked, left, attempt=2)
        except GatewayError as error:
            if not error.was_started:
                raise first from error
            raise

    def _attempt(
        self,
        response: falcon.Response,
        group: Group[Connection],
        work: Callable[[Connection, str], T],
        deadline: float,
        client: Client | None,
        want: LeaseRequest = ANY,
        asked: Freshness | None = None,
        attempt: int = 1,
    ) -> T:
        with group.lease(deadline, want, client) as lease:
            started = monotonic()
            view = self._view(lease.endpoint)
            try:
                return work(lease.connection, "" if asked is None else self._check(asked, view, started))
            except GatewayError as error:
                raise error.but(endpoint=lease.endpoint) from error
            finally:
                _tell(response, lease, started, attempt)
                lag = freshness.lag_now(view, started, self._interval) if view.role is Role.REPLICA else None
                if lag is not None:
                    response.set_header("Gateway-Lag-Ms", str(int(lag)))
                elif want is not ANY:
                    response.delete_header("Gateway-Lag-Ms")  # of a replica that was asked before

    def _read_fresh(
        self,
        response: falcon.Response,
        group: Group[Connection],
        work: Callable[[Connection, str], T],
        deadline: float,
        client: Client | None,
        asked: Freshness,
        late: frozenset[str] = frozenset(),
        attempt: int = 1,
    ) -> T:
        """Do it on an endpoint that is as fresh as ``asked``, once there is one; rather not on those in ``late``.

        NOTE: an endpoint that was asked and had not come far enough did not do the work: that is no attempt.
        """
        if asked.token is not None:
            freshness.refuse_foreign(asked.token, map(self._view, group.endpoints))
        now = monotonic()
        answered_since = now if attempt > 1 else 0.0
        patient_until = now + min(PATIENCE, (deadline - now) / 2)
        pause = PAUSE_FIRST
        while True:
            want = self._want(group, asked, patient=now < patient_until, late=late, now=now)
            if want is not None:
                if answered_since:
                    want = replace(want, answered_since=answered_since)
                try:
                    return self._attempt(response, group, work, deadline, client, want, asked, attempt)
                except TooStale as error:
                    late = frozenset(filter(None, [error.endpoint]))
                except NoEndpoint:
                    if want.only is None:
                        raise
            now = monotonic() + pause
            if now >= deadline or (want is None and asked.token is None):
                raise TooStale("no endpoint that may answer is known to be as fresh as was asked for")
            if client is not None and client.gone_at is not None and client.gone_at <= monotonic():
                raise ClientGone("the client hung up while a fresh endpoint was waited for")
            time.sleep(pause)
            pause = min(pause * 1.5, PAUSE_LONGEST)

    def _want(
        self, group: Group[Connection], asked: Freshness, *, patient: bool, late: frozenset[str], now: float
    ) -> LeaseRequest | None:
        rotation = self._pool.rotation
        candidates = group.candidates
        if not candidates.serving:
            return ANY  # whether to wait for somebody is the group's to say; who comes is looked at then
        return freshness.want(
            asked,
            serving=[self._view(name) for name in candidates.serving],
            reserve=[self._view(name) for name in candidates.reserve],
            newest=freshness.newest_timeline(rotation.views()),
            patient=patient,
            late=late,
            now=now,
            interval=self._interval,
        )

    def _check(self, asked: Freshness, view: EndpointView, now: float) -> str:
        newest = freshness.newest_timeline(self._pool.rotation.views())
        return freshness.check(asked, view, newest=newest, now=now, interval=self._interval)

    # --- writes ------------------------------------------------------------------------------------------------

    def write(
        self,
        response: falcon.Response,
        group_name: str,
        work: Callable[[Connection], T],
        deadline: float,
        client: Client | None = None,
    ) -> T:
        """Do ``work``, which commits before it returns, and give what it gave; raises a GatewayError.

        An error of ``work`` must have its outcome. It is done again only where it provably did not execute; the new
        primary, or the old one restarted, is waited for. Whose ``client`` leaves before it has begun is dropped.
        """
        group = self._pool.groups[group_name]
        first: GatewayError | None = None
        for attempt in range(1, MOST_ATTEMPTS + 1):
            try:
                return self._attempt_write(response, group, work, deadline, client, attempt)
            except GatewayError as error:
                if first is not None and not error.was_started:
                    raise first from error
                if attempt == MOST_ATTEMPTS or not did_not_execute(error):
                    raise
                first = error
        raise AssertionError("the last attempt returns or raises")

    def _attempt_write(
        self,
        response: falcon.Response,
        group: Group[Connection],
        work: Callable[[Connection], T],
        deadline: float,
        client: Client | None,
        attempt: int,
    ) -> T:
        with group.lease(deadline, ANY, client) as lease:
            started = monotonic()
            try:
                done = work(lease.connection)
            except GatewayError as error:
                if error.outcome is Outcome.COMMITTED:
                    self.give_token(response, lease, deadline)
                raise error.but(endpoint=lease.endpoint) from error
            finally:
                _tell(response, lease, started, attempt)
            self.give_token(response, lease, deadline)
            return done

    def give_token(self, response: falcon.Response, lease: Lease[Connection], deadline: float) -> None:
        """Tell how far a server must have come to show what was just committed, if any but the primary ever answers.

        Never raises and changes nothing else of the answer: a position that is not told leaves the header out.
        """
        views = self._pool.rotation.views()
        if len(views) < 2 or all(view.role is Role.PRIMARY for view in views):
            return
        soon = min(deadline, monotonic() + TOKEN_TIMEOUT)
        token = token_after_commit(lease.connection, system=lease.view.system, deadline=soon)
        if token is not None:
            response.set_header("Gateway-Consistency-Token", str(token))


def _tell(response: falcon.Response, lease: Lease[Connection], started: float, attempt: int) -> None:
    took = (monotonic() - started) * 1000
    queued = f"{lease.queued * 1000:.2f}" if lease.queued else "0.00"  # PERF: to write a float takes 0.3 µs
    response.set_header("Gateway-Endpoint", lease.endpoint)
    response.set_header("Server-Timing", f"queue;dur={queued}, db;dur={took:.2f}")
    if attempt > 1:
        response.set_header("Gateway-Attempts", str(attempt))
