"""What becomes of a call between the one who makes it and the runner."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway import errors
from gateway.catalogue.query import Query
from gateway.errors import GatewayError
from gateway.execution.call import Answer, Caller, SingleCall
from gateway.execution.execution import Alone, Execution, Share, unshared
from gateway.execution.freshness import Freshness
from gateway.postgres.single import Result
from gateway.postgres.statement import Plan
from gateway.served import Served
from tests.execution.samples import query, single, transaction

READ, WRITE = query(), query("pay", write=True)


class Scripted:
    """In the place of plans, runner and committer: what they are asked for, and an answer or an error."""

    def __init__(self, error: GatewayError | None = None) -> None:
        self.error = error
        self.ran: list[str] = []
        self.doubted: list[str] = []
        self.freshness: Freshness | None = None

    def _run(self, what: str) -> tuple[bytes, Served]:
        self.ran.append(what)
        if self.error is not None:
            raise self.error
        return b"{}", Served(endpoint="a", took=0.5)

    def read(self, call: SingleCall, _work: Any) -> tuple[bytes, Served]:
        self.freshness = call.freshness
        return self._run("read")

    def write(self, _call: Any, _work: Any) -> tuple[bytes, Served]:
        return self._run("write")

    def run(self, _call: Any) -> Answer:
        body, served = self._run("transaction")
        return Answer(body=body, served=served)

    def doubt(self, query: Query) -> None:
        self.doubted.append(query.name)


def execution(scripted: Any, share: Share = unshared) -> Execution:
    return Execution(
        plans=scripted,
        runner=scripted,
        committer=scripted,
        others={},
        max_result_bytes=100,
        share=share,
    )


@pytest.mark.parametrize(
    ("call", "way"), [(single(READ), "read"), (single(WRITE), "write"), (transaction(READ, WRITE), "transaction")]
)
def test_each_kind_of_call_goes_its_way_and_its_answer_says_how_it_was_served(call: Any, way: str) -> None:
    scripted = Scripted()
    answer = execution(scripted).run(call)
    assert scripted.ran == [way]
    assert (answer.body, answer.served) == (b"{}", Served(endpoint="a", took=0.5))


def test_a_read_that_no_standby_can_run_asks_for_the_primary() -> None:
    scripted = Scripted()
    call = single(READ, freshness=Freshness(max_lag=10.0))
    execution(scripted).run(replace(call, plan=replace(call.plan, only_primary=True)))
    assert scripted.freshness == Freshness(max_lag=10.0, only_primary=True)


class TestWhatReachesTheConnection:
    @pytest.mark.parametrize("asked", [READ, WRITE], ids=["a read", "a write"])
    def test_a_callers_settings_go_with_its_plan(self, asked: Query) -> None:
        ran: list[dict[str, Any]] = []

        def run(_session: Any, plan: Plan, literals: Sequence[str], **how: Any) -> Result:
            ran.append({"query": plan.query, "literals": literals, **how})
            return Result(b"", 1)

        class Runs(Scripted):
            def read(self, call: Any, work: Any) -> tuple[bytes, Served]:
                return work(call, None, "guard;"), Served(endpoint="a")

            def write(self, call: Any, work: Any) -> tuple[bytes, Served]:
                return work(call, None), Served(endpoint="a")

        runs: Any = Runs()
        execution = Execution(plans=runs, runner=runs, committer=runs, others={}, max_result_bytes=100, run=run)
        answer = execution.run(single(asked, ("'1'",), settings={"app.tenant": "7"}))
        assert answer.body == (b'{"affected":1,"outcome":"committed"}' if asked is WRITE else b'{"affected":1}')
        (how,) = ran
        assert (how["query"], how["literals"], how["settings"]) == (asked.name, ("'1'",), {"app.tenant": "7"})
        assert how["max_bytes"] == 100
        assert how.get("guard", "") == ("" if asked is WRITE else "guard;")


class TestSharing:
    def test_what_stands_before_the_runner_sees_what_runs_for_whom(self) -> None:
        seen: list[SingleCall] = []

        def share(alone: Alone, _run: Any) -> Alone:
            def noting(call: SingleCall) -> Answer:
                seen.append(call)
                return alone(call)

            return noting

        caller, freshness = Caller(name="key:shop", roles=frozenset({"sales"})), Freshness(max_lag=10.0)
        scripted = Scripted()
        execution(scripted, share).run(single(READ, ("7",), caller=caller, freshness=freshness, request_id="r"))
        (call,) = seen
        assert (call.plan.query, call.literals, call.caller, call.freshness) == ("orders", ("7",), caller, freshness)
        assert scripted.ran == ["read"]

    def test_an_answer_from_memory_needs_no_connection(self) -> None:
        kept = Answer(body=b'{"value":42}')
        scripted = Scripted()
        assert execution(scripted, lambda *_: lambda _: kept).run(single(READ)) is kept
        assert scripted.ran == []

    def test_a_transaction_is_never_shared(self) -> None:
        scripted = Scripted()
        execution(scripted, lambda *_: lambda _: Answer(body=b"another's")).run(transaction(READ))
        assert scripted.ran == ["transaction"]


class TestDoubt:
    @pytest.mark.parametrize("error", [errors.QueryBroken("no such column"), errors.CatalogueStale("changed")])
    def test_a_query_that_the_server_refuses_is_learnt_again(self, error: GatewayError) -> None:
        scripted = Scripted(error)
        with pytest.raises(type(error)):
            execution(scripted).run(single(READ))
        assert scripted.doubted == ["orders"]

    def test_of_a_transaction_it_is_the_step_that_failed(self) -> None:
        scripted = Scripted(errors.QueryBroken("no such column", step=1))
        with pytest.raises(errors.QueryBroken):
            execution(scripted).run(transaction(READ, WRITE, query("third")))
        assert scripted.doubted == ["pay"]

    def test_without_a_step_it_is_all_of_them(self) -> None:
        scripted = Scripted(errors.QueryBroken("no such column"))
        with pytest.raises(errors.QueryBroken):
            execution(scripted).run(transaction(READ, WRITE))
        assert scripted.doubted == ["orders", "pay"]

    def test_a_wrong_argument_says_nothing_of_the_query(self) -> None:
        scripted = Scripted(errors.InvalidArguments("too long"))
        with pytest.raises(errors.InvalidArguments):
            execution(scripted).run(single(READ))
        assert scripted.doubted == []
