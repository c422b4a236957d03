"""Answers that are kept, and executions that are shared: who is given what, and what ends whose wait."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.catalogue.query import Cache, Catalogue, Parameter, Query
from gateway.errors import ClientGone, DeadlineExceeded, GatewayError, InvalidArguments, PoolTimeout
from gateway.execution.call import Answer, Caller, RawCall, SingleCall
from gateway.execution.freshness import Freshness
from gateway.execution.keeping import Keeping
from gateway.execution.plans import Plans
from gateway.metrics import CACHE, Metrics
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import EndpointState, EndpointView, Role
from gateway.served import Served
from gateway.waiting import ThreadWaits
from tests.execution.samples import SIGNATURE, query, single

KEPT = query("kept", cache=Cache(60.0))
SHORT = query("short", cache=Cache(0.001))
STALE = query("stale", cache=Cache(0.001, 60.0))
MINE = query("mine", cache=Cache(60.0), roles=("staff",))
BOUND = query("bound", cache=Cache(60.0))
BOUND = replace(BOUND, parameters=(Parameter("id", bound="claim:id"),))
SHARED = query("shared", coalesce=True)
PLAIN = query("plain")
QUERIES = {each.name: each for each in (KEPT, SHORT, STALE, MINE, BOUND, SHARED, PLAIN)}
VIEWS = {
    name: EndpointView(name=name, state=EndpointState.IN, role=role, since=0.0, since_wall=0.0)
    for name, role in (("primary", Role.PRIMARY), ("replica", Role.REPLICA))
}


Meanwhile = Callable[[Any], object]


class Runs:
    """What runs calls: it counts them, and answers their number."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.served = Served(endpoint="primary")
        self.before: Meanwhile = lambda _call: None
        """Called in the middle; may raise."""

    def __call__(self, call: Any) -> Answer:
        self.calls.append(call)
        number = len(self.calls)
        self.before(call)
        return Answer(body=b'{"value":%d}' % number, served=self.served)


class Rig:
    """A cache over something that runs calls."""

    def __init__(self, most_bytes: int = 1 << 20) -> None:
        catalogue = Catalogue(QUERIES, "hash")
        self.plans = Plans(catalogue)
        for name in QUERIES:
            self.plans.learnt(name, SIGNATURE, at=1.0)
        self.runs = Runs()
        self.metrics = Metrics()
        self.keeping = Keeping(
            self.runs,
            catalogue=catalogue,
            plans=self.plans,
            view=VIEWS.__getitem__,
            waits=ThreadWaits(),
            most_bytes=most_bytes,
            metrics=self.metrics,
        )

    def body(self, asked: Query, literals: tuple[str, ...] = (), **more: Any) -> bytes:
        return self.keeping.run(single(asked, literals, **more)).body

    def counted(self, asked: Query) -> dict[str, float]:
        results = ("hit", "stale", "miss", "shared")
        return {result: n for result in results if (n := self.metrics.counter(CACHE, asked.name, result).value)}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def token(position: int, timeline: int = 1, system: int = 7) -> Freshness:
    return Freshness(token=Token(system, timeline, position))


class TestKept:
    def test_the_second_call_is_answered_with_the_first_ones_answer(self, rig: Rig) -> None:
        first, second = (rig.keeping.run(single(KEPT, ("'1'",))) for _ in range(2))
        assert first.body == second.body == b'{"value":1}'
        assert first.kept is not None
        assert second.kept is not None
        assert first.kept.tag == second.kept.tag
        assert (first.served is None, second.served is None) == (False, True)
        assert 0 <= second.kept.age < 60 - second.kept.rest + 0.001
        assert rig.counted(KEPT) == {"miss": 1, "hit": 1}

    def test_other_queries_are_run_each_time_and_not_counted(self, rig: Rig) -> None:
        assert [rig.body(PLAIN) for _ in range(2)] == [b'{"value":1}', b'{"value":2}']
        assert rig.counted(PLAIN) == {}

    def test_one_that_is_too_old_is_not_given(self, rig: Rig) -> None:
        assert rig.body(SHORT) == b'{"value":1}'
        threading.Event().wait(0.002)
        assert rig.body(SHORT) == b'{"value":2}'

    def test_a_failure_is_not_kept(self, rig: Rig) -> None:
        def fail(_call: Any) -> None:
            raise InvalidArguments("no")

        rig.runs.before = fail
        with pytest.raises(InvalidArguments):
            rig.body(KEPT)
        rig.runs.before = lambda _call: None
        assert rig.body(KEPT) == b'{"value":2}'

    def test_one_that_was_learnt_anew_has_nothing_kept(self, rig: Rig) -> None:
        assert rig.body(KEPT) == b'{"value":1}'
        rig.plans.stale(["kept"], at=monotonic())
        assert rig.body(KEPT) == b'{"value":2}'  # while it is being learnt nothing is kept, nor given
        rig.plans.learnt("kept", SIGNATURE, at=2.0)
        assert [rig.body(KEPT) for _ in range(2)] == [b'{"value":3}'] * 2

    def test_what_was_used_longest_ago_makes_room(self) -> None:
        rig = Rig(most_bytes=3 * 1100)
        for literal in ("1", "2", "3"):
            rig.body(KEPT, (literal,))
        rig.body(KEPT, ("1",))
        rig.body(KEPT, ("4",))
        assert len(rig.runs.calls) == 4
        rig.body(KEPT, ("1",))
        assert len(rig.runs.calls) == 4
        rig.body(KEPT, ("2",))
        assert len(rig.runs.calls) == 5

    def test_one_that_is_larger_than_all_there_is_room_for_is_not_kept(self) -> None:
        rig = Rig(most_bytes=100)
        assert rig.body(KEPT) != rig.body(KEPT)


class TestDemands:
    def test_one_that_was_not_asked_to_see_a_write_has_not_seen_it(self, rig: Rig) -> None:
        rig.body(KEPT)
        assert rig.body(KEPT, freshness=token(5)) == b'{"value":2}'
        assert rig.body(KEPT, freshness=token(5)) == b'{"value":2}'
        assert rig.body(KEPT, freshness=token(4)) == b'{"value":2}'
        assert rig.body(KEPT) == b'{"value":2}'
        assert rig.body(KEPT, freshness=token(6)) == b'{"value":3}'

    @pytest.mark.parametrize("other", [token(5, timeline=2), token(5, system=8)])
    def test_a_position_of_another_history_says_nothing(self, rig: Rig, other: Freshness) -> None:
        rig.body(KEPT, freshness=token(9))
        assert rig.body(KEPT, freshness=other) == b'{"value":2}'

    def test_the_age_counts_for_how_stale_it_may_be(self, rig: Rig) -> None:
        assert rig.body(KEPT) == b'{"value":1}'
        assert rig.body(KEPT, freshness=Freshness(max_lag=60_000.0)) == b'{"value":1}'
        threading.Event().wait(0.002)
        assert rig.body(KEPT, freshness=Freshness(max_lag=1.0)) == b'{"value":2}'

    def test_so_does_the_lag_of_the_replica_that_it_was_read_from(self, rig: Rig) -> None:
        rig.runs.served = Served(endpoint="replica", lag_ms=500.0)
        rig.body(KEPT)
        assert rig.body(KEPT, freshness=Freshness(max_lag=400.0)) == b'{"value":2}'
        assert rig.body(KEPT, freshness=Freshness(max_lag=60_000.0)) == b'{"value":2}'

    def test_a_lag_that_is_not_known_is_too_much(self, rig: Rig) -> None:
        rig.runs.served = Served(endpoint="replica")
        rig.body(KEPT)
        assert rig.body(KEPT, freshness=Freshness(max_lag=60_000.0)) == b'{"value":2}'


literals = st.lists(st.text(max_size=3), max_size=3).map(tuple)
callers = st.builds(lambda name, roles: Caller(name=name, roles=frozenset(roles)), st.text(max_size=2), st.just(()))
settings = st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=2), max_size=2)
names = st.sampled_from(["kept", "mine", "bound"])


@given(st.lists(st.tuples(names, literals, callers, settings, st.booleans(), st.booleans()), min_size=2, max_size=12))
def test_calls_are_given_each_others_answers_where_all_that_matters_is_the_same(asked: list[Any]) -> None:
    rig = Rig()
    given_to: dict[bytes, set[Any]] = {}
    for name, values, caller, told, is_big, is_raw in asked:
        call: Any = single(QUERIES[name], values, caller=caller, settings=told)
        call = replace(call, plan=replace(call.plan, big_as_text=is_big))
        if is_raw:
            fields = {field: getattr(call, field) for field in RawCall.__struct_fields__}
            call = RawCall(**fields)
        whose = (caller.name, tuple(told.items())) if told or name != "kept" else None
        given_to.setdefault(rig.keeping.run(call).body, set()).add((name, values, is_big, is_raw, whose))
    assert all(len(calls) == 1 for calls in given_to.values())
    assert len(given_to) == len({call for calls in given_to.values() for call in calls})


class Together:
    """Calls in threads, of which the first is held until it is let go."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.has_begun, self.goes_on = threading.Event(), threading.Event()
        self.failure: GatewayError | None = None
        rig.runs.before = self._hold
        self._pool = ThreadPoolExecutor(8)

    def _hold(self, _call: Any) -> None:
        if not self.has_begun.is_set():
            self.has_begun.set()
            assert self.goes_on.wait(10)
            if self.failure is not None:
                raise self.failure

    def start(self, call: SingleCall) -> "Future[Answer]":
        future = self._pool.submit(self.rig.keeping.run, call)
        assert self.has_begun.wait(10)
        return future

    def join(self, call: SingleCall) -> "Future[Answer]":
        """One more, which waits by the time this returns."""
        before = self._waiting()
        future = self.start(call)
        while self._waiting() == before and not future.done():
            threading.Event().wait(0.001)
        return future

    def _waiting(self) -> int:
        flights = vars(self.rig.keeping)["_flights"]
        return sum(len(flight.gates) for flight in flights.values())


@pytest.fixture
def together(rig: Rig) -> Together:
    return Together(rig)


class TestShared:
    @pytest.mark.parametrize("asked", [SHARED, KEPT])
    def test_who_asks_for_the_same_meanwhile_waits_and_is_given_the_same(
        self, together: Together, asked: Query
    ) -> None:
        futures = [together.start(single(asked)), *(together.join(single(asked)) for _ in range(3))]
        other = together.start(single(asked, ("'other'",)))
        assert other.result(10).body == b'{"value":2}'
        together.goes_on.set()
        assert {future.result(10).body for future in futures} == {b'{"value":1}'}
        assert together.rig.counted(asked) == {"miss": 2, "shared": 3}

    def test_nothing_is_kept_of_what_is_only_shared(self, rig: Rig) -> None:
        assert rig.body(SHARED) != rig.body(SHARED)

    def test_who_asks_for_fresher_data_runs_it(self, together: Together) -> None:
        first = together.start(single(SHARED))
        assert together.start(single(SHARED, freshness=token(5))).result(10).body == b'{"value":2}'
        together.goes_on.set()
        assert first.result(10).body == b'{"value":1}'

    def test_a_failure_of_the_query_is_everybodys(self, together: Together) -> None:
        together.failure = InvalidArguments("no")
        futures = [together.start(single(SHARED)), together.join(single(SHARED))]
        together.goes_on.set()
        for future in futures:
            with pytest.raises(InvalidArguments):
                future.result(10)
        assert len(together.rig.runs.calls) == 1

    @pytest.mark.parametrize("failure", [ClientGone(""), DeadlineExceeded(""), PoolTimeout("")])
    def test_where_the_first_gives_up_by_itself_the_next_runs_it(
        self, together: Together, failure: GatewayError
    ) -> None:
        together.failure = failure
        first = together.start(single(SHARED))
        others = [together.join(single(SHARED)) for _ in range(2)]
        together.goes_on.set()
        with pytest.raises(type(failure)):
            first.result(10)
        assert all(other.result(10).body != b'{"value":1}' for other in others)

    def test_who_waits_has_a_deadline_of_its_own(self, together: Together) -> None:
        first = together.start(single(SHARED))
        second = together.start(replace(single(SHARED), deadline=monotonic() + 0.05))
        with pytest.raises(DeadlineExceeded):
            second.result(10)
        together.goes_on.set()
        assert first.result(10).body == b'{"value":1}'

    def test_an_expired_answer_is_given_while_one_call_fetches_another(self, rig: Rig) -> None:
        assert rig.body(STALE) == b'{"value":1}'
        threading.Event().wait(0.002)
        together = Together(rig)
        fetching = together.start(single(STALE))
        meanwhile = rig.keeping.run(single(STALE))
        assert meanwhile.body == b'{"value":1}'
        assert meanwhile.kept is not None
        assert meanwhile.kept.rest == 0
        together.goes_on.set()
        assert fetching.result(10).body == b'{"value":2}'
        assert rig.counted(STALE) == {"miss": 2, "stale": 1}
