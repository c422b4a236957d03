"""Random walks of one thread through a group: leases, returns, faults, probes and time, against a plain model."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.errors import NoEndpoint, PoolTimeout, QueueFull
from gateway.pool.connectors import RETIRE_AFTER
from gateway.pool.driver import ConnectError
from gateway.pool.lease import ANY, Lease, LeaseRequest
from gateway.rotation.choosing import Candidates, Fallback, Needs
from gateway.rotation.endpoint import EndpointState, Reason, Role
from gateway.rotation.moves import Drain, Event, Resolved, Resume, Silent
from gateway.waiting import Client
from tests.pool.fake import FakeClock, FakeConnection, FakeServer, Rig

SIZE = 4
NAMES = ("p", "r", "s")
names = st.sampled_from(NAMES)
some = st.frozensets(names, min_size=1)
picks = st.integers(min_value=0, max_value=SIZE - 1)


class Leap:
    """A gate at which the clock waits, not the thread."""

    def __init__(self, time: FakeClock) -> None:
        self._time = time
        self._is_open = False

    def open(self) -> None:
        self._is_open = True

    def wait(self, seconds: float, client: Client | None = None) -> None:  # noqa: ARG002 -- there are none
        if not self._is_open:
            self._time.advance(seconds)


class GroupMachine(RuleBasedStateMachine):
    """Connectors run inline and the queue is off: nothing waits but for suspects, and then the clock leaps."""

    @initialize(round_robin=st.booleans(), fallback=st.booleans(), probed=st.booleans())
    def start(self, round_robin: bool, fallback: bool, probed: bool) -> None:
        servers = [FakeServer(name, Role.PRIMARY if name == "p" else Role.REPLICA) for name in NAMES]
        self.rig = Rig(*servers, probed=probed, gate=lambda: Leap(self.rig.time))
        self.fallback = fallback
        self.group = self.rig.group(size=SIZE, queue=0, round_robin=round_robin, fallback=fallback)
        self.leases: list[Lease[FakeConnection]] = []

    @rule(request=st.one_of(st.just(ANY), st.builds(LeaseRequest, only=st.none() | some, avoid=some)))
    def lease(self, request: LeaseRequest) -> None:
        lease = self.group.lease(self.rig.soon(), request)
        try:
            lease.__enter__()
        except QueueFull:
            assert len(self.leases) == SIZE
        except PoolTimeout:
            assert any(request.allows(name) for name in self.candidates().suspect)
        except NoEndpoint:
            assert not any(request.allows(name) for name in self.group.serving)
            assert not any(request.allows(name) for name in self.candidates().suspect)
        else:
            self.leases.append(lease)
            usable = self.usable(request)
            assert lease.endpoint in ([name for name in usable if name not in request.avoid] or usable)
            assert lease.connection.is_usable()
            assert not lease.connection.abandoned

    def usable(self, request: LeaseRequest) -> list[str]:
        reserve = self.candidates().reserve if request.only is not None else ()
        return [name for name in (*self.group.serving, *reserve) if request.allows(name)]

    def candidates(self) -> Candidates:
        fallback: Fallback = "primary" if self.fallback else "none"
        return self.rig.rotation.candidates(NAMES, Needs("read", access_write=False, fallback=fallback))

    def is_suspect(self, name: str) -> bool:
        return self.rig.rotation.view(name).state is EndpointState.SUSPECT

    def take_lease(self, pick: int) -> Lease[FakeConnection]:
        return self.leases.pop(pick % len(self.leases))

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it(self, pick: int) -> None:
        lease = self.take_lease(pick)
        lease.__exit__(None, None, None)
        assert lease.connection.closed or lease.endpoint in self.kept()

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it_broken(self, pick: int) -> None:
        lease = self.take_lease(pick)
        was_in = self.rig.rotation.view(lease.endpoint).state is EndpointState.IN
        is_fresh = lease.opened_at >= self.rig.rotation.view(lease.endpoint).entered_at
        lease.connection.begin()
        lease.connection.sever()
        lease.__exit__(None, None, None)
        assert lease.connection.closed
        if was_in and not self.rig.is_probing:
            assert self.is_suspect(lease.endpoint) is is_fresh

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def return_it_closed_by_us(self, pick: int) -> None:
        lease = self.take_lease(pick)
        before = self.rig.rotation.view(lease.endpoint).state
        lease.connection.close()
        lease.__exit__(None, None, None)
        assert self.rig.rotation.view(lease.endpoint).state is before

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

    @rule(name=names)
    def let_the_idle_die(self, name: str) -> None:
        leased = {id(lease.connection) for lease in self.leases}
        for connection in self.rig.servers[name].open:
            if id(connection) not in leased:
                connection.die()
                assert connection.closed

    @rule(probing=st.booleans())
    def look_at_suspects_or_leave_them(self, probing: bool) -> None:
        self.rig.is_probing = probing

    @rule(name=names, event=st.sampled_from([Drain(), Resume(), Silent()]))
    def drain_resume_or_fall_silent(self, name: str, event: Event) -> None:
        self.rig.rotation.apply(name, event)

    @rule(name=names, address=st.sampled_from(["10.0.0.1", "10.0.0.2"]))
    def move(self, name: str, address: str) -> None:
        self.rig.servers[name].address = address
        self.rig.rotation.apply(name, Resolved((address,)))

    @rule(name=names, refuse=st.booleans())
    def refuse_or_accept(self, name: str, refuse: bool) -> None:
        self.rig.servers[name].refusal = ConnectError(Reason.REFUSED, "refused") if refuse else None

    @rule(name=names)
    def probe(self, name: str) -> None:
        self.rig.probe(name)

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        self.rig.withdraw(name)
        for lease in self.leases:
            if lease.endpoint == name:
                assert lease.connection.abandoned

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

    def kept(self) -> tuple[str, ...]:
        """Endpoints whose connections may rest."""
        found = self.candidates()
        return (*found.serving, *found.reserve, *found.suspect)

    @invariant()
    def what_is_idle_belongs_to_the_rotation(self) -> None:
        leased = {id(lease.connection) for lease in self.leases}
        for connection in self.rig.driver.open:
            if id(connection) not in leased:
                assert connection.server.name in self.kept()
                addresses = self.rig.rotation.view(connection.server.name).addresses
                assert not (connection.address and addresses) or connection.address in addresses
                assert not connection.abandoned

    @invariant()
    def who_serves_is_who_the_rotation_says(self) -> None:
        assert self.group.serving == self.candidates().serving

    @invariant()
    def leases_in_flight_are_counted_by_endpoint(self) -> None:
        held = [lease.endpoint for lease in self.leases]
        assert self.group.leases() == {name: held.count(name) for name in NAMES}


TestGroupMachine = GroupMachine.TestCase
TestGroupMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, derandomize=True)
