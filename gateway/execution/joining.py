"""Answers calls of different callers together: those of one query that wait at the same moment, by one statement.

A call that may not go at once waits in a lane (``lanes`` has the rule). Whoever is let through is the leader: it checks
out a connection like any call, and once it has one it takes along all that wait by then. Their arguments go to the
server as one statement (``postgres.joined``), or, where the query takes none, the query is run once. So calls that
wait for a connection wait together; and a call joins nothing that was sent before it came, so that it sees all that was
committed until then. What comes back is handed out, to each caller the bytes that it would have had alone.

Each caller stays its own. Its deadline and its hanging up end its own wait, and the statement goes on for the others.
Where a statement fails, any one of its calls may be why: each is run by itself then, which is not counted as its retry,
so that one caller's bad argument is that caller's failure alone. Where it was the server that was lost, the statement
is repeated on another one by the rules for one read, and counts as one.

Which queries' calls are joined is what ``judging`` knows. They are joined with each other where they ask for the same
freshness; tokens of one timeline are alike, and the call with the newest one leads, so that its guard is good for all
that it takes along. Calls whose callers are told to the server, or give it their parameters, are joined with the same
caller's only.

All this is for processes in which one loop runs all requests: others have their turn only where a call waits, so that
nothing here holds a lock.
"""

from collections.abc import Callable, Sequence
from math import inf
from time import monotonic

from msgspec.structs import replace

from gateway.catalogue.query import Query
from gateway.errors import DeadlineExceeded, GatewayError, PoolTimeout, ResultTooLarge
from gateway.events import Observer
from gateway.execution.call import Answer, SingleCall, on_primary
from gateway.execution.execution import Alone, Share, unshared
from gateway.execution.judging import Joined, Judging, Together
from gateway.execution.lanes import Lane, Member
from gateway.execution.pace import MANY, Pace, Processors
from gateway.execution.plans import Plans
from gateway.execution.results import encode_result
from gateway.execution.retries import may_succeed_elsewhere
from gateway.execution.running import ReadWork, Runner
from gateway.metrics import BATCH_SIZE, Metrics
from gateway.pool.connecting import start_thread
from gateway.postgres import joined, single
from gateway.postgres.session import Session
from gateway.served import Served
from gateway.settings import ServerSettings
from gateway.waiting import Client, Loop, Waits

LEAST_LEFT = 0.1
"""Seconds that a call must have left to wait for others, as it would end their statement; else it goes alone."""
LONGEST = 8192
"""Bytes of arguments that are joined with others'."""


def sharing(
    settings: ServerSettings,
    *,
    plans: Plans,
    runner: Runner,
    waits: Waits,
    observe: Observer,
    metrics: Metrics | None = None,
) -> tuple[Share, Callable[[Query], Joined]]:
    """How the calls of a process are answered together, and what tells of a query whether its calls are."""
    if not settings.join:
        return unshared, lambda _: Joined(joins=False, why="`[server] join` is false")
    if not isinstance(waits, Loop):
        return unshared, lambda _: Joined(joins=False, why="a worker of this kind runs requests in threads")
    judging = Judging(plans=plans, runner=runner, spawn=start_thread, observe=observe)
    joining = Joining(
        runner=runner, judging=judging, waits=waits, max_result_bytes=settings.max_result_bytes, metrics=metrics
    )
    return joining.share, judging.describe


class Everybody:
    """The clients of all calls of a statement: they are gone when the last one is."""

    __slots__ = ("clients",)

    def __init__(self, clients: Sequence[Client | None]) -> None:
        self.clients = clients

    @property
    def gone_at(self) -> float | None:
        """When the last of them counts as gone; None while anyone is there."""
        latest = 0.0
        for client in self.clients:
            gone = None if client is None else client.gone_at
            if gone is None:
                return None
            latest = max(latest, gone)
        return latest

    def end(self) -> None:
        """Have the requests of all of them given up."""
        for client in self.clients:
            if client is not None:
                client.end()


class Joining:
    """Joins the calls of a process. ``share`` is what ``execution.Execution`` takes."""

    def __init__(
        self,
        *,
        runner: Runner,
        judging: Judging,
        waits: Loop,
        max_result_bytes: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._metrics = metrics or Metrics()
        self._runner = runner
        self._judging = judging
        self._waits = waits
        self._max_result_bytes = max_result_bytes
        self._processors = Processors()

    def share(self, alone: Alone, run: ReadWork[SingleCall, bytes]) -> Alone:
        """Return what answers calls, together or alone."""
        self._alone = alone
        self._run = run
        return self.answer

    def answer(self, call: SingleCall) -> Answer:
        """Answer a call."""
        if call.plan.write:
            return self._alone(call)
        together = self._judging.of(call)
        if together.verdict.joins:
            return self._in_lane(together, call)
        if together.next_at == inf:
            return self._alone(call)
        together.samples.append(call.literals)
        together.present += 1
        try:
            if together.present > MANY:
                self._judging.look(together, call)
            return self._alone(call)
        finally:
            together.present -= 1

    def _in_lane(self, together: Together, call: SingleCall) -> Answer:
        """Answer a call that may be joined with others."""
        by_caller = together.binds_callers or bool(call.settings)
        key = _key(call, by_caller=by_caller) if by_caller or call.freshness is not None else None
        lane = together.lanes.get(key)
        if lane is None:
            lane = together.lanes[key] = Lane(
                self._waits, pace=Pace(self._processors.idle), is_by_token=_has_token(call)
            )
        together.samples.append(call.literals)
        came = monotonic()
        try:
            if not lane.enter():
                return self._wait(together, lane, call)
            if lane.is_crowded:
                return self._lead(together, lane, call)
            try:
                return self._alone(call)
            finally:
                lane.ended()
        finally:
            lane.left(came)
            if key is not None and not lane.present:
                together.lanes.pop(key, None)

    def _wait(self, together: Together, lane: Lane, call: SingleCall) -> Answer:
        """Answer a call that does not go at once."""
        size, left = sum(map(len, call.literals)), call.deadline - monotonic()
        if size > LONGEST or left < LEAST_LEFT:
            return self._alone(call)
        member = lane.wait(call, size)
        try:
            member.gate.wait(left, call.client)
        except BaseException:
            if member.leads:
                lane.ended()
            else:
                lane.leave(member)
            raise
        if member.leads:
            return self._lead(together, lane, call, monotonic() - member.arrived)
        if member.answer is not None:
            return member.answer
        lane.leave(member)
        if member.error is not None:
            return self._after(call, member.error)
        if member.is_taken:
            raise DeadlineExceeded("the deadline passed while the query ran, for several callers at once")
        raise PoolTimeout("the call waited for others of the same query until its deadline")

    def _lead(self, together: Together, lane: Lane, call: SingleCall, waited: float = 0.0) -> Answer:
        """Run a statement for a call and for all that wait once there is a connection."""
        statement = _Statement(together, lane, call, self._run, self._runner)
        lane.starts()
        try:
            self._judging.look(together, call)
            body, served = self._runner.read(on_primary(call) if call.plan.only_primary else call, statement.work)
        except BaseException as error:
            statement.fail(error)
            lane.ended()
            if not statement.members or not isinstance(error, GatewayError):
                raise
            return self._after(call, error)
        if waited:
            served = replace(served, queued=served.queued + waited)
        self._metrics.histogram(BATCH_SIZE, call.query.name).observe(1.0 + len(statement.members or ()))
        try:
            answer = statement.hand_out(body, served, self._max_result_bytes)
        finally:
            # PERF: after all that joined have been let through: their answers are written before the next statement is
            # sent, which more calls have joined by then, and which goes over the connection that this one had.
            lane.ended()
        return self._alone(call) if answer is None else answer

    def _after(self, call: SingleCall, error: BaseException) -> Answer:
        """Answer a call whose statement failed."""
        if isinstance(error, GatewayError) and (may_succeed_elsewhere(error) or monotonic() >= call.deadline):
            raise error.but() from error  # it was repeated, or may not be, or there is no time
        return self._alone(call)


class _Statement:
    """One statement: its leader's call, those that it takes along, and what came of them."""

    def __init__(
        self, together: Together, lane: Lane, call: SingleCall, run: ReadWork[SingleCall, bytes], runner: Runner
    ) -> None:
        self._together = together
        self._lane = lane
        self._call = call
        self._run = run
        self._runner = runner
        self._began = 0.0
        self.members: list[Member] | None = None
        """Who joined; None while there is no connection."""
        self._results: Sequence[single.Result | None] = []

    def work(self, asked: SingleCall, session: Session, guard: str) -> bytes:
        """Run it on a connection; for one call, or several that are all the same, the answer's body comes back."""
        members = self.members
        if members is None:  # otherwise it is repeated
            self._began = monotonic()
            most = self._together.most - 1 if session.prepares else 0  # through a pooler nothing can be prepared
            members = self.members = self._lane.take(most, asked)
            self._runner.note_reads(asked.group, len(members))
        return self._run_all(members, asked, session, guard) if members else self._run(asked, session, guard)

    def _run_all(self, members: Sequence[Member], asked: SingleCall, session: Session, guard: str) -> bytes:
        calls = [self._call, *[member.call for member in members]]
        deadline = min([call.deadline for call in calls])
        session.run.asker = client = Everybody([call.client for call in calls])
        if self._together.joined is None:
            return self._run(replace(asked, deadline=deadline, client=client), session, guard)
        self._results = joined.run(
            session,
            self._together.joined,
            [call.literals for call in calls],
            deadline=deadline,
            client=client,
            guard=guard,
            settings=asked.settings,
        )
        return b""

    def fail(self, error: BaseException) -> None:
        """Have all that joined know that it failed."""
        if self.members is None:
            self._lane.gives_up()
        for member in self.members or ():
            member.error = error
            member.gate.open()
        if self.members and isinstance(error, GatewayError) and not may_succeed_elsewhere(error):
            self._together.failed(monotonic())

    def hand_out(self, body: bytes, served: Served, max_bytes: int) -> Answer | None:
        """Give everybody their answer, and return the leader's; None: it is to be run by itself, as it is too large."""
        self._lane.succeeded(served.took)
        if not self.members:
            self._together.succeeded([len(body)], served.took, self._began)
            return Answer(body=body, served=served)
        if not self._results:
            self._together.succeeded([len(body)], served.took, self._began)
            for member in self.members:
                member.answer = Answer(body=body, served=self._served(served, member))
                member.gate.open()
            return Answer(body=body, served=served)
        query = self._call.query
        mine, *others = self._results
        sizes = [max_bytes if result is None else len(result.text) for result in self._results]
        for member, result in zip(self.members, others, strict=True):
            if result is None or len(result.text) > max_bytes:
                member.error = _TOO_LARGE
            else:
                member.answer = Answer(body=encode_result(query, result), served=self._served(served, member))
            member.gate.open()
        self._together.succeeded(sizes, served.took, self._began)
        if mine is None or len(mine.text) > max_bytes:
            return None
        return Answer(body=encode_result(query, mine), served=served)

    def _served(self, served: Served, member: Member) -> Served:
        return Served(
            endpoint=served.endpoint,
            attempts=served.attempts,
            queued=max(0.0, self._began - member.arrived),
            took=served.took,
            lag_ms=served.lag_ms,
        )


_TOO_LARGE = ResultTooLarge("")
"""Stands for the error that such a call gets when it is run by itself."""


def _has_token(call: SingleCall) -> bool:
    return call.freshness is not None and call.freshness.token is not None


def _key(call: SingleCall, *, by_caller: bool) -> object:
    """What calls must have in common to be joined, beside the query."""
    caller = (call.caller.name, *call.settings.items()) if by_caller else None
    if call.freshness is None or call.freshness.token is None:
        return call.freshness, caller
    token = call.freshness.token
    return call.freshness._replace(token=None), token.system, token.timeline, caller
