"""The fake driver keeps the promises that the real one is held to."""

import pytest

from gateway.pool.driver import ConnectError
from gateway.rotation.endpoint import Reason, Role
from tests.pool.conformance import Deed, DriverConformance
from tests.pool.fake import FakeClock, FakeConnection, FakeDriver, FakeServer


class TestFakeDriver(DriverConformance):
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def driver(self, clock: FakeClock) -> FakeDriver:
        down = FakeServer("down")
        down.refusal = ConnectError(Reason.REFUSED, "connection refused")
        return FakeDriver(FakeServer("up", Role.PRIMARY), down, clock=clock)

    @pytest.fixture
    def endpoint(self) -> str:
        return "up"

    @pytest.fixture
    def unreachable(self) -> str:
        return "down"

    @pytest.fixture
    def role(self) -> Role:
        return Role.PRIMARY

    @pytest.fixture
    def deadline(self, clock: FakeClock) -> float:
        return clock() + 5

    @pytest.fixture
    def sever(self) -> Deed:
        return FakeConnection.sever

    @pytest.fixture
    def begin(self) -> Deed:
        return FakeConnection.begin
