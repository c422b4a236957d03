"""How often work is done and where, over servers that do as they are told."""

from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from gateway import errors
from gateway.errors import GatewayError, Outcome
from gateway.execution.call import Call
from gateway.execution.freshness import Freshness
from gateway.execution.retries import MOST_ATTEMPTS
from gateway.execution.running import MOST_LOOKS, Runner
from gateway.pool.driver import ConnectError
from gateway.pool.pool import Pool
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Connected, Probed
from gateway.served import Served
from gateway.waiting import ThreadWaits
from tests.pool.fake import FakeConnection, FakeServer, Rig

GONE = ConnectError(Reason.REFUSED, "gone")
Failure = Callable[[FakeConnection], GatewayError]


class House:
    """A runner over fake servers; ``work`` notes where it was done, and fails as often as it is told to."""

    def __init__(self, *servers: FakeServer, write: bool = False, least: int = 4, share: float = 0.0) -> None:
        self.rig = Rig(*servers, clock=monotonic)
        group = self.rig.group("g", write=write, size=least)
        pool: Any = Pool(rotation=self.rig.rotation, groups=[group])
        self.runner = Runner(pool=pool, waits=ThreadWaits(), retry_budget=share, probe_interval=0.5)
        self.served: Served | None = None
        self.where: list[str] = []
        self.guards: list[str] = []
        self.failures: list[Failure] = []
        self.position: list[tuple[str, ...]] = [("500", "3", "7")]

    def work(self, _call: Call, connection: Any, guard: str = "") -> str:
        self.where.append(connection.server.name)
        self.guards.append(guard)
        connection.answer()
        connection.ask, connection.prepares = lambda *_: self.position, False
        if self.failures:
            raise self.failures.pop(0)(connection)
        return "done"

    def read(
        self, seconds: float = 5.0, asked: Freshness | None = None, work: Callable[[Call, Any, str], str] | None = None
    ) -> str:
        call = Call(group="g", deadline=monotonic() + seconds, freshness=asked)
        return self._noting_how(lambda: self.runner.read(call, work or self.work))

    def write(self, seconds: float = 5.0) -> str:
        call = Call(group="g", deadline=monotonic() + seconds)
        return self._noting_how(lambda: self.runner.write(call, self.work))

    def _noting_how(self, run: Callable[[], tuple[str, Served]]) -> str:
        try:
            done, self.served = run()
        except GatewayError as error:
            self.served = error.served
            raise
        return done

    @property
    def endpoint(self) -> str | None:
        return None if self.served is None else self.served.endpoint

    @property
    def attempts(self) -> int | None:
        return None if self.served is None else self.served.attempts

    @property
    def lag_ms(self) -> float | None:
        return None if self.served is None else self.served.lag_ms

    @property
    def token(self) -> str | None:
        return None if self.served is None else self.served.token


def lost(connection: FakeConnection) -> GatewayError:
    connection.sever()
    connection.meet()
    connection.close()
    return errors.ConnectionLost("lost")


def lost_before_sending(connection: FakeConnection) -> GatewayError:
    return lost(connection).but(outcome=Outcome.NOT_EXECUTED)


def lost_with_it(connection: FakeConnection) -> GatewayError:
    return lost(connection).but(outcome=Outcome.UNKNOWN)


def became_a_replica(connection: FakeConnection) -> GatewayError:
    connection.server.role = Role.REPLICA
    connection.answer()
    return errors.NoEndpoint("read only", outcome=Outcome.NOT_EXECUTED, sqlstate="25006")


def replicas(*names: str) -> list[FakeServer]:
    return [FakeServer(name) for name in names]


class TestReads:
    def test_what_succeeds_is_done_once_without_a_guard(self) -> None:
        house = House(*replicas("a", "b"))
        assert house.read() == "done"
        assert (house.where, house.guards) == (["a"], [""])
        assert (house.endpoint, house.attempts) == ("a", 1)

    def test_what_was_lost_is_done_again_elsewhere(self) -> None:
        house = House(*replicas("a", "b"))
        house.failures = [lost]
        assert house.read() == "done"
        assert house.where == ["a", "b"]
        assert (house.endpoint, house.attempts) == ("b", 2)

    def test_it_is_done_again_once(self) -> None:
        house = House(*replicas("a", "b", "c"))
        house.failures = [lost, lost]
        with pytest.raises(errors.ConnectionLost):
            house.read()
        assert len(set(house.where)) == len(house.where) == 2
        assert house.attempts == 2

    def test_the_error_of_the_second_attempt_is_the_answer(self) -> None:
        house = House(*replicas("a", "b"))
        house.failures = [lost, lambda _: errors.InvalidArguments("no")]
        with pytest.raises(errors.InvalidArguments):
            house.read()

    def test_where_nobody_is_left_the_first_error_is_the_answer(self) -> None:
        (server,) = replicas("a")

        def dies(connection: FakeConnection) -> GatewayError:
            server.refusal = GONE
            return lost(connection)

        house = House(server)
        house.failures = [dies]
        with pytest.raises(errors.ConnectionLost):
            house.read(0.3)
        assert (house.where, house.attempts) == (["a"], 1)

    def test_an_error_of_the_query_is_its_answer(self) -> None:
        house = House(*replicas("a", "b"))
        house.failures = [lambda _: errors.QueryBroken("no", sqlstate="42P01")]
        with pytest.raises(errors.QueryBroken):
            house.read()
        assert (house.where, house.endpoint) == (["a"], "a")

    def test_a_spent_budget_leaves_the_error(self) -> None:
        house = House(*replicas("a", "b"), least=1)
        house.failures = [lost]
        assert house.read() == "done"
        house.failures = [lost]
        with pytest.raises(errors.ConnectionLost):
            house.read()
        assert len(house.where) == 3

    def test_a_replica_tells_what_is_known_of_its_lag(self) -> None:
        house = House(*replicas("a"))
        house.rig.rotation.apply("a", Probed(role=Role.REPLICA, ping_ms=1.0, lag_ms=42.9))
        house.read()
        assert house.lag_ms == 42.9

    def test_a_lag_told_before_the_primary_was_asked_is_not_the_answers(self) -> None:
        replica, primary = FakeServer("a"), FakeServer("p", Role.PRIMARY)
        house = House(replica, primary)
        house.rig.rotation.apply("a", Probed(role=Role.REPLICA, ping_ms=1.0, lag_ms=42.0))

        def dies(connection: FakeConnection) -> GatewayError:
            replica.refusal = GONE
            return lost(connection)

        house.failures = [dies]
        assert house.read() == "done"
        assert (house.endpoint, house.lag_ms) == ("p", None)


class TestFreshReads:
    token = Token(system=7, timeline=1, position=500)

    def house(self, *, fallback: bool = True) -> House:
        house = House(FakeServer("a"), FakeServer("b"), *([FakeServer("p", Role.PRIMARY)] if fallback else []))
        for name in "ab":
            house.rig.rotation.apply(name, Probed(role=Role.REPLICA, ping_ms=1.0, lag_ms=3.0, timeline=1, position=400))
        if fallback:
            house.rig.rotation.apply("p", Probed(role=Role.PRIMARY, ping_ms=1.0, timeline=1, position=600))
        return house

    @staticmethod
    def too_early(_: FakeConnection) -> GatewayError:
        return errors.TooStale("not yet")

    def test_who_was_late_is_not_asked_twice_in_a_row_and_none_of_it_is_an_attempt(self) -> None:
        house = self.house()
        house.failures = [self.too_early] * 3
        assert house.read(asked=Freshness(token=self.token)) == "done"
        assert house.where in (["a", "b", "a", "b"], ["b", "a", "b", "a"])
        assert all("pg_last_wal_replay_lsn() OPERATOR(pg_catalog.>=) '0/1F4'" in guard for guard in house.guards)
        assert house.attempts == 1

    def test_after_half_of_the_time_the_primary_answers(self) -> None:
        house = self.house()
        house.failures = [self.too_early] * 1000
        began = monotonic()

        def work(call: Call, connection: Any, guard: str) -> str:
            return "done" if connection.server.name == "p" else house.work(call, connection, guard)

        assert house.read(0.4, Freshness(token=self.token), work) == "done"
        assert monotonic() - began >= 0.2
        assert house.lag_ms is None

    def test_without_a_primary_it_ends_at_the_deadline(self) -> None:
        house = self.house(fallback=False)
        house.failures = [self.too_early] * 1000
        began = monotonic()
        with pytest.raises(errors.TooStale):
            house.read(0.3, Freshness(token=self.token))
        assert 0.2 < monotonic() - began < 2

    def test_a_token_of_a_timeline_that_no_primary_is_on_is_refused_after_a_few_looks(self) -> None:
        house = self.house()
        house.failures = [self.too_early] * 1000
        began = monotonic()
        with pytest.raises(errors.TooStale):
            house.read(30.0, Freshness(token=Token(system=7, timeline=9, position=500)))
        assert house.where == ["p"] * MOST_LOOKS
        assert 1.0 < monotonic() - began < 5

    def test_a_fresh_read_whose_server_is_lost_is_done_again_elsewhere(self) -> None:
        house = self.house()
        house.failures = [lost]
        assert house.read(asked=Freshness(token=self.token)) == "done"
        assert sorted(house.where) == ["a", "b"]
        assert house.attempts == 2

    def test_a_lag_too_long_is_refused_at_once_where_nobody_else_may_answer(self) -> None:
        began = monotonic()
        with pytest.raises(errors.TooStale):
            self.house(fallback=False).read(5.0, Freshness(max_lag=1.0))
        assert monotonic() - began < 1


class TestReadsOfWhatReplicasHaveNot:
    asked = Freshness(only_primary=True)

    def test_they_go_to_the_primary_though_replicas_serve(self) -> None:
        house = House(FakeServer("a"), FakeServer("p", Role.PRIMARY), FakeServer("b"))
        assert [house.read(asked=self.asked) for _ in range(4)] == ["done"] * 4
        assert house.where == ["p"] * 4

    def test_without_a_primary_they_are_refused_at_once(self) -> None:
        began = monotonic()
        with pytest.raises(errors.NoEndpoint):
            House(FakeServer("a"), FakeServer("b")).read(asked=self.asked)
        assert monotonic() - began < 1


class TestWrites:
    def test_a_server_that_has_become_a_replica_gets_no_more_of_them(self) -> None:
        old, new = FakeServer("old", Role.PRIMARY), FakeServer("new", Role.PRIMARY)
        house = House(old, new, write=True)
        house.rig.rotation.apply("new", Connected(Role.REPLICA))

        def promoted(connection: FakeConnection) -> GatewayError:
            house.rig.rotation.apply("new", Connected(Role.PRIMARY))
            return became_a_replica(connection)

        house.failures = [promoted]
        assert house.write() == "done"
        assert house.where == ["old", "new"]
        assert (house.endpoint, house.attempts) == ("new", 2)
        assert house.rig.rotation.view("old").role is Role.REPLICA

    def test_until_there_is_a_primary_again_they_wait(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), write=True)
        house.failures = [became_a_replica]
        began = monotonic()
        with pytest.raises(errors.NoEndpoint) as caught:
            house.write(0.3)
        assert 0.3 <= monotonic() - began < 2
        assert (caught.value.outcome, caught.value.sqlstate) == (Outcome.NOT_EXECUTED, "25006")
        assert (house.where, house.attempts) == (["a"], 1)

    def test_one_that_was_lost_before_it_was_sent_is_done_again_on_the_same_server(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), write=True)
        house.failures = [lost_before_sending]
        assert house.write() == "done"
        assert (house.where, house.attempts) == (["a", "a"], 2)

    def test_one_that_was_lost_with_its_statement_is_not(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), write=True)
        house.failures = [lost_with_it]
        with pytest.raises(errors.ConnectionLost):
            house.write()
        assert house.where == ["a"]

    def test_a_server_that_breaks_every_connection_is_not_asked_for_ever(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), write=True)
        house.failures = [lost_before_sending] * 100
        with pytest.raises(errors.ConnectionLost) as caught:
            house.write()
        assert caught.value.outcome is Outcome.NOT_EXECUTED
        assert len(house.where) == MOST_ATTEMPTS
        assert house.attempts == MOST_ATTEMPTS

    def test_where_every_server_is_a_primary_nobody_is_asked_for_a_token(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), FakeServer("b", Role.PRIMARY), write=True)
        assert house.write() == "done"
        assert house.token is None

    def test_the_token_is_of_the_connection_that_wrote(self) -> None:
        house = House(FakeServer("a", Role.PRIMARY), FakeServer("b"), write=True)
        assert house.rig.rotation.view("b").state is EndpointState.IN
        assert house.write() == "done"
        told = house.token
        assert told is not None
        assert Token.read(told) == Token(system=7, timeline=3, position=500)
