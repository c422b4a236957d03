"""Lag in time: how long ago the primary was where the replica is now."""

import pytest

from gateway.node.history import SAMPLES, History, Lag
from gateway.postgres.probing import Look
from gateway.rotation.endpoint import EndpointView, Role

EPOCH = 1_700_000_000.0
"""The servers' clocks when ours is 0."""


def primary(at: float, position: int | None, *, timeline: int | None = 1, clock: float = EPOCH) -> Look:
    return look(Role.PRIMARY, at, position, timeline=timeline, clock=clock + at)


def replica(
    at: float,
    position: int | None,
    *,
    timeline: int | None = 1,
    committed: float | None = None,
    received: int | None = None,
    streaming: bool = True,
    clock: float = EPOCH,
) -> Look:
    """``committed``: by our clock, when the last transaction that it replayed was committed."""
    replayed_at = None if committed is None else EPOCH + committed
    return look(
        Role.REPLICA,
        at,
        position,
        timeline=timeline,
        clock=clock + at,
        replayed_at=replayed_at,
        received=received,
        streaming=streaming,
    )


def look(
    role: Role,
    at: float,
    position: int | None,
    *,
    timeline: int | None,
    clock: float,
    replayed_at: float | None = None,
    received: int | None = None,
    streaming: bool | None = None,
) -> Look:
    return Look(
        role=role,
        ping_ms=0.1,
        server_version="18.6",
        began=at,
        ended=at,
        position=position,
        timeline=timeline,
        streaming=streaming,
        received=received,
        replayed_at=replayed_at,
        clock=clock,
    )


def history(*looks: Look, system: str = "s") -> History:
    known = History()
    for seen in looks:
        known.note(system, seen)
    return known


BUSY = [primary(at / 2, 1000 + at * 100) for at in range(20)]  # 0 s to 9.5 s, 200 bytes a second


def test_a_replica_that_has_replayed_everything_is_not_behind() -> None:
    known = history(*BUSY)
    assert known.lag("s", replica(10, 2900, committed=9.4)) == Lag(0, 0)
    assert known.lag("s", replica(10, 3500, committed=9.9)) == Lag(0, 0)  # more than we have seen


def test_a_replica_is_behind_by_the_time_since_the_primary_was_where_it_is() -> None:
    known = history(*BUSY)
    assert known.lag("s", replica(10, 2000)) == Lag(5000, 900)
    assert known.lag("s", replica(10, 1999)) == Lag(5500, 901)


def test_what_it_replayed_last_bounds_how_far_it_is_behind() -> None:
    assert history(*BUSY).lag("s", replica(10, 2850, committed=9.99)) == Lag(10, 50)
    assert history(*BUSY).lag("s", replica(10, 2000, committed=-600)) == Lag(5000, 900)


def test_ten_idle_minutes_are_no_lag() -> None:
    known = history(*BUSY, *(primary(10 + idle, 2900) for idle in range(600)))
    assert known.lag("s", replica(610, 2900, committed=9.5)) == Lag(0, 0)


def test_one_write_after_ten_idle_minutes_is_the_lag_of_that_write() -> None:
    known = history(*BUSY, *(primary(10 + idle, 2900) for idle in range(600)), primary(609.5, 2901))
    assert known.lag("s", replica(609.6, 2900, committed=9.5)) == Lag(600, 1)


def test_a_process_that_takes_over_begins_with_what_the_last_one_saw() -> None:
    known = History()
    known.seed(
        [
            EndpointView(
                name="p", role=Role.PRIMARY, system="s", timeline=1, position=2900, ping_at=609.0, since=0, since_wall=0
            ),
            EndpointView(
                name="r", role=Role.REPLICA, system="s", timeline=1, position=9999, ping_at=609.0, since=0, since_wall=0
            ),
            EndpointView(name="new", since=0, since_wall=0),
        ]
    )
    known.note("s", primary(609.5, 2901))
    assert known.lag("s", replica(609.6, 2900, committed=9.5)) == Lag(600, 1)


def test_a_replica_that_is_behind_all_that_is_known_is_as_old_as_what_it_replayed_last() -> None:
    known = history(primary(9.5, 2900))
    assert known.lag("s", replica(10, 1000, committed=4)) == Lag(6000, 1900)
    assert known.lag("s", replica(12, 1000)) == Lag(2500, 1900)  # at least


def test_the_clocks_of_two_machines_need_not_agree() -> None:
    """The replica's clock is 5 s behind: by it, what the primary committed lies in the future."""
    known = history(*BUSY)
    assert known.lag("s", replica(10, 2000, committed=6, clock=EPOCH - 5)) == Lag(4000, 900)


def test_a_promotion_begins_the_history_anew() -> None:
    known = history(*BUSY, primary(20, 1500, timeline=2))
    assert known.lag("s", replica(20, 1500, timeline=2)) == Lag(0, 0)
    known.note("s", primary(20.5, 1600, timeline=2))
    known.note("s", primary(20.6, 99_999))  # the old primary, which is still there
    assert known.lag("s", replica(21, 1500, timeline=2)) == Lag(1000, 100)


def test_a_replica_of_an_older_timeline_is_not_compared_with_the_newest() -> None:
    known = history(primary(20, 1500, timeline=2))
    assert known.lag("s", replica(20, 1400, committed=15, received=1400)) == Lag(0, 0)
    assert known.lag("s", replica(20, 1400, committed=15, received=1450)) == Lag(5000, 50)


def test_a_replica_that_does_not_tell_its_timeline_is_compared() -> None:
    assert history(*BUSY).lag("s", replica(10, 2000, timeline=None)) == Lag(5000, 900)


def test_a_replica_of_another_cluster_is_not_compared() -> None:
    assert history(*BUSY).lag("other", replica(10, 1, committed=9, received=5)) == Lag(1000, 4)


@pytest.mark.parametrize(
    ("seen", "lag"),
    [
        (replica(10, 100, received=100, committed=1), Lag(0, 0)),
        (replica(10, 100, received=100, committed=1, streaming=False), Lag(9000, 0)),
        (replica(10, 100, received=150, committed=8), Lag(2000, 50)),
        (replica(10, 100), Lag(None, None)),
        (replica(10, None), Lag(None, None)),
    ],
)
def test_without_a_primary_a_replica_is_judged_by_what_it_says_itself(seen: Look, lag: Lag) -> None:
    assert History().lag("s", seen) == lag


def test_a_primary_that_lost_its_last_bytes_in_a_crash_is_not_waited_for() -> None:
    known = history(*BUSY, primary(10, 2850))
    assert known.lag("s", replica(10, 2850)) == Lag(0, 0)


def test_a_long_history_is_forgotten_from_its_beginning() -> None:
    known = history(*(primary(float(at), at * 10) for at in range(2 * SAMPLES)))
    now = 2.0 * SAMPLES
    assert known.lag("s", replica(now, 20)) == Lag(SAMPLES * 1000.0, (2 * SAMPLES - 1) * 10 - 20)
    assert known.lag("s", replica(now, 20, committed=2)) == Lag((now - 2) * 1000, (2 * SAMPLES - 1) * 10 - 20)
