"""Calls that are answered together, each as if it were alone: green threads, and a runner that does as it is told."""

from collections.abc import Callable, Sequence
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest
from msgspec.structs import replace

from gateway import errors
from gateway.catalogue.query import Kind
from gateway.catalogue.types import Form
from gateway.errors import GatewayError
from gateway.events import ignore
from gateway.execution.call import Answer, Caller, SingleCall
from gateway.execution.execution import unshared
from gateway.execution.freshness import Freshness
from gateway.execution.joining import Joining, sharing
from gateway.execution.judging import Judging
from gateway.execution.plans import Plans
from gateway.postgres import joined
from gateway.postgres.joinable import Verdict
from gateway.postgres.looping import LoopWaits
from gateway.postgres.single import Result
from gateway.postgres.tokens import Token
from gateway.served import Served
from gateway.settings import ServerSettings
from gateway.waiting import ThreadWaits
from tests.execution.samples import SIGNATURE, query, single

READ = replace(query(), kind=Kind.SCALAR)
PLAN = replace(single(READ).plan, kind=Kind.SCALAR, form=Form.WRAPPED)
SERVED = Served(endpoint="a", took=0.001)


class Server:
    """In the place of the runner: a connection for whoever asks, once it is let through, and answers or errors."""

    def __init__(self) -> None:
        self.session: Any = SimpleNamespace(prepares=True, run=SimpleNamespace(asker=None))
        self.statements: list[list[str]] = []
        """The argument of each call of each."""
        self.deadlines: list[float] = []
        self.clients: list[Any] = []
        self.alone: list[str] = []
        self.leading: list[SingleCall] = []
        self.noted = 0
        self.gate = gevent.event.Event()
        self.error: Callable[[list[str]], BaseException | None] = lambda _: None
        self.too_large = ""

    def read(self, call: SingleCall, work: Any) -> tuple[bytes, Served]:
        self.leading.append(call)
        self.gate.wait()
        return work(call, self.session, ""), SERVED

    def note_reads(self, _group: str, count: int) -> None:
        self.noted += count

    def run(self, call: SingleCall, _session: Any, _guard: str) -> bytes:
        """One call on a connection."""
        literals = list(call.literals) or ["-"]
        self.statements.append(literals)
        self.deadlines.append(call.deadline)
        self.clients.append(call.client)
        if (error := self.error(literals)) is not None:
            raise error
        return b'{"value":%b}' % literals[0].encode()

    def run_joined(
        self, _session: Any, _plan: Any, calls: Sequence[Sequence[str]], *, deadline: float, client: Any, **_: Any
    ) -> list[Result | None]:
        literals = [literal for (literal,) in calls]
        self.statements.append(literals)
        self.deadlines.append(deadline)
        self.clients.append(client)
        gevent.sleep(0)
        if (error := self.error(literals)) is not None:
            raise error
        return [None if each == self.too_large else Result(each.encode(), 1) for each in literals]

    def run_alone(self, call: SingleCall) -> Answer:
        self.gate.wait()
        (literal,) = call.literals or ["-"]
        self.alone.append(literal)
        if (error := self.error([literal])) is not None:
            raise error
        return Answer(body=b'{"value":%b}' % literal.encode(), served=SERVED)


class Rig:
    """A lane in which one statement is in flight at a time, and callers."""

    def __init__(self, waits: LoopWaits, server: Server) -> None:
        runner: Any = server
        plans = Plans(SimpleNamespace(queries={READ.name: READ}))  # type: ignore[arg-type]  # all it looks at
        self.judging = Judging(plans=plans, runner=runner, spawn=gevent.spawn, observe=ignore)
        self.joining = Joining(runner=runner, judging=self.judging, waits=waits, max_result_bytes=100)
        self.answer = self.joining.share(server.run_alone, server.run)
        self.server = server

    def call(self, literal: str, **more: Any) -> SingleCall:
        return replace(single(READ, (literal,) if literal else ()), plan=more.pop("plan", PLAN), **more)

    def crowd(self, **more: Any) -> None:
        """Make it one in which calls are joined, one statement at a time."""
        together = self.judging.of(self.call("0", **more))
        together.verdict, together.next_at = Verdict(True), float("inf")
        lanes = set(together.lanes.values())
        first = self.ask("0", **more)
        for lane in set(together.lanes.values()) - lanes:
            lane._crowd, lane._pace.limit = 20.0, 1
            lane.present += 1  # so that it is not forgotten when nobody is there
        self.finish(first)
        self.server.gate.clear()
        self.server.alone.clear()

    def ask(self, *literals: str, **more: Any) -> list[Any]:
        """Green threads that have come and wait, in this order."""
        threads = [gevent.spawn(self._caught, self.call(literal, **more)) for literal in literals]
        gevent.sleep(0)
        return threads

    def _caught(self, call: SingleCall) -> Answer | BaseException:
        try:
            return self.answer(call)
        except Exception as error:  # noqa: BLE001 -- to be looked at
            return error

    def finish(self, threads: Sequence[Any]) -> list[Any]:
        self.server.gate.set()
        gevent.joinall(threads, timeout=10, raise_error=True)
        return [
            thread.value.body.decode()[9:-1] if isinstance(thread.value, Answer) else thread.value for thread in threads
        ]


@pytest.fixture
def waits() -> LoopWaits:
    return LoopWaits()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(joined, "run", server.run_joined)
    return server


@pytest.fixture
def rig(waits: LoopWaits, server: Server) -> Rig:
    return Rig(waits, server)


class TestJoining:
    def test_who_comes_while_a_statement_waits_for_its_connection_is_part_of_it(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        assert rig.finish(rig.ask("1", "2", "3")) == ["1", "2", "3"]
        assert server.statements == [["1", "2", "3"]]
        assert server.noted == 2

    def test_few_callers_each_go_at_once(self, rig: Rig, server: Server) -> None:
        together = rig.judging.of(rig.call("0"))
        together.verdict = Verdict(True)
        server.gate.set()
        assert rig.finish(rig.ask(*"123")) == ["1", "2", "3"]
        assert server.statements == []
        assert server.alone == ["1", "2", "3"]

    def test_calls_without_arguments_are_one_run(self, rig: Rig, server: Server) -> None:
        plan = replace(PLAN, types=())
        rig.crowd(plan=plan)
        assert rig.finish(rig.ask("", "", "", plan=plan)) == ["-", "-", "-"]
        assert server.statements == [["-"]]

    def test_a_call_with_little_time_left_goes_alone(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        first = rig.ask("1")
        assert rig.finish([*first, *rig.ask("2", deadline=monotonic() + 0.05)]) == ["1", "2"]
        assert server.alone == ["2"]

    def test_so_does_one_with_long_arguments(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        assert rig.finish([*rig.ask("1"), *rig.ask("2" * 9000)]) == ["1", "2" * 9000]
        assert server.statements == [["1"]]

    def test_through_a_pooler_the_calls_run_one_by_one(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        server.session.prepares = False
        assert rig.finish(rig.ask("1", "2", "3")) == ["1", "2", "3"]
        assert sorted(server.statements) == [["1"], ["2"], ["3"]]

    def test_a_write_is_never_joined(self, rig: Rig, server: Server) -> None:
        assert rig.finish(rig.ask("1", plan=replace(PLAN, write=True))) == ["1"]
        assert server.alone == ["1"]

    @pytest.mark.parametrize(
        ("settings", "waits", "why"),
        [
            (ServerSettings(join=False), LoopWaits(), "`[server] join` is false"),
            (ServerSettings(), ThreadWaits(), "a worker of this kind runs requests in threads"),
        ],
    )
    def test_where_it_is_off_nothing_stands_before_the_runner(
        self, settings: ServerSettings, waits: Any, why: str
    ) -> None:
        nothing: Any = None
        share, tell = sharing(settings, plans=nothing, runner=nothing, waits=waits, observe=ignore)
        assert share is unshared
        assert (tell(READ).joins, tell(READ).why) == (False, why)


class TestWhoIsJoinedWithWhom:
    def test_not_those_of_whom_the_server_is_told_different_things(self, rig: Rig, server: Server) -> None:
        mine, yours = {"app.tenant": "1"}, {"app.tenant": "2"}
        for settings in (mine, yours):
            rig.crowd(settings=settings)
        rig.crowd()
        threads = [*rig.ask("1", "2", settings=mine), *rig.ask("3", "4", settings=yours), *rig.ask("5", "6")]
        assert rig.finish(threads) == list("123456")
        assert sorted(server.statements) == [["1", "2"], ["3", "4"], ["5", "6"]]

    def test_not_those_of_other_callers_where_parameters_are_bound_to_them(self, rig: Rig, server: Server) -> None:
        mine, yours = Caller(name="key:mine"), Caller(name="key:yours")
        bound = replace(READ, parameters=(replace(READ.parameters[0], bound="claim:tenant_id"),))
        for caller in (mine, yours):
            rig.crowd(caller=caller, query=bound)
        threads = [*rig.ask("1", "2", caller=mine, query=bound), *rig.ask("3", "4", caller=yours, query=bound)]
        assert rig.finish(threads) == list("1234")
        assert sorted(server.statements) == [["1", "2"], ["3", "4"]]

    def test_not_those_that_ask_for_other_freshness(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        threads = [*rig.ask("1", "2"), *rig.ask("3", freshness=Freshness(max_lag=10.0))]
        assert rig.finish(threads) == ["1", "2", "3"]
        assert ["1", "2"] in server.statements

    def test_of_those_with_tokens_the_newest_leads(self, rig: Rig, server: Server) -> None:
        def token(position: int) -> Freshness:
            return Freshness(token=Token(7, 1, position))

        rig.crowd(freshness=token(1))
        first = rig.ask("0", freshness=token(5))
        rest = [
            *rig.ask("1", freshness=token(10)),
            *rig.ask("2", freshness=token(30)),
            *rig.ask("3", freshness=token(20)),
        ]
        assert rig.finish([*first, *rest]) == ["0", "1", "2", "3"]
        assert server.statements == [["0"], ["2", "1", "3"]]
        assert server.leading[-1].freshness == token(30)


class TestEachStaysItsOwn:
    def test_one_that_fails_fails_alone(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        server.error = lambda literals: errors.InvalidArguments("division by zero") if "2" in literals else None
        one, two, three = rig.finish(rig.ask("1", "2", "3"))
        assert (one, three) == ("1", "3")
        assert isinstance(two, errors.InvalidArguments)
        assert sorted(server.alone) == ["1", "2", "3"]

    def test_a_lost_server_is_not_asked_a_third_time(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        server.error = lambda _: errors.ConnectionLost("gone").but(served=replace(SERVED, attempts=2))
        answers = rig.finish(rig.ask("1", "2"))
        assert [type(answer) for answer in answers] == [errors.ConnectionLost] * 2
        assert server.alone == []

    def test_a_result_that_is_too_large_is_its_callers_alone(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        server.too_large = "2"
        assert rig.finish(rig.ask("1", "2", "x" * 101)) == ["1", "2", "x" * 101]
        assert server.alone == ["2", "x" * 101]  # where the limits are those of one call

    def test_the_statement_runs_under_the_earliest_deadline(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        early, late = monotonic() + 3, monotonic() + 60
        rig.finish([*rig.ask("1", deadline=late), *rig.ask("2", deadline=early)])
        assert server.deadlines == [early]

    def test_who_has_no_time_left_when_it_fails_gets_the_failure_and_others_run_alone(
        self, rig: Rig, server: Server
    ) -> None:
        rig.crowd()
        hurried = rig.ask("1", deadline=monotonic() + 0.2)
        others = rig.ask("2")

        def passed(literals: list[str]) -> GatewayError | None:
            if len(literals) < 2:
                return None
            gevent.sleep(0.25)
            return errors.DeadlineExceeded("the deadline passed while the query ran")

        server.error = passed
        late, other = rig.finish([*hurried, *others])
        assert (type(late), other) == (errors.DeadlineExceeded, "2")
        assert server.alone == ["2"]

    def test_who_waits_until_its_deadline_leaves_and_the_others_are_answered(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        leader = rig.ask("1")
        (hurried,) = rig.ask("2", deadline=monotonic() + 0.15)
        last = rig.ask("3")
        hurried.join(timeout=5)
        assert isinstance(hurried.value, errors.PoolTimeout)
        assert rig.finish([*leader, *last]) == ["1", "3"]
        assert server.statements == [["1", "3"]]

    def test_who_hangs_up_while_it_waits_leaves(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        client = SimpleNamespace(gone_at=None)
        leader = rig.ask("1")
        (gone,) = rig.ask("2", client=client)
        client.gone_at = monotonic()
        gone.join(timeout=5)
        assert isinstance(gone.value, errors.ClientGone)
        assert rig.finish(leader) == ["1"]
        assert server.statements == [["1"]]

    def test_the_statement_is_given_up_once_all_have_hung_up(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        one, two = SimpleNamespace(gone_at=None), SimpleNamespace(gone_at=None)
        rig.finish([*rig.ask("1", client=one), *rig.ask("2", client=two)])
        (everybody,) = server.clients
        one.gone_at = 5.0
        assert everybody.gone_at is None
        two.gone_at = 7.0
        assert everybody.gone_at == 7.0

    def test_each_is_told_for_how_long_it_waited(self, rig: Rig) -> None:
        rig.crowd()
        threads = rig.ask("1", "2")
        gevent.sleep(0.02)
        rig.finish(threads)
        assert threads[1].value.served.queued >= 0.02

    def test_a_leader_without_a_connection_leaves_the_others_to_the_next(self, rig: Rig, server: Server) -> None:
        rig.crowd()
        refusing = [errors.QueueFull("full")]
        read = server.read

        def refuse_first(call: SingleCall, work: Any) -> tuple[bytes, Served]:
            if refusing:
                gevent.sleep(0.001)
                raise refusing.pop()
            return read(call, work)

        server.read = refuse_first  # type: ignore[method-assign]
        one, two, three = rig.finish(rig.ask("1", "2", "3"))
        assert isinstance(one, errors.QueueFull)
        assert (two, three) == ("2", "3")


class TestFailingOften:
    def test_where_statements_fail_again_and_again_the_calls_go_alone_for_a_while(
        self, rig: Rig, server: Server
    ) -> None:
        rig.crowd()
        together = rig.judging.of(rig.call("0"))

        def error(literals: list[str]) -> GatewayError | None:
            return errors.InvalidArguments("bad") if "2" in literals else None

        server.error = error
        for _ in range(5):
            server.gate.clear()
            rig.finish(rig.ask("1", "2"))
        assert together.verdict == Verdict(False, "too many of them fail, and others with them")
        assert monotonic() + 5 < together.next_at < monotonic() + 20


class TestJudging:
    def test_a_query_is_judged_once_enough_have_come_at_the_same_time(
        self, rig: Rig, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[Any] = []

        def judge(_session: Any, _plan: Any, samples: Any, **how: Any) -> Verdict:
            asked.append((samples, how["compare"]))
            return Verdict(False, "a reason")

        monkeypatch.setattr("gateway.postgres.joinable.judge", judge)
        known = rig.judging._plans.known(READ.name)
        assert rig.judging.describe(READ).joins is None
        known.signature = replace(SIGNATURE, form=Form.WRAPPED)
        assert rig.judging.describe(READ).why == "too few have come at the same time to tell by them"
        rig.finish(rig.ask("1", "2", "3"))
        assert asked == []
        server.gate.clear()
        rig.finish(rig.ask(*"456789"))
        gevent.sleep(0)
        assert asked == [((("3",), ("4",), ("5",), ("6",), ("7",), ("8",)), True)]
        told = rig.judging.describe(READ)
        assert (told.joins, told.why) == (False, "a reason")
