"""Random walks of one thread through a group: leases, returns, faults, probes and time, against a plain model."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import NoEndpoint, QueueFull
from gateway.pool.driver import ConnectError, Reason, Role
from gateway.pool.endpoint import EndpointState
from gateway.pool.growth import RETIRE_AFTER
from gateway.pool.lease import Lease
from tests.pool.fake import FakeConnection, FakeServer, Rig

SIZE = 4
NAMES = ("p", "r", "s")
names = st.sampled_from(NAMES)
picks = st.integers(min_value=0, max_value=SIZE - 1)


class GroupMachine(RuleBasedStateMachine):
    """Connectors run inline and the queue is off, so that nothing ever waits."""

    @initialize(round_robin=st.booleans(), fallback=st.booleans(), probed=st.booleans())
    def start(self, round_robin: bool, fallback: bool, probed: bool) -> None:
        servers = [FakeServer(name, Role.PRIMARY if name == "p" else Role.REPLICA) for name in NAMES]
        self.rig = Rig(*servers, probed=probed)
        self.fallback = fallback
        self.group = self.rig.group(size=SIZE, queue=0, round_robin=round_robin, fallback=fallback)
        self.leases: list[Lease[FakeConnection]] = []

    @rule()
    def lease(self) -> None:
        lease = self.group.lease(self.rig.soon())
        try:
            lease.__enter__()
        except QueueFull:
            assert len(self.leases) == SIZE
        except NoEndpoint:
            assert self.group.serving == ()
        else:
            self.leases.append(lease)
            assert lease.endpoint in self.group.serving
            assert lease.connection.is_usable()

    def take_lease(self, pick: int) -> Lease[FakeConnection]:
        return self.leases.pop(pick % len(self.leases))

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it(self, pick: int) -> None:
        lease = self.take_lease(pick)
        lease.__exit__(None, None, None)
        assert lease.connection.closed or lease.endpoint in self.group.serving

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it_broken(self, pick: int) -> None:
        lease = self.take_lease(pick)
        lease.connection.sever()
        lease.__exit__(None, None, None)
        assert lease.connection.closed

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it_old(self, pick: int) -> None:
        lease = self.take_lease(pick)
        self.rig.time.advance(RETIRE_AFTER * 1.2)
        lease.__exit__(None, None, None)
        assert lease.connection.closed

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def hear_from_the_server(self, pick: int) -> None:
        self.leases[pick % len(self.leases)].connection.answer()

    @rule(name=names)
    def drop_everything(self, name: str) -> None:
        for connection in self.rig.servers[name].open:
            connection.sever()

    @rule(name=names, refuse=st.booleans())
    def refuse_or_accept(self, name: str, refuse: bool) -> None:
        self.rig.servers[name].refusal = ConnectError(Reason.REFUSED, "refused") if refuse else None

    @rule(name=names)
    def probe(self, name: str) -> None:
        self.rig.probe(name)

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        self.rig.withdraw(name)

    @rule(name=names, role=st.sampled_from(Role))
    def promote_or_demote(self, name: str, role: Role) -> None:
        self.rig.servers[name].role = role

    @rule(seconds=st.sampled_from([0.1, 2.0, 31.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.rig.time.advance(seconds)

    @invariant()
    def slots_and_connections_agree(self) -> None:
        stats = self.group.stats()
        assert (stats.leased, stats.waiting) == (len(self.leases), 0)
        assert stats.leased + stats.idle + stats.empty == SIZE
        assert len(self.rig.driver.open) == stats.leased + stats.idle
        assert len({id(lease.connection) for lease in self.leases}) == len(self.leases)

    @invariant()
    def what_is_idle_belongs_to_the_rotation(self) -> None:
        leased = {id(lease.connection) for lease in self.leases}
        for connection in self.rig.driver.open:
            if id(connection) not in leased:
                assert connection.server.name in self.group.serving

    @invariant()
    def who_serves_is_in_the_rotation_with_the_right_role(self) -> None:
        inside = [view for view in self.rig.rotation.views() if view.state is EndpointState.IN]
        replicas = tuple(view.name for view in inside if view.role is Role.REPLICA)
        primaries = tuple(view.name for view in inside if view.role is Role.PRIMARY)
        assert self.group.serving == (replicas or (primaries if self.fallback else ()))


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
