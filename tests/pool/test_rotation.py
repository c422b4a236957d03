import itertools

import pytest
from msgspec.structs import replace

from gateway.pool.driver import Reason, Role
from gateway.pool.endpoint import EndpointState, EndpointView
from gateway.pool.rotation import (
    LATELY,
    Candidates,
    Connected,
    ConnectFailed,
    Event,
    Lost,
    Probed,
    ProbeFailed,
    Rotation,
    candidates,
    step,
)
from tests.pool.fake import FakeClock

UNKNOWN, IN, OUT = EndpointState
PRIMARY, REPLICA = Role

BEFORE = {
    UNKNOWN: EndpointView(name="a", since=1.0, since_wall=1.0),
    IN: EndpointView(name="a", state=IN, role=REPLICA, since=1.0, since_wall=1.0),
    OUT: EndpointView(
        name="a", state=OUT, role=REPLICA, reason=Reason.TIMEOUT, message="no answer", since=1.0, since_wall=1.0
    ),
}

# event, then state and reason after it, when it was UNKNOWN, IN, OUT before
TABLE: list[
    tuple[
        Event,
        tuple[EndpointState, Reason | None],
        tuple[EndpointState, Reason | None],
        tuple[EndpointState, Reason | None],
    ]
] = [
    (Probed(role=REPLICA, ping_ms=0.2), (IN, None), (IN, None), (IN, None)),
    (ProbeFailed(Reason.REFUSED, "m"), (OUT, Reason.REFUSED), (OUT, Reason.REFUSED), (OUT, Reason.REFUSED)),
    (ProbeFailed(None, "m"), (UNKNOWN, None), (IN, None), (OUT, Reason.TIMEOUT)),
    (ConnectFailed(Reason.AUTH, "m"), (OUT, Reason.AUTH), (OUT, Reason.AUTH), (OUT, Reason.AUTH)),
    (ConnectFailed(None, "m"), (UNKNOWN, None), (IN, None), (OUT, Reason.TIMEOUT)),
    (Connected(PRIMARY), (IN, None), (IN, None), (OUT, Reason.TIMEOUT)),
    (Lost("m"), (OUT, Reason.LOST), (OUT, Reason.LOST), (OUT, Reason.TIMEOUT)),
]


@pytest.mark.parametrize(
    ("before", "event", "expected"),
    [
        pytest.param(state, row[0], after, id=f"{state}-{type(row[0]).__name__}-{getattr(row[0], 'reason', '')}")
        for row in TABLE
        for state, after in zip(EndpointState, row[1:], strict=True)
    ],
)
def test_an_endpoint_moves_as_the_table_says(
    before: EndpointState, event: Event, expected: tuple[EndpointState, Reason | None]
) -> None:
    view = step(BEFORE[before], event, now=9.0, wall=90.0)
    assert (view.state, view.reason) == expected
    moved = view.state is not before
    assert (view.since, view.since_wall) == ((9.0, 90.0) if moved else (1.0, 1.0))
    assert view.in_until == (9.0 if moved and before is IN else None)
    assert (view.message != "") is (view.state is OUT)


def test_a_connection_tells_the_role_in_every_state() -> None:
    for view in BEFORE.values():
        assert step(view, Connected(PRIMARY), now=9.0, wall=9.0).role is PRIMARY


def test_a_probe_brings_all_it_saw_and_a_failed_one_takes_back_what_no_longer_holds() -> None:
    seen = Probed(role=REPLICA, ping_ms=0.2, lag_ms=4.0, lag_bytes=16, timeline=2, server_version="18.6")
    view = step(BEFORE[UNKNOWN], seen, now=9.0, wall=9.0)
    assert (view.ping_ok, view.ping_ms, view.ping_at) == (True, 0.2, 9.0)
    assert (view.lag_ms, view.lag_bytes, view.timeline, view.server_version) == (4.0, 16, 2, "18.6")
    view = step(view, ProbeFailed(Reason.TIMEOUT, "no answer"), now=10.0, wall=10.0)
    assert (view.ping_ok, view.ping_ms, view.ping_at) == (False, None, 10.0)
    assert (view.lag_ms, view.lag_bytes, view.timeline, view.server_version) == (None, None, 2, "18.6")


def test_a_view_reads_like_a_sentence_for_error_details() -> None:
    assert str(BEFORE[UNKNOWN]) == "a: unknown"
    assert str(BEFORE[IN]) == "a: in, replica"
    assert str(BEFORE[OUT]) == "a: out, timeout (no answer)"


def views(**states: str) -> list[EndpointView]:
    """``p="in primary"`` and so on."""
    out = []
    for name, words in states.items():
        state, _, role = words.partition(" ")
        view = replace(BEFORE[EndpointState(state)], name=name)
        out.append(replace(view, role=Role(role) if role else None))
    return out


@pytest.mark.parametrize(
    ("states", "write", "read", "read_without_fallback"),
    [
        ({"p": "in primary", "r": "in replica", "s": "in replica"}, "p", "r s", "r s"),
        ({"p": "in primary", "r": "out replica", "s": "in replica"}, "p", "s", "s"),
        ({"p": "in primary", "r": "out replica"}, "p", "p", ""),
        ({"p": "out primary", "r": "in replica"}, "", "r", "r"),
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
        return " ".join([*found.serving, *(f"?{name}" for name in found.untried)])

    seen = views(**states)
    assert told(candidates(seen, access_write=True, fallback="none")) == write
    assert told(candidates(seen, access_write=False, fallback="primary")) == read
    assert told(candidates(seen, access_write=False, fallback="none")) == read_without_fallback


def test_listeners_hear_of_every_event_after_the_view_was_replaced() -> None:
    clock = FakeClock()
    rotation = Rotation(endpoints=["a", "b"], clock=clock, wall=lambda: 7.0)
    heard: list[str] = []
    rotation.subscribe(lambda: heard.append(repr(rotation)))
    rotation.apply("b", Probed(role=PRIMARY, ping_ms=1.0))
    rotation.apply("b", Probed(role=PRIMARY, ping_ms=1.0))
    rotation.apply("a", ConnectFailed(Reason.REFUSED, "nobody listens"))
    assert heard == [
        "<Rotation a: unknown; b: in, primary>",
        "<Rotation a: unknown; b: in, primary>",
        "<Rotation a: out, refused (nobody listens); b: in, primary>",
    ]
    assert rotation.names == ("a", "b")
    assert rotation.view("b").since_wall == 7.0


def test_only_a_single_server_that_was_in_the_rotation_lately_is_worth_waiting_for() -> None:
    for names, was_in, waited in itertools.product((["a"], ["a", "b"]), (True, False), (LATELY - 1, LATELY + 1)):
        clock = FakeClock()
        rotation = Rotation(endpoints=names, clock=clock)
        if was_in:
            rotation.apply("a", Probed(role=PRIMARY, ping_ms=1.0))
        rotation.apply("a", Lost("gone"))
        clock.advance(waited)
        assert rotation.is_back_soon(clock()) is (len(names) == 1 and was_in and waited < LATELY)
