import itertools
import threading
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from gateway.rotation.choosing import DEAF_AFTER, Candidates, Needs, candidates, objection
from gateway.rotation.endpoint import EndpointState, EndpointView, Reason, Role
from gateway.rotation.moves import (
    ENTRIES,
    ENTRIES_WITHIN,
    Connected,
    ConnectFailed,
    Drain,
    Event,
    Lost,
    Probed,
    ProbeFailed,
    Resolved,
    Resume,
    Silent,
    step,
)
from gateway.rotation.rotation import LATELY, LocalViews, Rotation
from tests.pool.fake import FakeClock

UNKNOWN, IN, SUSPECT, OUT = EndpointState
PRIMARY, REPLICA = Role

BEFORE = {
    UNKNOWN: EndpointView(name="a", since=1.0, since_wall=1.0),
    IN: EndpointView(name="a", state=IN, role=REPLICA, since=1.0, since_wall=1.0),
    SUSPECT: EndpointView(
        name="a", state=SUSPECT, role=REPLICA, reason=Reason.LOST, message="broke", since=1.0, since_wall=1.0
    ),
    OUT: EndpointView(
        name="a", state=OUT, role=REPLICA, reason=Reason.TIMEOUT, message="no answer", since=1.0, since_wall=1.0
    ),
}
SEEN = Probed(role=REPLICA, ping_ms=0.2)
READ = Needs("read", access_write=False)
READ_REPLICAS = Needs("read", access_write=False, fallback="none")
WRITE = Needs("write", access_write=True)


def after(
    view: EndpointView,
    *events: Event,
    now: float = 9.0,
    others: list[EndpointView] | None = None,
    max_lags: Mapping[str, float] | None = None,
) -> EndpointView:
    for event in events:
        view = step(view, event, others=others or [], max_lags=max_lags or {}, now=now, wall=now * 10)
    return view


# event, then "state reason" after it when it was UNKNOWN, IN, SUSPECT, OUT before
TABLE: list[tuple[Event, str, str, str, str]] = [
    (SEEN, "in", "in", "in", "in"),
    (ProbeFailed(Reason.REFUSED, "m"), "out refused", "out refused", "out refused", "out refused"),
    (ProbeFailed(Reason.TIMEOUT, "m"), "out timeout", "out timeout", "out timeout", "out timeout"),
    (ProbeFailed(Reason.LOST, "m"), "out lost", "suspect lost", "out lost", "out lost"),
    (ProbeFailed(None, "m"), "out refused", "in", "suspect lost", "out refused"),
    (ConnectFailed(Reason.REFUSED, "m"), "out refused", "suspect refused", "suspect lost", "out refused"),
    (
        ConnectFailed(Reason.STARTING_UP, "m"),
        "out starting_up",
        "suspect starting_up",
        "suspect lost",
        "out starting_up",
    ),
    (ConnectFailed(Reason.AUTH, "m"), "out auth", "in", "suspect lost", "out auth"),
    (ConnectFailed(Reason.TIMEOUT, "m"), "out timeout", "in", "suspect lost", "out timeout"),
    (ConnectFailed(None, "m"), "unknown", "in", "suspect lost", "out timeout"),
    (Connected(REPLICA), "in", "in", "suspect lost", "out timeout"),
    (Lost("m", 5.0), "unknown", "suspect lost", "suspect lost", "out timeout"),
    (Silent(), "unknown", "in", "suspect lost", "out timeout"),
    (Drain(), "unknown", "in", "suspect lost", "out timeout"),
    (Resume(), "unknown", "in", "suspect lost", "out timeout"),
    (Resolved(("10.0.0.1",)), "unknown", "in", "suspect lost", "out timeout"),
]


@pytest.mark.parametrize(
    ("before", "event", "expected"),
    [
        pytest.param(state, row[0], words, id=f"{state}-{type(row[0]).__name__}-{getattr(row[0], 'reason', '')}")
        for row in TABLE
        for state, words in zip(EndpointState, row[1:], strict=True)
    ],
)
def test_an_endpoint_moves_as_the_table_says(before: EndpointState, event: Event, expected: str) -> None:
    view = after(BEFORE[before], event)
    assert " ".join(filter(None, (view.state, view.reason))) == expected
    moved = view.state is not before
    assert (view.since, view.since_wall) == ((9.0, 90.0) if moved else (1.0, 1.0))
    assert view.in_until == (9.0 if moved and before is IN else None)
    assert (view.message != "") is (view.state in (OUT, SUSPECT))


@pytest.mark.parametrize(
    "event", [Lost("m", 5.0), ProbeFailed(Reason.LOST, "m"), ConnectFailed(Reason.TIMEOUT, "m"), Silent()]
)
def test_what_throws_doubt_on_an_endpoint_wants_a_probe_at_once(event: Event) -> None:
    assert after(BEFORE[IN], event, now=9.0).wanted_at == 9.0


def test_a_second_silent_read_does_not_want_what_the_first_one_did() -> None:
    silent = after(BEFORE[IN], Silent(), now=9.0)
    assert after(silent, Silent(), now=9.5) is silent
    assert after(after(silent, SEEN, now=10.0), Silent(), now=11.0).wanted_at == 11.0


def test_a_connection_of_before_the_endpoint_came_back_says_nothing_against_it() -> None:
    back = after(BEFORE[OUT], SEEN, now=20.0)
    assert after(back, Lost("m", opened_at=19.9), now=21.0) is back
    assert after(back, Lost("m", opened_at=20.1), now=21.0).state is SUSPECT


def test_a_connection_that_was_the_first_to_reach_the_endpoint_may_say_that_it_is_gone() -> None:
    tried = after(BEFORE[UNKNOWN], Connected(REPLICA), now=9.0)
    assert after(tried, Lost("m", opened_at=8.9), now=10.0).state is SUSPECT


def test_an_endpoint_that_comes_back_too_often_is_held_until_the_first_time_is_long_ago() -> None:
    view = BEFORE[IN]
    for turn in range(ENTRIES):
        view = after(view, Lost("broke", opened_at=99.0), SEEN, now=10.0 + turn)
        assert (view.state, view.held) == (IN, False)
    view = after(view, Lost("broke", opened_at=99.0), SEEN, now=15.0)
    assert (view.state, view.held, view.reason) == (IN, True, Reason.LOST)
    assert view.message == "came back more than 3 times within 30 s"
    assert after(view, SEEN, now=10.0 + ENTRIES_WITHIN - 0.1).held
    view = after(view, SEEN, now=10.0 + ENTRIES_WITHIN)
    assert (view.held, view.reason, view.message) == (False, None, "")


def test_lag_takes_a_replica_out_above_the_limit_and_lets_it_back_below_half_of_it() -> None:
    limits = {"read": 10.0, "reporting": 60.0}
    view = BEFORE[IN]
    for lag_ms, lagging in [
        (10_000, ()),
        (10_001, ("read",)),
        (60_001, ("read", "reporting")),
        (30_001, ("read", "reporting")),
        (30_000, ("read",)),
        (5_001, ("read",)),
        (5_000, ()),
        (9_000, ()),
    ]:
        view = after(view, Probed(role=REPLICA, ping_ms=0.2, lag_ms=lag_ms), max_lags=limits)
        assert view.lagging == lagging
    view = after(view, Probed(role=REPLICA, ping_ms=0.2, lag_ms=99_999), max_lags=limits)
    assert after(view, Probed(role=REPLICA, ping_ms=0.2, lag_ms=None), max_lags=limits).lagging == view.lagging
    assert after(view, Probed(role=PRIMARY, ping_ms=0.2), max_lags=limits).lagging == ()
    assert objection(view, [view], READ) is Reason.LAGGING
    assert objection(view, [view], Needs("other", access_write=False)) is None


def test_a_replica_that_lost_its_receiver_is_out_while_there_is_a_primary_to_receive_from() -> None:
    def seen(*, streaming: bool | None) -> Probed:
        return Probed(role=REPLICA, ping_ms=0.2, streaming=streaming)

    one = after(BEFORE[IN], seen(streaming=True), now=1.0)
    up = EndpointView(name="p", state=IN, role=PRIMARY, since=1.0, since_wall=1.0)
    deaf = after(one, seen(streaming=False), now=2.0)
    assert objection(deaf, [deaf, up], READ) is None
    deaf = after(deaf, seen(streaming=False), now=2.0 + DEAF_AFTER)
    assert objection(deaf, [deaf, up], READ) is Reason.NOT_STREAMING
    assert objection(deaf, [deaf, replace(up, state=OUT)], READ) is None
    assert objection(after(deaf, seen(streaming=True)), [deaf, up], READ) is None
    never = after(after(BEFORE[IN], seen(streaming=False), now=1.0), seen(streaming=False), now=99.0)
    assert objection(never, [never, up], READ) is None  # it lives on archived files, say: its lag tells


def test_a_promotion_seen_by_a_connection_puts_the_old_primary_out_at_once() -> None:
    old = EndpointView(name="p", state=IN, role=PRIMARY, timeline=3, since=1.0, since_wall=1.0)
    replica = replace(BEFORE[IN], timeline=None)
    promoted = after(replica, Connected(PRIMARY), others=[old], now=9.0)
    assert (promoted.role, promoted.timeline, promoted.wanted_at) == (PRIMARY, 4, 9.0)
    assert objection(old, [old, promoted], WRITE) is Reason.OLD_TIMELINE
    assert objection(old, [old, promoted], READ) is Reason.OLD_TIMELINE
    assert candidates([old, promoted], WRITE).serving == ("a",)


def test_a_replica_that_follows_the_old_primary_is_out_and_one_that_has_not_turned_yet_is_not() -> None:
    new = EndpointView(name="p", state=IN, role=PRIMARY, timeline=4, since=1.0, since_wall=1.0)
    following = replace(BEFORE[IN], timeline=3, streaming=True)
    assert objection(following, [following, new], READ) is Reason.OLD_TIMELINE
    turning = replace(following, streaming=False, deaf_since=8.5, ping_at=9.0)
    assert objection(turning, [turning, new], READ) is None
    blind = replace(following, timeline=None)
    assert objection(blind, [blind, new], READ) is None


def test_a_server_of_another_cluster_serves_nobody() -> None:
    one, two, stranger = (
        replace(BEFORE[IN], name=name, system=system) for name, system in [("a", "7"), ("b", "7"), ("c", "8")]
    )
    assert [objection(view, [stranger, one, two], READ) for view in (stranger, one, two)] == [
        Reason.UNKNOWN,
        None,
        None,
    ]


def test_a_connection_tells_the_role_in_every_state() -> None:
    for view in BEFORE.values():
        assert after(view, Connected(PRIMARY)).role is PRIMARY


def test_a_probe_brings_all_it_saw_and_a_failed_one_takes_back_what_no_longer_holds() -> None:
    seen = Probed(
        role=REPLICA, ping_ms=0.2, lag_ms=4.0, lag_bytes=16, timeline=2, server_version="18.6", system="7", position=99
    )
    view = after(BEFORE[UNKNOWN], seen, now=9.0)
    assert (view.ping_ok, view.ping_ms, view.ping_at) == (True, 0.2, 9.0)
    assert (view.lag_ms, view.lag_bytes, view.timeline, view.server_version) == (4.0, 16, 2, "18.6")
    assert (view.system, view.position) == ("7", 99)
    view = after(view, ProbeFailed(Reason.TIMEOUT, "no answer"), now=10.0)
    assert (view.ping_ok, view.ping_ms, view.ping_at) == (False, None, 10.0)
    assert (view.lag_ms, view.lag_bytes, view.timeline, view.server_version) == (None, None, 2, "18.6")


def test_a_view_reads_like_a_sentence_for_error_details() -> None:
    assert str(BEFORE[UNKNOWN]) == "a: unknown"
    assert str(BEFORE[IN]) == "a: in, replica"
    assert str(BEFORE[OUT]) == "a: out, timeout (no answer)"
    assert str(replace(BEFORE[IN], drained=True)) == "a: in, replica, drained"


def views(**states: str) -> list[EndpointView]:
    """``p="in primary"`` and so on; ``held`` and ``drained`` may follow."""
    out = []
    for name, words in states.items():
        state, role, *marks = [*words.split(), ""][: max(2, len(words.split()))]
        view = replace(BEFORE[EndpointState(state)], name=name, held="held" in marks, drained="drained" in marks)
        out.append(replace(view, role=Role(role) if role else None))
    return out


@pytest.mark.parametrize(
    ("states", "write", "read", "read_without_fallback"),
    [
        ({"p": "in primary", "r": "in replica", "s": "in replica"}, "p", "r s +p", "r s"),
        ({"p": "in primary", "r": "out replica", "s": "in replica"}, "p", "s +p", "s"),
        ({"p": "in primary", "r": "suspect replica", "s": "in replica"}, "p !r", "s +p !r", "s !r"),
        ({"p": "in primary", "r": "in replica drained", "s": "in replica"}, "p", "s +p", "s"),
        ({"p": "in primary", "r": "in replica held", "s": "in replica"}, "p", "s +p", "s"),
        ({"p": "in primary", "r": "in replica held"}, "p", "p", "r"),
        ({"p": "in primary held"}, "p", "p", ""),
        ({"p": "in primary", "r": "out replica"}, "p", "p", ""),
        ({"p": "out primary", "r": "in replica"}, "", "r", "r"),
        ({"p": "suspect primary", "r": "suspect replica"}, "!p !r", "!p !r", "!p !r"),
        ({"p": "out primary", "r": "out replica"}, "", "", ""),
        ({"p": "in primary"}, "p", "p", ""),
        ({"p": "in primary", "r": "unknown"}, "p ?r", "p ?r", "?r"),
        ({"p": "unknown", "r": "in replica"}, "?p", "r ?p", "r ?p"),
        ({"p": "unknown", "r": "unknown"}, "?p ?r", "?p ?r", "?p ?r"),
    ],
)
def test_candidates_are_by_role_and_replicas_come_before_the_primary_for_reads(
    states: dict[str, str], write: str, read: str, read_without_fallback: str
) -> None:
    def told(found: Candidates) -> str:
        tiers = (("", found.serving), ("+", found.reserve), ("!", found.suspect), ("?", found.untried))
        return " ".join(f"{mark}{name}" for mark, names in tiers for name in names)

    seen = views(**states)
    assert told(candidates(seen, WRITE)) == write
    assert told(candidates(seen, READ)) == read
    assert told(candidates(seen, READ_REPLICAS)) == read_without_fallback


def make_rotation(*names: str, clock: FakeClock) -> Rotation:
    return Rotation(views=LocalViews(names, clock=clock, wall=lambda: 7.0), clock=clock, wall=lambda: 7.0)


def test_listeners_hear_of_every_change_after_the_view_was_replaced_and_of_nothing_else() -> None:
    rotation = make_rotation("a", "b", clock=FakeClock())
    heard: list[str] = []
    rotation.subscribe(lambda: heard.append(repr(rotation)))
    rotation.apply("b", SEEN)
    rotation.apply("b", Connected(REPLICA))
    rotation.apply("a", ConnectFailed(Reason.REFUSED, "nobody listens"))
    assert heard == [
        "<Rotation a: unknown; b: in, replica>",
        "<Rotation a: out, refused (nobody listens); b: in, replica>",
    ]
    assert rotation.names == ("a", "b")
    assert rotation.view("b").since_wall == 7.0


def test_a_listener_that_fails_keeps_no_other_from_hearing_and_is_reported() -> None:
    told: list[str] = []
    rotation = Rotation(views=LocalViews("a"), observe=lambda event: told.append(str(event)))
    heard: list[str] = []

    def fail() -> None:
        raise KeyError("a bug")

    rotation.subscribe(fail)
    rotation.subscribe(lambda: heard.append(repr(rotation)))
    rotation.apply("a", SEEN)
    assert heard == ["<Rotation a: in, replica>"]
    assert told == ["a bug of the gateway interrupted a listener of the rotation: KeyError"]


def test_what_another_process_learnt_is_heard_of_at_the_next_poll() -> None:
    clock = FakeClock()
    shared = LocalViews(["a"], clock=clock)
    here, there = Rotation(views=shared, clock=clock), Rotation(views=shared, clock=clock)
    heard: list[str] = []
    here.subscribe(lambda: heard.append(repr(here)))
    there.apply("a", SEEN)
    assert heard == []
    assert here.poll()
    assert heard == ["<Rotation a: in, replica>"]
    assert not here.poll()


def test_changes_by_many_threads_are_all_seen() -> None:
    rotation = make_rotation("a", "b", clock=FakeClock())

    def work(name: str) -> None:
        for turn in range(200):
            rotation.apply(name, Resolved((str(turn),)))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [view.addresses for view in rotation.views()] == [("199",), ("199",)]


def test_only_a_single_server_that_was_in_the_rotation_lately_is_worth_waiting_for() -> None:
    for names, was_in, waited in itertools.product((["a"], ["a", "b"]), (True, False), (LATELY - 1, LATELY + 1)):
        clock = FakeClock()
        rotation = make_rotation(*names, clock=clock)
        if was_in:
            rotation.apply("a", SEEN)
        rotation.apply("a", ProbeFailed(Reason.REFUSED, "gone"))
        clock.advance(waited)
        assert rotation.is_back_soon(clock()) is (len(names) == 1 and was_in and waited < LATELY)
