"""What may be run again, and how often in all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.errors import GatewayError, Outcome
from gateway.execution.retries import RetryBudget, did_not_execute, may_succeed_elsewhere
from gateway.served import Served

NOW = 5000.0


def spent(budget: RetryBudget, now: float, wanted: int = 1000) -> int:
    """How many of so many retries are granted."""
    return sum(budget.spend(now) for _ in range(wanted))


def reads(budget: RetryBudget, now: float, count: int) -> None:
    for _ in range(count):
        budget.note(now)


def test_without_any_reads_as_many_are_run_again_as_there_are_connections() -> None:
    budget = RetryBudget(share=0.1, least=8)
    assert spent(budget, NOW) == 8


def test_with_many_reads_a_share_of_them_is() -> None:
    budget = RetryBudget(share=0.1, least=8)
    reads(budget, NOW, 500)
    assert spent(budget, NOW) == 50


def test_the_share_is_of_the_last_ten_seconds() -> None:
    budget = RetryBudget(share=0.1, least=1)
    for second in range(100):
        reads(budget, NOW + second, 10)
    assert spent(budget, NOW + 99) == 10


def test_what_was_spent_comes_back_after_ten_seconds() -> None:
    budget = RetryBudget(share=0.0, least=4)
    assert spent(budget, NOW) == 4
    assert spent(budget, NOW + 8.9) == 0
    assert spent(budget, NOW + 10.1) == 4


def test_a_long_silence_leaves_nothing_behind() -> None:
    budget = RetryBudget(share=0.5, least=1)
    reads(budget, NOW, 1000)
    assert spent(budget, NOW + 3600) == 1


def test_a_budget_of_nothing_still_allows_what_one_dead_server_needs() -> None:
    assert spent(RetryBudget(share=0.0, least=16), NOW) == 16


@given(
    share=st.floats(0, 1),
    least=st.integers(1, 20),
    events=st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200),
)
def test_never_more_than_the_share_or_the_least_within_nine_seconds(
    share: float, least: int, events: list[tuple[float, bool]]
) -> None:
    budget, now = RetryBudget(share=share, least=least), NOW
    all_reads: list[float] = []
    granted: list[float] = []
    for after, is_retry in events:
        now += after
        if not is_retry:
            budget.note(now)
            all_reads.append(now)
        elif budget.spend(now):
            granted.append(now)
            reads_lately = sum(then > now - 11 for then in all_reads)
            assert sum(then > now - 9 for then in granted) <= max(least, share * reads_lately)


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (errors.ConnectionLost(), True),
        (errors.ConnectionLost(sqlstate="57P01"), True),
        (errors.BackendUnavailable(sqlstate="40001"), True),
        (errors.BackendUnavailable(sqlstate="40P01"), True),
        (errors.BackendUnavailable(sqlstate="57P01"), True),
        (errors.BackendUnavailable(sqlstate="57P02"), True),
        (errors.BackendUnavailable(sqlstate="57P03"), True),
        (errors.BackendUnavailable(sqlstate="53200"), False),
        (errors.BackendUnavailable(), False),
        (errors.SerializationFailure(sqlstate="40001"), False),
        (errors.Cancelled(sqlstate="57014"), False),
        (errors.DeadlineExceeded(), False),
        (errors.ClientGone(), False),
        (errors.QueryBroken(sqlstate="42P01"), False),
        (errors.InvalidArguments(sqlstate="22012"), False),
        (errors.Raised(sqlstate="P0001"), False),
        (errors.TooStale(), False),
    ],
)
def test_a_read_is_run_again_where_its_server_is_to_blame(error: GatewayError, elsewhere: bool) -> None:
    assert may_succeed_elsewhere(error) is elsewhere


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.NoEndpoint(sqlstate="25006", outcome=Outcome.NOT_EXECUTED), True),
        (errors.ConnectionLost(outcome=Outcome.NOT_EXECUTED), True),
        (errors.BackendUnavailable(sqlstate="57P01", outcome=Outcome.NOT_EXECUTED), True),
        (errors.BackendUnavailable(sqlstate="25006", outcome=Outcome.NOT_EXECUTED), False),
        (errors.ConnectionLost(outcome=Outcome.UNKNOWN), False),
        (errors.ConnectionLost(outcome=Outcome.ROLLED_BACK), False),
        (errors.BackendUnavailable(sqlstate="57P01", outcome=Outcome.ROLLED_BACK), False),
        (errors.QueryBroken(sqlstate="42P01", outcome=Outcome.NOT_EXECUTED), False),
        (errors.DeadlineExceeded(outcome=Outcome.NOT_EXECUTED), False),
        (errors.SerializationFailure(outcome=Outcome.ROLLED_BACK), False),
    ],
)
def test_a_write_is_done_again_only_where_it_did_not_execute(error: GatewayError, again: bool) -> None:
    assert did_not_execute(error.but(served=Served(endpoint="primary"))) is again


def test_a_write_for_which_nobody_was_found_was_waited_for_already() -> None:
    assert not did_not_execute(errors.NoEndpoint(outcome=Outcome.NOT_EXECUTED))
