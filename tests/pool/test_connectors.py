import pytest

from gateway.pool.backoff import ConnectBackoff, ConnectBackoffs
from gateway.pool.connectors import CONNECTORS, Connector, Connectors
from gateway.pool.endpoint_slots import EndpointSlots, Standing
from gateway.pool.group_slots import GroupSlots
from gateway.pool.queue import Queue
from gateway.rotation.choosing import Candidates
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role
from gateway.waiting import ThreadGate
from tests.pool.fake import FakeClock, FakeConnection, FakeServer

NOW = 100.0


class Field:
    """Connectors over the slots of one or two endpoints that serve, for a queue of as many as ``wait`` says."""

    def __init__(self, *, size: int = 8, names: str = "r", write: bool = False) -> None:
        self.closed: list[FakeConnection] = []
        self.slots = GroupSlots[FakeConnection](
            names,
            size=size,
            balance="least_busy",
            access_write=write,
            close_later=self.closed.append,
            backoffs=ConnectBackoffs(),
        )
        self.slots.arrange(Candidates(serving=tuple(names)), NOW)
        self.connectors = Connectors(self.slots, jitter=lambda: 0.0)
        self.queue = Queue[FakeConnection](gate=ThreadGate)

    def wait(self, count: int, *, granted: int = 0) -> "Field":
        for waiter in tuple(self.queue.waiters):
            self.queue.leave(waiter)
        for _ in range(count):
            self.queue.join(self.queue.draw(), NOW)
        self.queue.granted = granted
        return self

    def grow(self, waiting: int) -> list[Connector[FakeConnection]]:
        return self.connectors.grow(self.wait(waiting).queue, NOW)

    def next(self, me: Connector[FakeConnection], *, waiting: int, granted: int = 0, now: float = NOW) -> float | None:
        return self.connectors.next(me, self.wait(waiting, granted=granted).queue, now)

    def connection(self, role: Role = Role.REPLICA) -> FakeConnection:
        return FakeConnection(FakeServer("r", role), FakeClock(NOW))


def test_there_are_as_many_connectors_as_waiters_but_no_more_than_four_nor_than_empty_slots() -> None:
    for size, waiting, expected in ((8, 1, 1), (8, 3, 3), (8, 9, CONNECTORS), (2, 9, 2), (8, 0, 0)):
        field = Field(size=size)
        assert len(field.grow(waiting)) == expected
        assert field.connectors.active == field.connectors.opening == expected
        assert field.grow(waiting) == []


@pytest.mark.parametrize(
    ("waiting", "granted", "opens_another"),
    [
        (40, 0, True),  # nothing moves
        (40, 9, True),  # 40 at 9 in a quarter take longer than a connect
        (40, 10, False),
        (40, 40, False),
    ],
)
def test_after_a_connect_the_queue_is_watched_and_another_opened_only_if_it_moves_too_slowly(
    waiting: int, granted: int, opens_another: bool
) -> None:
    field = Field()
    (me,) = field.grow(1)
    assert me.order is not None
    assert field.next(me, waiting=1) is None  # still has its order
    assert field.connectors.succeeded(me, me.order, field.connection(), took=0.16, now=NOW)
    assert field.next(me, waiting=waiting, granted=5, now=NOW) == 0.04
    again = field.next(me, waiting=waiting, granted=5 + granted, now=NOW + 0.04)
    if opens_another:
        assert (again, field.connectors.opening) == (None, 1)
    else:
        assert (again, field.connectors.opening) == (0.04, 0)  # it goes on watching, lest the queue stop
        assert field.next(me, waiting=waiting, granted=5 + granted, now=NOW + 0.08) is None
        assert field.connectors.opening == 1


def test_a_connector_that_nobody_needs_any_more_is_forgotten_in_the_same_step() -> None:
    field = Field()
    (me,) = field.grow(1)
    field.connectors.failed(me, "refused", NOW)
    assert field.next(me, waiting=0, granted=0, now=NOW + 9) is None
    assert me.order is None
    assert field.connectors.active == 0


def test_during_a_backoff_one_connector_sits_it_out_for_all_who_wait() -> None:
    field = Field()
    (first,) = field.grow(1)
    field.connectors.dismiss(first, "no thread", NOW)
    assert field.connectors.last_error == ("r", "no thread")
    (sitting,) = field.grow(5)
    assert sitting.order is None
    assert field.grow(5) == []
    assert field.next(sitting, waiting=5) == pytest.approx(0.1)
    assert field.next(sitting, waiting=5, granted=0, now=NOW + 0.11) is None
    assert sitting.order is not None


def test_an_endpoint_that_missed_its_turn_gets_one_connection_at_a_time() -> None:
    field = Field(names="rs")
    behind = field.slots.next_to_connect(NOW)
    assert isinstance(behind, EndpointSlots)
    assert len(field.connectors.even_out(behind, NOW)) == 1
    assert field.connectors.even_out(behind, NOW) == []


def test_a_connection_of_the_wrong_role_is_not_welcome_even_if_the_rotation_believes_otherwise() -> None:
    field = Field(write=True)
    (me,) = field.grow(1)
    assert me.order is not None
    slot = me.order.slot
    assert not field.connectors.succeeded(me, me.order, field.connection(Role.REPLICA), took=0.1, now=NOW)
    field.slots.vacate(slot)
    assert [connection.role for connection in field.closed] == [Role.REPLICA]
    wait = field.slots.next_to_connect(NOW)
    assert isinstance(wait, float)  # no hot loop


def test_the_backoff_grows_from_fifty_milliseconds_to_a_second_and_is_forgotten_by_success() -> None:
    for jitter, expected in (
        (0.0, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (0.999999, [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]),
    ):
        endpoint = EndpointSlots[FakeConnection]("r", ConnectBackoff())
        endpoint.standing = Standing.SERVING
        delays = []
        for _ in expected:
            endpoint.backoff.failed(100.0, jitter)
            delays.append(endpoint.backoff.retry_at - 100.0)
            assert not endpoint.may_connect(100.0)
            assert endpoint.next_try(100.0) == pytest.approx(delays[-1])
            assert endpoint.may_connect(endpoint.backoff.retry_at)
        assert delays == pytest.approx(expected, rel=1e-3)
        endpoint.connected(100.0)
        assert endpoint.may_connect(100.0)


def test_where_the_cap_was_reached_the_next_try_is_soon_every_time() -> None:
    endpoint = EndpointSlots[FakeConnection]("r", ConnectBackoff())
    endpoint.standing = Standing.SERVING
    for _ in range(9):
        endpoint.cap_reached(100.0, 0.0)
        assert endpoint.next_try(100.0) == pytest.approx(0.05)
        assert not endpoint.may_connect(100.0)
        assert not endpoint.backoff.failing  # other groups have places of their own


@pytest.mark.parametrize(
    ("serving", "failing", "connecting", "may"),
    [
        (True, False, 0, True),
        (True, False, 3, True),
        (True, True, 0, True),
        (True, True, 1, False),
        (False, False, 0, True),
        (False, False, 1, False),
    ],
)
def test_an_endpoint_that_fails_or_never_worked_gets_one_connect_at_a_time_from_all_groups_together(
    serving: bool, failing: bool, connecting: int, may: bool
) -> None:
    backoff = ConnectBackoff()
    ours, theirs = EndpointSlots[FakeConnection]("r", backoff), EndpointSlots[FakeConnection]("r", backoff)
    ours.standing = theirs.standing = Standing.SERVING if serving else Standing.UNTRIED
    if failing:
        backoff.failed(99.0, 0.0)
    backoff.connecting = theirs.connecting = connecting
    assert ours.may_connect(100.0) is theirs.may_connect(100.0) is may
    if not may:
        assert ours.next_try(100.0) == pytest.approx(0.05)  # nobody else will tell us
        assert theirs.next_try(100.0) is None


def test_after_an_outage_the_connects_at_once_are_doubled_each_time_as_many_are_open() -> None:
    endpoint = EndpointSlots[FakeConnection]("r", backoff := ConnectBackoff())
    endpoint.standing = Standing.SERVING
    allowed = []
    endpoint.admit(on_trial=False, was_down=True)
    for _ in range(1 + 2 + 4 + 8):
        backoff.connecting = 0
        while backoff.connecting < 100 and endpoint.may_connect(NOW):
            backoff.connecting += 1
        allowed.append(backoff.connecting)
        endpoint.connected(NOW)
    assert allowed == [1] + [2] * 2 + [4] * 4 + [8] * 8


def test_a_connect_that_fails_on_the_way_up_begins_the_ramp_anew() -> None:
    backoff = ConnectBackoff()
    backoff.ramp_up()
    for _ in range(3):
        backoff.succeeded()
    assert backoff.at_once == 4
    backoff.failed(NOW, 0.0)
    assert backoff.at_once == 1


def test_a_server_that_was_never_down_gets_as_many_at_once_as_are_wanted() -> None:
    endpoint = EndpointSlots[FakeConnection]("r", backoff := ConnectBackoff())
    endpoint.standing = Standing.SERVING
    endpoint.admit(on_trial=False, was_down=False)
    backoff.connecting = 1000
    assert endpoint.may_connect(NOW)


def test_a_group_whose_endpoint_comes_back_opens_one_connection_first() -> None:
    field = Field()
    view = EndpointView(name="r", state=EndpointState.OUT, reason=Reason.REFUSED, since=NOW, since_wall=NOW)
    field.slots.arrange(Candidates(), NOW, [view])
    field.slots.arrange(Candidates(serving=("r",)), NOW)
    assert len(field.grow(waiting=8)) == 1
