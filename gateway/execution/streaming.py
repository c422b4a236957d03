"""Runs reads whose rows are sent while they come: the connection is held until the last one is out.

The deadline of such a call is for its first rows. What comes behind takes as long as the client reads, unless the query
or the caller says by when the whole must be there. A server that fails in between ends the answer broken, as what has
been sent cannot be taken back; before that the read is run again like any other.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import inf
from time import monotonic

from gateway.catalogue import exporting
from gateway.catalogue.exporting import Format, Layout
from gateway.errors import NotAcceptable, PoolTimeout
from gateway.execution.call import Answer, StreamCall, on_primary
from gateway.execution.results import meet
from gateway.execution.running import Runner
from gateway.pool.group import Group
from gateway.pool.lease import ANY, Lease, LeaseRequest
from gateway.pool.pool import Pool
from gateway.postgres.cursor import Rows
from gateway.postgres.session import Session
from gateway.postgres.statement import casts_of
from gateway.rotation.choosing import Candidates
from gateway.waiting import Client, Gate, Waits

MEDIA = {Layout.NDJSON: "application/x-ndjson", Layout.CSV: "text/csv; charset=utf-8; header="}


class Streams:
    """Runs streams, in each group only so many at a time."""

    def __init__(self, *, pool: Pool[Session], runner: Runner, waits: Waits, most: Mapping[str, int]) -> None:
        """``most``: streams at a time, by group."""
        self._pool = pool
        self._runner = runner
        self._places = {name: _Places(name, places, waits) for name, places in most.items()}

    def running(self) -> dict[tuple[str, ...], float]:
        """How many streams there are, by group."""
        return {(name,): places.taken for name, places in self._places.items()}

    def run(self, call: StreamCall) -> Answer:
        """Begin; the answer has the first rows, and the others as they come. Raises a GatewayError.

        Whoever has the answer closes it.
        """
        source = call.query.statement.source
        if source is None:
            raise NotAcceptable("this query can only be run as written, and so be answered as JSON only")
        columns, wanted = call.plan.columns, call.wanted
        casts = casts_of(columns) if call.plan.big_as_text else ()
        lines = exporting.lines(wanted, source, columns, casts=casts, max_rows=call.query.max_rows)
        look = exporting.look(source)

        def begin(call: StreamCall, connection: Session, guard: str) -> tuple[Rows, bytes]:
            rows = Rows(connection, call.plan, lines, look, wanted.line_end)
            first = rows.open(
                call.literals, deadline=call.deadline, client=call.client, guard=guard, settings=call.settings
            )
            if not first and call.query.expect is not None:
                meet(call.query, call.query.expect, 0)
            return rows, first

        with ExitStack() as stack:
            places = self._places[call.group]
            places.take(call.deadline, call.client)
            stack.callback(places.leave)
            group = _Holding(self._pool.groups[call.group], stack)
            (rows, first), served = self._runner.read(
                on_primary(call) if call.plan.only_primary else call, begin, group
            )
            return Answer(
                body=wanted.header(columns) + first,
                pieces=rows.rest(call.deadline if call.ends else inf),
                media=_media(wanted),
                served=served,
                held=stack.pop_all(),
            )


def _media(wanted: Format) -> str:
    media = MEDIA[wanted.layout]
    return media if wanted.layout is Layout.NDJSON else media + ("present" if wanted.has_header else "absent")


class _Holding:
    """A group whose lease stays, where what ran on it succeeded, until a stack is closed."""

    def __init__(self, group: Group[Session], held: ExitStack) -> None:
        self._group = group
        self._held = held
        self.endpoints = group.endpoints

    @property
    def candidates(self) -> Candidates:
        return self._group.candidates

    @contextmanager
    def lease(
        self, deadline: float, request: LeaseRequest = ANY, client: Client | None = None
    ) -> Iterator[Lease[Session]]:
        with ExitStack() as stack:
            yield stack.enter_context(self._group.lease(deadline, request, client))
            self._held.callback(stack.pop_all().close)


class _Places:
    """How many streams of a group may run at a time; who finds no place waits for one, first come, first served."""

    def __init__(self, group: str, most: int, waits: Waits) -> None:
        self._group = group
        self._most = most
        self._waits = waits
        self._lock = waits.lock()
        self._queue: deque[Gate] = deque()
        self.taken = 0

    def take(self, deadline: float, client: Client | None) -> None:
        """Wait for a place until ``deadline``; raises PoolTimeout or ClientGone."""
        with self._lock:
            if self.taken < self._most:
                self.taken += 1
                return
            gate = self._waits.gate()
            self._queue.append(gate)
        try:
            gate.wait(deadline - monotonic(), client)
        except BaseException:
            if not self._withdraw(gate):
                self.leave()
            raise
        if self._withdraw(gate):
            raise PoolTimeout(f"group {self._group}: {self._most} streams are under way, and no more may be at a time")

    def leave(self) -> None:
        """Give the place to who has waited longest, or back."""
        with self._lock:
            gate = self._queue.popleft() if self._queue else None
            self.taken -= gate is None
        if gate is not None:
            gate.open()

    def _withdraw(self, gate: Gate) -> bool:
        """Wait no more; False where the place was given already."""
        with self._lock:
            if gate not in self._queue:
                return False
            self._queue.remove(gate)
            return True
