"""What every driver must do, whatever it speaks to; run against the fake here and against servers in tests/live.

A subclass gives the fixtures: ``driver``; ``endpoint``, the name of a server that accepts, with ``role``;
``unreachable``, the name of one that does not; ``deadline``, a good one; ``sever``, which makes the server drop a
connection and returns when that can be seen; ``begin``, which leaves a transaction open on a connection.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.pool.driver import ConnectError, Connection, ConnectionBroken, Driver
from gateway.rotation.endpoint import Reason, Role

Deed = Callable[[Any], None]


class DriverConformance:
    """Subclass it, give the fixtures, and every test here runs against your driver."""

    @pytest.fixture
    def connection(self, driver: Driver[Connection], endpoint: str, deadline: float) -> Iterator[Connection]:
        connection = driver.connect(endpoint, deadline)
        yield connection
        connection.close()

    def test_a_fresh_connection_is_usable_and_knows_its_servers_role(self, connection: Connection, role: Role) -> None:
        assert connection.is_usable()
        assert connection.role is role

    def test_a_server_that_does_not_accept_is_a_connect_error_with_a_reason_in_one_line(
        self, driver: Driver[Connection], unreachable: str, deadline: float
    ) -> None:
        with pytest.raises(ConnectError) as caught:
            driver.connect(unreachable, deadline)
        assert isinstance(caught.value.reason, Reason)
        assert caught.value.message.strip()
        assert "\n" not in caught.value.message

    def test_a_connect_whose_deadline_is_over_times_out(self, driver: Driver[Connection], endpoint: str) -> None:
        with pytest.raises(ConnectError) as caught:
            driver.connect(endpoint, 0.0)
        assert caught.value.reason is Reason.TIMEOUT

    def test_a_ping_that_is_answered_leaves_the_connection_usable(
        self, connection: Connection, deadline: float, role: Role
    ) -> None:
        connection.ping(deadline)
        assert connection.is_usable()
        assert connection.role is role

    def test_a_ping_whose_deadline_is_over_breaks(self, connection: Connection) -> None:
        with pytest.raises(ConnectionBroken):
            connection.ping(0.0)

    def test_a_clean_connection_settles_and_stays_usable(self, connection: Connection, deadline: float) -> None:
        assert connection.settle(deadline)
        assert connection.is_usable()
        connection.ping(deadline)

    def test_an_open_transaction_is_gone_after_settling_or_the_connection_is(
        self, connection: Connection, deadline: float, begin: Deed
    ) -> None:
        begin(connection)
        if connection.settle(deadline):
            assert connection.is_usable()
            connection.ping(deadline)
            assert connection.settle(deadline)

    def test_an_open_transaction_without_time_to_settle_does_not_come_back(
        self, connection: Connection, begin: Deed
    ) -> None:
        begin(connection)
        assert not connection.settle(0.0)

    def test_a_connection_that_the_server_dropped_is_seen_without_a_round_trip(
        self, connection: Connection, sever: Deed
    ) -> None:
        sever(connection)
        assert not connection.is_usable()

    def test_a_connection_that_the_server_dropped_does_not_survive_a_ping(
        self, connection: Connection, deadline: float, sever: Deed
    ) -> None:
        sever(connection)
        with pytest.raises(ConnectionBroken):
            connection.ping(deadline)

    def test_a_connection_that_the_server_dropped_in_a_transaction_does_not_settle(
        self, connection: Connection, deadline: float, begin: Deed, sever: Deed
    ) -> None:
        begin(connection)
        sever(connection)
        assert not connection.settle(deadline)

    def test_a_connection_that_the_server_broke_says_so_and_one_that_lives_does_not(
        self, connection: Connection, deadline: float, sever: Deed
    ) -> None:
        connection.ping(deadline)
        before = connection.lost
        sever(connection)
        with pytest.raises(ConnectionBroken):
            connection.ping(deadline)
        assert before is None
        assert connection.lost
        assert "\n" not in connection.lost

    def test_a_connection_that_we_closed_was_not_lost(self, connection: Connection, deadline: float) -> None:
        connection.close()
        with pytest.raises(ConnectionBroken):
            connection.ping(deadline)
        assert connection.lost is None

    def test_a_ping_that_we_gave_up_was_not_lost(self, connection: Connection) -> None:
        with pytest.raises(ConnectionBroken):
            connection.ping(0.0)
        assert connection.lost is None

    def test_an_abandoned_connection_does_not_settle(self, connection: Connection, deadline: float) -> None:
        connection.abandon()
        assert not connection.settle(deadline)
        connection.close()
        connection.abandon()

    def test_a_closed_connection_is_of_no_use_and_may_be_closed_again(
        self, connection: Connection, deadline: float
    ) -> None:
        connection.close()
        connection.close()
        assert not connection.is_usable()
        assert not connection.settle(deadline)
        with pytest.raises(ConnectionBroken):
            connection.ping(deadline)

    def test_two_connections_do_not_share_a_fate(
        self, driver: Driver[Connection], endpoint: str, deadline: float, connection: Connection
    ) -> None:
        other = driver.connect(endpoint, deadline)
        other.close()
        connection.ping(deadline)
        assert connection.is_usable()
