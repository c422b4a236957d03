"""Two hands on one file are two processes here: the locks belong to whoever opened it."""

import resource
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.node.places import AFTER_CUT
from gateway.node.rows import Claim, Rows
from gateway.node.sessions import Sessions
from gateway.postgres.backends import Backend
from tests.node.clock import Clock

ONE, TWO = Backend(11, 1), Backend(12, 2)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hands(tmp_path: Path, clock: Clock) -> Iterator[tuple[Sessions, Sessions]]:
    one, two = (Sessions(tmp_path / "sessions", size=2, clock=clock) for _ in range(2))
    yield one, two
    one.close()
    two.close()


def begin(sessions: Sessions, backend: Backend | None = None) -> Claim:
    row = sessions.begin()
    assert row is not None
    if backend is not None:
        sessions.identify(row, backend)
    return row


def begun(*sessions: Claim | None) -> list[int | None]:
    """The rows of what was begun."""
    return [None if session is None else session.number for session in sessions]


def backends(sessions: Sessions) -> list[Backend | None]:
    return [row.backend for row in sessions.closing().values()]


def test_there_are_so_many_sessions_whoever_begins_them(hands: tuple[Sessions, Sessions]) -> None:
    one, two = hands
    assert begun(one.begin(), two.begin()) == [1, 0]
    assert (one.begin(), two.begin()) == (None, None)


def test_any_process_may_say_that_a_session_is_gone_and_only_such_a_row_is_free(
    hands: tuple[Sessions, Sessions], clock: Clock
) -> None:
    one, two = hands
    one.end(begin(one, ONE))
    two.end(begin(two, TWO))
    clock.now += 1e6
    assert backends(one) == backends(two) == [TWO, ONE]
    two.resolve(two.closing(), frozenset([ONE]))
    assert begun(two.begin(), two.begin()) == [0, None]
    one.resolve(one.closing(), frozenset())
    assert begun(one.begin()) == [1]


def test_the_answer_to_an_older_question_decides_nothing_about_a_later_session(
    hands: tuple[Sessions, Sessions],
) -> None:
    one, two = hands
    one.end(begin(one, ONE))
    asked = two.closing()
    one.resolve(one.closing(), frozenset())
    one.end(begin(one, TWO))
    two.resolve(asked, frozenset())
    assert backends(one) == [TWO]


def test_sessions_of_a_dead_process_are_closing_with_what_is_known_of_them(
    hands: tuple[Sessions, Sessions], clock: Clock
) -> None:
    one, two = hands
    begin(one)
    begin(one, ONE)
    two.sweep()
    assert backends(two) == []
    one.close()  # as the kernel does
    assert two.begin() is None  # whoever finds no free row looks for dead processes
    assert backends(two) == [ONE, None]
    two.resolve(two.closing(), frozenset())
    assert begun(two.begin(), two.begin()) == [0, None]
    clock.now += AFTER_CUT
    assert begun(two.begin()) == [1]


def test_a_session_that_is_not_known_rests_from_when_the_server_has_answered(
    hands: tuple[Sessions, Sessions], clock: Clock
) -> None:
    one, two = hands
    one.end(begin(one))
    clock.now += 3600
    assert backends(two) == [None]
    two.resolve(two.closing(), frozenset())
    assert backends(two) == []
    assert begun(one.begin(), one.begin()) == [0, None]
    clock.now += AFTER_CUT
    assert begun(one.begin()) == [1]


def test_a_rest_without_a_question_is_for_sessions_that_are_not_known(
    hands: tuple[Sessions, Sessions], clock: Clock
) -> None:
    one, _ = hands
    one.end(begin(one), rest=0.05)
    one.end(begin(one, ONE), rest=0.05)
    assert backends(one) == [ONE]
    clock.now += 0.05
    assert begun(one.begin(), one.begin()) == [1, None]


def test_a_rest_from_before_the_machine_started_anew_counts_for_nothing(tmp_path: Path, clock: Clock) -> None:
    before = Sessions(tmp_path / "sessions", size=1, clock=Clock(now=900_000.0))
    before.end(begin(before), rest=0.3)
    before.close()
    assert begun(Sessions(tmp_path / "sessions", size=1, clock=clock).begin()) == [0]


def test_a_session_that_is_counted_elsewhere_is_free_at_once(hands: tuple[Sessions, Sessions]) -> None:
    one, two = hands
    row = begin(one, ONE)
    begin(two, TWO)
    one.hand_over(row)
    assert begun(two.begin()) == [1]


def test_a_smaller_generation_asks_for_the_sessions_of_a_larger_one_too(tmp_path: Path, clock: Clock) -> None:
    old = Sessions(tmp_path / "sessions", size=3, clock=clock)
    new = Sessions(tmp_path / "sessions", size=1, clock=clock)
    rows = [begin(old, ONE), begin(old, TWO), begin(old, Backend(13, 3))]
    assert new.begin() is None
    for row in rows:
        old.end(row)
    assert backends(new) == [Backend(13, 3), TWO, ONE]
    new.resolve(new.closing(), frozenset())
    assert begun(new.begin(), new.begin()) == [0, None]


def test_a_larger_generation_moves_its_sessions_out_of_the_rows_that_a_smaller_one_demands(
    tmp_path: Path, clock: Clock
) -> None:
    told: list[None] = []
    old = Sessions(tmp_path / "sessions", size=3, clock=clock)
    new = Sessions(tmp_path / "sessions", size=1, tell=lambda: told.append(None), clock=clock)
    last, _, first = begin(old, Backend(13, 3)), begin(old, TWO), begin(old, ONE)
    assert not old.make_way()
    assert (new.begin(), new.begin(), len(told)) == (None, None, 1)
    assert old.make_way()
    assert new.begin() is None  # all are in use
    old.hand_over(last)
    assert old.make_way()
    assert begun(new.begin(), first) == [0, 2]
    old.end(first)
    assert backends(new) == [ONE]


def test_the_space_of_all_rows_is_allocated_when_the_file_is_made(tmp_path: Path) -> None:
    file = tmp_path / "sessions"
    Sessions(file, size=100)
    assert file.stat().st_blocks * 512 >= file.stat().st_size > 100 * 24


class SessionMachine(RuleBasedStateMachine):
    """Two processes, one of which may die, and a server: its sessions are never more than there are rows.

    The second is of a generation that may have fewer.
    """

    SIZES = (3, 2)

    def __init__(self) -> None:
        super().__init__()
        self.file = Path(tempfile.mkdtemp()) / "sessions"
        self.clock = Clock()
        self.hands = [Sessions(self.file, size=size, clock=self.clock) for size in self.SIZES]
        self.server: set[Backend] = set()
        self.open: list[dict[Claim, Backend]] = [{}, {}]
        self.asked: list[tuple[int, dict[int, object], frozenset[Backend]]] = []
        self.started = 0

    @rule(who=st.integers(0, 1), pid=st.integers(1, 3))
    def connect(self, who: int, pid: int) -> None:
        if pid in {backend.pid for backend in self.server}:
            return
        row = self.hands[who].begin()
        if row is not None:
            self.started += 1
            backend = Backend(pid, self.started)
            self.server.add(backend)
            self.hands[who].identify(row, backend)
            self.open[who][row] = backend

    @rule(who=st.integers(0, 1), stays=st.booleans())
    def disconnect(self, who: int, stays: bool) -> None:
        if self.open[who]:
            row, backend = self.open[who].popitem()
            self.hands[who].end(row)
            if not stays:
                self.server.discard(backend)

    @rule(who=st.integers(0, 1), stays=st.booleans())
    def die(self, who: int, stays: bool) -> None:
        self.hands[who].close()
        if not stays:
            self.server.difference_update(self.open[who].values())
        self.open[who] = {}
        self.hands[who] = Sessions(self.file, size=self.SIZES[who], clock=self.clock)

    @rule(who=st.integers(0, 1))
    def ask(self, who: int) -> None:
        closing = self.hands[who].closing()
        alive = frozenset(row.backend for row in closing.values() if row.backend in self.server and row.backend)
        self.asked.append((who, dict(closing), alive))

    @precondition(lambda self: self.asked)
    @rule(pick=st.integers(0, 9))
    def hear_the_answer(self, pick: int) -> None:
        who, closing, alive = self.asked.pop(pick % len(self.asked))
        self.hands[who].resolve(closing, alive)  # type: ignore[arg-type]

    @rule(who=st.integers(0, 1))
    def sweep(self, who: int) -> None:
        self.hands[who].sweep()

    @rule(who=st.integers(0, 1))
    def make_way(self, who: int) -> None:
        self.hands[who].make_way()

    @precondition(lambda self: self.server)
    @rule(pick=st.integers(0, 9))
    def a_session_ends_at_last(self, pick: int) -> None:
        held = {backend for rows in self.open for backend in rows.values()}
        given_up = sorted(self.server - held)
        if given_up:
            self.server.discard(given_up[pick % len(given_up)])

    @rule(seconds=st.sampled_from([0.1, 1.0, 100.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def the_cap_holds(self) -> None:
        assert len(self.server) <= max(self.SIZES)

    def teardown(self) -> None:
        for hand in self.hands:
            hand.sweep()
            hand.resolve(hand.closing(), frozenset())
        for hand, rows in zip(self.hands, self.open, strict=True):
            for row in rows:
                hand.hand_over(row)
        assert None not in [self.hands[0].begin() for _ in range(max(self.SIZES))]  # none is lost
        for hand in self.hands:
            hand.close()
        shutil.rmtree(self.file.parent)


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None, derandomize=True)


def test_a_file_that_cannot_be_allocated_is_refused_when_it_is_opened_and_not_later(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            Rows(tmp_path / "rows", struct.Struct("=d"), count=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
