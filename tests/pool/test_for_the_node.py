"""What a pool tells and gives the other workers of its node."""

import pytest

from gateway.rotation.endpoint import Reason
from gateway.rotation.moves import Drain
from tests.pool.fake import FakeServer, Rig


@pytest.fixture
def rig() -> Rig:
    return Rig(FakeServer("one"), FakeServer("two"))


def test_leases_are_counted_by_endpoint(rig: Rig) -> None:
    group = rig.group()
    assert group.leases() == {"one": 0, "two": 0}
    with group.lease(rig.soon()) as first, group.lease(rig.soon()) as second:
        assert {first.endpoint, second.endpoint} == {"one", "two"}
        assert group.leases() == {"one": 1, "two": 1}
    assert group.leases() == {"one": 0, "two": 0}


def test_a_group_says_why_an_endpoint_may_not_serve_it(rig: Rig) -> None:
    group = rig.group()
    assert group.objection("one") is None
    rig.withdraw("one")
    assert group.objection("one") is Reason.TIMEOUT
    assert rig.group("write", write=True).objection("two") is Reason.WRONG_ROLE


def test_idle_connections_can_be_closed_for_others(rig: Rig) -> None:
    group = rig.group()
    with group.lease(rig.soon()), group.lease(rig.soon()), group.lease(rig.soon()):
        pass
    group.close_idle(2, or_leased=True)
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"
    assert len(rig.driver.open) == 1
    group.close_idle(9, or_leased=False)
    assert rig.driver.open == []


def test_one_that_is_leased_is_closed_when_it_is_returned_and_only_one(rig: Rig) -> None:
    group = rig.group()
    with group.lease(rig.soon()) as first, group.lease(rig.soon()) as second:
        group.close_idle(1, or_leased=False)
        group.close_idle(1, or_leased=True)
        group.close_idle(1, or_leased=True)
        assert not first.connection.closed
        assert not second.connection.closed
    assert len(rig.driver.open) == 1
    assert repr(group) == "<Group read [4 slots: 0 leased, 1 idle, 3 empty | 0 waiting]>"


def test_a_group_without_connections_closes_nothing(rig: Rig) -> None:
    group = rig.group()
    group.close_idle(1, or_leased=True)
    with group.lease(rig.soon()):
        pass
    assert len(rig.driver.open) == 1


def test_what_was_told_is_known_when_every_listener_has_acted(rig: Rig) -> None:
    group = rig.group()
    told: list[bool] = []
    rig.rotation.subscribe(lambda: told.append(rig.rotation.told == rig.rotation.version))
    rig.rotation.apply("one", Drain())
    assert told == [False]
    assert rig.rotation.told == rig.rotation.version
    assert group.serving == ("two",)
