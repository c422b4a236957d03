"""Who gets how much of the work, in simulated seconds: the same on every machine, every time."""

import pytest

from gateway.pool.balancing import SHIFT_EVERY, Balance
from gateway.pool.driver import ConnectError
from gateway.pool.endpoint_slots import TRIAL
from tests.pool.simulation import Town

BALANCES: tuple[Balance, ...] = ("least_busy", "round_robin")
both = pytest.mark.parametrize("balance", BALANCES)


def even(town: Town, names: str = "abc") -> bool:
    """Whether each of these has its share, give or take a twentieth of the whole."""
    return all(abs(share - 1 / len(names)) < 0.05 for name, share in town.shares().items() if name in names)


@both
@pytest.mark.parametrize(("size", "rate"), [(16, 100), (16, 600), (9, 300), (8, 300)])
def test_equal_servers_get_equal_shares(balance: Balance, size: int, rate: float) -> None:
    town = Town(size=size, balance=balance, service=0.02)
    town.load(rate)
    assert even(town.run(10))
    assert town.errors == []


@both
@pytest.mark.parametrize("size", [4, 8])
def test_equal_servers_get_equal_shares_though_slots_are_wanting_and_do_not_divide_evenly(
    balance: Balance, size: int
) -> None:
    town = Town(size=size, balance=balance, service=0.02)
    town.crowd(20)
    assert even(town.run(30))
    assert town.errors == []
    assert town.driver.opened <= size + 30 / SHIFT_EVERY


@both
def test_after_losing_one_of_three_the_others_get_half_each(balance: Balance) -> None:
    town = Town(size=9, balance=balance)
    town.load(1200)
    town.run(2)
    town.withdraw("c")
    town.run(0.1)
    assert even(town.run(10), "ab")
    assert town.went["c"] == 0
    assert town.errors == []


@both
def test_a_slow_endpoint_gets_less_and_makes_nobody_else_slow(balance: Balance) -> None:
    town = Town(size=16, balance=balance)
    town.load(600)
    before = max(town.run(5).p95(name) for name in "abc")
    town.service["c"] = 0.5
    town.run(2)
    town.run(10)
    assert town.shares()["c"] < 0.05
    assert max(town.p95(name) for name in "ab") < 2 * before
    assert town.errors == []


@both
def test_one_that_returns_gets_its_connections_one_at_a_time_and_its_share_soon(balance: Balance) -> None:
    town = Town(size=9, balance=balance)
    town.load(1200)
    town.run(2)
    town.withdraw("c")
    town.run(2)
    at_once = town.watch_connects("c")
    town.admit("c")
    town.run(1)
    assert max(at_once) == 1
    assert len(at_once) == 3
    assert even(town.run(5))
    assert town.errors == []


@both
def test_one_that_returns_and_answers_nothing_is_given_one_request_until_its_trial_ends(balance: Balance) -> None:
    town = Town(size=9, balance=balance)
    town.load(600)
    town.run(2)
    town.withdraw("c")
    town.run(2)
    town.service["c"] = 1e9
    town.admit("c")
    town.run(TRIAL * 0.9)
    assert town.most["c"] == 1
    town.withdraw("c")
    town.run(1)
    assert len(town.errors) == 0


def test_where_all_slots_are_taken_one_that_cannot_be_connected_to_costs_the_others_one_connection_at_most() -> None:
    town = Town(size=8, balance="least_busy")
    town.load(1000)
    town.run(1)
    town.withdraw("c")
    town.run(2)
    town.servers["c"].refusal = ConnectError(None, "too many clients")
    town.admit("c")
    for _ in range(20):
        town.run(0.25)
        assert len(town.driver.open) >= 7
    assert town.errors == []


def test_a_spike_of_fifty_opens_at_most_six_connections() -> None:
    town = Town("a", size=50, balance="least_busy", service=0.002, connect=0.15)
    for _ in range(50):
        town.simulation.spawn(town.request)
    town.run(2)
    assert town.went == {"a": 50}
    assert town.driver.opened <= 6
