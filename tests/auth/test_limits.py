"""How often somebody may call."""

from pathlib import Path

import pytest

from gateway.auth.limits import Limits
from gateway.catalogue.query import Access, Catalogue, Kind, Query, Statement, Text, Verb
from gateway.errors import RateLimited
from gateway.events import ignore
from gateway.execution.call import ANONYMOUS, Caller
from gateway.node.cells import Cells
from gateway.served import Allowance, Limit
from gateway.settings.units import rate

HERE = "192.0.2.1"
SALES, SUPPORT = Caller(name="key:sales"), Caller(name="key:support")


def query(name: str, limit: str | None) -> Query:
    statement = Statement(Verb.SELECT, Text(("SELECT 1",)))
    return Query(name, Kind.SCALAR, Access.READ, statement, timeout=5.0, rate=None if limit is None else rate(limit))


SLOW, FAST, FREE = query("slow", "2/s burst=4"), query("fast", "100/s"), query("free", None)

SLOWLY = Limit.of("slow", 4, 2)


class Clock:
    """Time that passes when it is told to, in seconds."""

    now = 1000.0

    def __call__(self) -> int:
        return round(self.now * 1e9)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(tmp_path: Path, clock: Clock) -> Limits:
    catalogue = Catalogue({one.name: one for one in (SLOW, FAST, FREE)}, "hash")
    return Limits(Cells(tmp_path, observe=ignore, clock=clock), catalogue=catalogue, failure_rate=rate("1/s burst=2"))


def refusal(limits: Limits, *, count: int = 1, caller: Caller = ANONYMOUS, address: str = HERE) -> RateLimited:
    with pytest.raises(RateLimited) as caught:
        limits.charge([SLOW] * count, caller, address)
    return caught.value


def test_a_query_without_a_rate_is_not_counted(limits: Limits) -> None:
    assert limits.charge([FREE], ANONYMOUS, HERE) == []


def test_a_burst_is_followed_by_what_the_rate_allows(limits: Limits, clock: Clock) -> None:
    for left in (3, 2, 1, 0):
        assert [allowance.left for allowance in limits.charge([SLOW], ANONYMOUS, HERE)] == [left]
    refusal(limits)
    clock.now += 0.5
    limits.charge([SLOW], ANONYMOUS, HERE)
    refusal(limits)


def test_who_called_is_told_where_it_stands(limits: Limits, clock: Clock) -> None:
    assert limits.charge([SLOW] * 3, ANONYMOUS, HERE) == [Allowance(SLOWLY, 1, 2)]
    error = refusal(limits, count=2)
    assert error.after == 0.5
    assert error.allowances == (Allowance(SLOWLY, 1, 2),)
    clock.now += 0.5
    assert limits.charge([SLOW] * 2, ANONYMOUS, HERE) == [Allowance(SLOWLY, 0, 2)]


def test_one_call_is_charged_as_several_are(limits: Limits) -> None:
    assert limits.charge_one(FREE, ANONYMOUS, HERE) == ()
    assert limits.charge_one(SLOW, ANONYMOUS, HERE) == (Allowance(SLOWLY, 3, 1),)
    assert limits.charge([SLOW] * 3, ANONYMOUS, HERE) == [Allowance(SLOWLY, 0, 2)]
    with pytest.raises(RateLimited):
        limits.charge_one(SLOW, ANONYMOUS, HERE)
    rated = Caller(name="key:batch", rate=rate("1/s burst=1"))
    assert [allowance.limit.name for allowance in limits.charge_one(FREE, rated, HERE)] == ["key:batch"]


def test_without_a_burst_it_is_a_seconds_worth(limits: Limits) -> None:
    (allowance,) = limits.charge([FAST], ANONYMOUS, HERE)
    assert (allowance.limit.burst, allowance.limit.window, allowance.left) == (100, 1, 99)


def test_more_at_once_than_ever_allowed_is_not_to_be_tried_again(limits: Limits) -> None:
    error = refusal(limits, count=5)
    assert (error.after, error.retryable) == (None, False)
    assert "5 calls of slow at once are more than the 4" in error.detail


def test_callers_are_counted_apart_and_strangers_by_their_address(limits: Limits) -> None:
    for caller, address in ((SALES, HERE), (SUPPORT, HERE), (ANONYMOUS, HERE), (ANONYMOUS, "192.0.2.2")):
        limits.charge([SLOW] * 4, caller, address)
        refusal(limits, caller=caller, address=address)
    refusal(limits, caller=SALES, address="192.0.2.3")


def test_a_network_of_ipv6_is_one_stranger(limits: Limits) -> None:
    limits.charge([SLOW] * 4, ANONYMOUS, "2001:db8::1")
    refusal(limits, address="2001:db8::ffff:1")
    limits.charge([SLOW] * 4, ANONYMOUS, "2001:db8:0:1::1")
    limits.charge([SLOW] * 4, ANONYMOUS, HERE)
    refusal(limits, address=f"::ffff:{HERE}")


def test_a_caller_cannot_take_a_strangers_name(limits: Limits) -> None:
    limits.charge([SLOW] * 4, ANONYMOUS, HERE)
    limits.charge([SLOW] * 4, Caller(name=f"jwt:@{HERE}"), HERE)


def test_the_steps_of_a_transaction_count_all_or_none(limits: Limits) -> None:
    assert limits.charge([FREE, FREE], ANONYMOUS, HERE) == []
    assert limits.charge([], ANONYMOUS, HERE) == []
    allowances = limits.charge([FAST, SLOW, FREE, FAST], ANONYMOUS, HERE)
    assert [(allowance.limit.name, allowance.left) for allowance in allowances] == [("fast", 98), ("slow", 3)]
    with pytest.raises(RateLimited):
        limits.charge([FAST, SLOW, SLOW, SLOW, SLOW], ANONYMOUS, HERE)
    assert [allowance.left for allowance in limits.charge([FAST], ANONYMOUS, HERE)] == [97]
    assert [allowance.left for allowance in limits.charge([SLOW], ANONYMOUS, HERE)] == [2]


def test_failures_of_one_address_are_limited_and_others_are_not(limits: Limits, clock: Clock) -> None:
    limits.charge_failure(HERE)
    limits.charge_failure(HERE)
    with pytest.raises(RateLimited):
        limits.charge_failure(HERE)
    limits.charge_failure("192.0.2.2")
    clock.now += 1
    limits.charge_failure(HERE)


def test_a_callers_own_rate_counts_all_its_queries_together(limits: Limits) -> None:
    caller = Caller(name="key:batch", rate=rate("1/s burst=3"))
    assert [(allowance.limit.name, allowance.left) for allowance in limits.charge([FREE], caller, HERE)] == [
        ("key:batch", 2)
    ]
    allowances = limits.charge([SLOW], caller, HERE)
    assert [(allowance.limit.name, allowance.left) for allowance in allowances] == [("slow", 3), ("key:batch", 1)]
    with pytest.raises(RateLimited, match="key:batch: more often"):
        limits.charge([SLOW, FREE], caller, "192.0.2.9")
    assert [allowance.left for allowance in limits.charge([SLOW], caller, HERE)] == [2, 0]
