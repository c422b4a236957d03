import itertools

import pytest

from gateway.pool.slot import IllegalMove, Slot, SlotState
from gateway.rotation.endpoint import Role
from tests.pool.fake import FakeClock, FakeConnection, FakeServer

LEGAL = {
    ("empty", "leased"),
    ("idle", "leased"),
    ("leased", "leased"),
    ("leased", "idle"),
    ("leased", "empty"),
    ("idle", "empty"),
}


def connection() -> FakeConnection:
    return FakeConnection(FakeServer("a"), FakeClock())


@pytest.mark.parametrize(("before", "after"), [*itertools.product(SlotState, SlotState)])
def test_a_slot_moves_as_the_table_says_and_otherwise_raises_and_stays(before: SlotState, after: SlotState) -> None:
    slot = Slot[FakeConnection]()
    slot.state = before
    if (before.value, after.value) in LEGAL:
        slot.move(after)
        assert slot.state is after
    else:
        with pytest.raises(IllegalMove, match=f"{before} -> {after}"):
            slot.move(after)
        assert slot.state is before


def test_a_slot_shows_its_state_and_endpoint() -> None:
    slot = Slot[FakeConnection]()
    assert repr(slot) == "<Slot empty>"
    slot.move(SlotState.LEASED)
    slot.fill(connection(), endpoint="a", now=1.0, retire_at=2.0)
    assert repr(slot) == "<Slot leased a>"
    assert slot.role is Role.REPLICA


def test_only_a_leased_slot_without_a_connection_can_be_filled() -> None:
    slot = Slot[FakeConnection]()
    with pytest.raises(IllegalMove):
        slot.fill(connection(), endpoint="a", now=1.0, retire_at=2.0)
    slot.move(SlotState.LEASED)
    slot.fill(connection(), endpoint="a", now=1.0, retire_at=2.0)
    with pytest.raises(IllegalMove):
        slot.fill(connection(), endpoint="a", now=1.0, retire_at=2.0)


def test_a_vacated_slot_hands_out_its_connection_once() -> None:
    slot = Slot[FakeConnection]()
    slot.move(SlotState.LEASED)
    held = connection()
    slot.fill(held, endpoint="a", now=1.0, retire_at=2.0)
    assert slot.vacate() is held
    assert repr(slot) == "<Slot empty>"
    with pytest.raises(IllegalMove):
        slot.connection  # noqa: B018 -- the look is the test
