"""Who is asked, and who is believed, when a read wants fresh data."""

import pytest
from msgspec.structs import replace

from gateway.errors import InvalidRequest, TooStale
from gateway.execution.freshness import (
    Freshness,
    asked_for,
    check,
    lag_now,
    lease_request,
    newest_timeline,
    refuse_foreign,
)
from gateway.pool.lease import LeaseRequest
from gateway.postgres.tokens import Token
from gateway.rotation.endpoint import EndpointState, EndpointView, Role

NOW = 1000.0
INTERVAL = 0.5
TOKEN = Token(system=77, timeline=2, position=500)
NOBODY = frozenset[str]()


def view(name: str, role: Role, **seen: object) -> EndpointView:
    known = {"state": EndpointState.IN, "since": 0.0, "since_wall": 0.0, "ping_at": NOW, "timeline": 2, "system": "77"}
    return EndpointView(name=name, role=role, **{**known, **seen})  # type: ignore[arg-type]


def replica(name: str, **seen: object) -> EndpointView:
    return view(name, Role.REPLICA, **seen)


PRIMARY = view("primary", Role.PRIMARY, position=900)


def wanted(
    asked: Freshness,
    *serving: EndpointView,
    reserve: tuple[EndpointView, ...] = (PRIMARY,),
    patient: bool = True,
    late: frozenset[str] = NOBODY,
) -> LeaseRequest | None:
    newest = newest_timeline([*serving, *reserve])
    return lease_request(
        asked,
        serving=serving,
        reserve=reserve,
        newest=newest,
        patient=patient,
        late=late,
        now=NOW,
        interval=INTERVAL,
    )


def only(*names: str) -> LeaseRequest:
    return LeaseRequest(only=frozenset(names))


def test_nothing_is_asked_for_without_the_headers() -> None:
    assert asked_for(max_staleness=None, strict=False, token=None) is None
    assert asked_for(max_staleness=None, strict=True, token=None) is None


def test_what_the_headers_ask_for() -> None:
    assert asked_for(max_staleness=0.5, strict=False, token=None) == Freshness(max_lag=500.0)
    assert asked_for(max_staleness=0.0, strict=True, token=None) == Freshness(max_lag=0.0, strict=True)
    assert asked_for(max_staleness=None, strict=True, token=str(TOKEN)) == Freshness(token=TOKEN)


@pytest.mark.parametrize(
    ("lag_ms", "seen_ago", "lag"),
    [(40.0, 0.0, 40.0), (40.0, 0.5, 40.0), (40.0, 0.7, 240.0), (0.0, 60.5, 60_000.0), (None, 0.0, None)],
)
def test_a_replica_nobody_looks_at_falls_behind(lag_ms: float | None, seen_ago: float, lag: float | None) -> None:
    assert lag_now(replica("a", lag_ms=lag_ms, ping_at=NOW - seen_ago), NOW, INTERVAL) == pytest.approx(lag)


def test_a_lag_nobody_has_seen_is_not_known() -> None:
    assert lag_now(replica("a", lag_ms=None, ping_at=None), NOW, INTERVAL) is None


class TestStaleness:
    asked = Freshness(max_lag=500.0)
    strict = Freshness(max_lag=500.0, strict=True)

    def test_those_within_the_limit_are_asked(self) -> None:
        near, at, far, dark = (replica(name, lag_ms=lag) for name, lag in zip("abcd", (3, 500, 501, None), strict=True))
        assert wanted(self.asked, near, at, far, dark) == only("a", "b")

    def test_else_the_primary(self) -> None:
        assert wanted(self.asked, replica("a", lag_ms=900)) == only("primary")

    def test_strictly_nobody_rather_than_the_primary(self) -> None:
        assert wanted(self.strict, replica("a", lag_ms=900)) is None
        assert wanted(self.strict, replica("a", lag_ms=9)) == only("a")

    def test_strictly_the_primary_where_it_serves_all_reads(self) -> None:
        assert wanted(self.strict, PRIMARY, reserve=()) == only("primary")

    def test_nobody_where_there_is_no_primary_to_go_to(self) -> None:
        assert wanted(self.asked, replica("a", lag_ms=900), reserve=()) is None

    def test_who_has_fallen_behind_while_a_connection_was_waited_for_does_not_answer(self) -> None:
        assert check(self.asked, replica("a", lag_ms=400), newest=2, now=NOW, interval=INTERVAL) == ""
        assert check(self.asked, PRIMARY, newest=2, now=NOW, interval=INTERVAL) == ""
        with pytest.raises(TooStale):
            check(self.asked, replica("a", lag_ms=400), newest=2, now=NOW + 0.7, interval=INTERVAL)


class TestTokens:
    asked = Freshness(token=TOKEN)

    def test_those_known_to_be_there_are_asked_first(self) -> None:
        there, beyond, behind = replica("a", position=500), replica("b", position=800), replica("c", position=499)
        assert wanted(self.asked, there, beyond, behind) == only("a", "b")
        assert wanted(self.asked, there, beyond, behind, patient=False) == only("a", "b")

    def test_those_who_may_be_there_are_asked_for_a_while_and_then_the_primary(self) -> None:
        behind, dark = replica("a", position=499), replica("b", position=None)
        assert wanted(self.asked, behind, dark) == only("a", "b")
        assert wanted(self.asked, behind, dark, patient=False) == only("primary")

    def test_a_replica_that_hides_its_position_is_not_asked(self) -> None:
        managed = replace(replica("a", position=None), ping_ok=True)
        assert wanted(self.asked, managed) == only("primary")
        with pytest.raises(TooStale):
            check(self.asked, managed, newest=2, now=NOW, interval=INTERVAL)

    def test_without_a_primary_they_are_asked_to_the_end(self) -> None:
        assert wanted(self.asked, replica("a", position=499), reserve=(), patient=False) == only("a")

    def test_rather_another_than_who_was_just_asked(self) -> None:
        asked = wanted(self.asked, replica("a"), replica("b"), late=frozenset("a"))
        assert asked == LeaseRequest(only=frozenset("ab"), avoid=frozenset("a"))

    def test_a_position_on_another_timeline_says_nothing(self) -> None:
        older, newer = replica("a", position=900, timeline=1), replica("b", position=900, timeline=3)
        assert wanted(self.asked, older, newer) == only("primary")
        for odd in (older, newer):
            with pytest.raises(TooStale):
                check(self.asked, odd, newest=2, now=NOW, interval=INTERVAL)

    def test_a_token_of_before_the_promotion_goes_to_the_primary(self) -> None:
        promoted = view("primary", Role.PRIMARY, timeline=3)
        assert wanted(self.asked, replica("a", position=900), reserve=(promoted,)) == only("primary")
        with pytest.raises(TooStale):
            check(self.asked, replica("a", position=900), newest=3, now=NOW, interval=INTERVAL)

    def test_a_timeline_nobody_could_see_is_believed_only_where_there_was_no_other(self) -> None:
        dark = replica("a", position=900, timeline=None)
        assert wanted(self.asked, dark) == only("primary")
        first = Freshness(token=Token(system=77, timeline=1, position=500))
        assert wanted(first, dark, reserve=(view("primary", Role.PRIMARY, timeline=1),)) == only("a")
        assert wanted(first, dark, reserve=()) == only("a")

    def test_a_replica_is_guarded_however_far_it_is_known_to_be(self) -> None:
        guard = check(self.asked, replica("a", position=900), newest=2, now=NOW, interval=INTERVAL)
        assert "pg_last_wal_replay_lsn() OPERATOR(pg_catalog.>=) '0/1F4'" in guard

    @pytest.mark.parametrize("timeline", [2, 3, 1, None])
    def test_a_primary_is_guarded_for_the_connection_may_lead_to_an_older_one(self, timeline: int | None) -> None:
        primary = view("primary", Role.PRIMARY, timeline=timeline)
        guard = check(self.asked, primary, newest=timeline, now=NOW, interval=INTERVAL)
        assert "pg_is_in_recovery" in guard
        assert check(Freshness(max_lag=1.0), primary, newest=timeline, now=NOW, interval=INTERVAL) == ""

    def test_a_token_with_a_staleness_wants_both(self) -> None:
        both = Freshness(max_lag=500.0, token=TOKEN)
        fresh, stale = replica("a", position=499, lag_ms=3), replica("b", position=900, lag_ms=900)
        assert wanted(both, fresh, stale) == only("a")

    def test_a_token_of_another_cluster_is_refused(self) -> None:
        refuse_foreign(TOKEN, [replica("a", system="77"), replica("b", system="78")])
        refuse_foreign(TOKEN, [replica("a", system=None)])
        with pytest.raises(InvalidRequest):
            refuse_foreign(TOKEN, [replica("a", system="78"), replica("b", system=None)])


def test_the_newest_timeline_is_that_of_the_primary() -> None:
    out = view("old", Role.PRIMARY, state=EndpointState.OUT, timeline=9)
    assert newest_timeline([PRIMARY, replica("a", timeline=7), out]) == 2
    assert newest_timeline([PRIMARY, view("other", Role.PRIMARY, timeline=3)]) == 3
    assert newest_timeline([view("other", Role.PRIMARY, timeline=None), replica("a")]) is None
