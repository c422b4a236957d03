"""The last events of a node, of all its workers."""

from pathlib import Path

from gateway.events import (
    ConnectionOpened,
    EndpointDrained,
    EndpointMoved,
    LoopHeld,
    QueryRefused,
    RequestFailed,
)
from gateway.node.recent import KEPT, LONGEST, PUBLISH_EVERY, RecentEvents
from tests.node.clock import Clock


def worker(directory: Path | None, slot: int, clock: Clock) -> RecentEvents:
    made = RecentEvents(directory, wall=clock)
    made.take_over(str(slot))
    return made


def moved(name: str) -> EndpointMoved:
    return EndpointMoved(endpoint=name, standing="out of the rotation, refused", serves=False)


def texts(recent: RecentEvents, since: float = 0.0) -> list[str]:
    return [event.text for event in recent.since(since)]


def test_each_worker_shows_those_of_all_in_their_order(tmp_path: Path) -> None:
    clock = Clock()
    one, other = worker(tmp_path, 0, clock), worker(tmp_path, 1, clock)
    for number in range(4):
        (one, other)[number % 2].observe(moved(f"replica{number}"))
        clock.sleep(1.0)
    assert (one.tend(), other.tend()) == (False, False)
    expected = [f"endpoint replica{number}: out of the rotation, refused" for number in range(4)]
    assert texts(one) == texts(other) == expected
    assert texts(one, clock() - 2.5) == expected[2:]


def test_they_are_written_a_moment_later_and_not_for_each(tmp_path: Path) -> None:
    clock = Clock()
    one, other = worker(tmp_path, 0, clock), worker(tmp_path, 1, clock)
    one.observe(moved("replica1"))
    one.tend()
    one.observe(moved("replica2"))
    assert one.tend()
    assert len(texts(other)) == 1
    clock.sleep(PUBLISH_EVERY)
    assert not one.tend()
    assert len(texts(other)) == 2


def test_many_of_one_kind_leave_the_others_where_they_are(tmp_path: Path) -> None:
    one = worker(tmp_path, 0, Clock())
    one.observe(moved("replica1"))
    for number in range(1000):
        one.observe(RequestFailed(request_id=str(number), status=504, code="deadline_exceeded", detail="too late"))
    shown = texts(one)
    assert len(shown) == KEPT + 1
    assert shown[0] == "endpoint replica1: out of the rotation, refused"
    assert shown[-1] == "request 999: 504 deadline_exceeded: too late"


def test_whoever_takes_over_a_slot_goes_on_from_what_is_there(tmp_path: Path) -> None:
    clock = Clock()
    first = worker(tmp_path, 0, clock)
    first.observe(moved("replica1"))
    first.publish()
    second = worker(tmp_path, 0, clock)
    second.observe(EndpointDrained(endpoint="replica1", drained=True))
    second.publish()
    expected = ["endpoint replica1: out of the rotation, refused", "endpoint replica1: drained"]
    assert texts(second) == texts(worker(tmp_path, 1, clock)) == expected


def test_what_is_not_urgent_is_left_out() -> None:
    one = worker(None, 0, Clock())
    one.observe(ConnectionOpened(endpoint="primary", group="write", ms=1.0))
    assert texts(one) == []


def test_an_event_is_one_line_that_can_be_shown_to_whoever_looks_on(tmp_path: Path) -> None:
    one = worker(tmp_path, 0, Clock())
    one.observe(QueryRefused(query="q", file="q.sql", line=3, fault='column "canary" does not exist'))
    one.observe(LoopHeld(ms=500, stack="canary\ncanary"))
    one.observe(RequestFailed(request_id="\ud800\x1b[2J", status=500, code="internal_error", detail="x" * 2000))
    one.publish()
    refused, held, failed = texts(worker(tmp_path, 1, Clock()))
    assert refused == "q.sql:3: q cannot be served; the log says why"
    assert held == "the event loop did not turn for 500 ms, held by … (the log says more)"
    assert failed.startswith("request \\ud800\\x1b[2J: 500")
    assert len(failed) == LONGEST + 1


def test_files_that_cannot_be_read_or_written_cost_their_events_alone(tmp_path: Path) -> None:
    one = worker(tmp_path, 0, Clock())
    (tmp_path / "events-7").write_bytes(b"of another version")
    one.observe(moved("replica1"))
    assert len(texts(one)) == 1
    lost = worker(tmp_path / "missing", 0, Clock())
    lost.observe(moved("replica1"))
    lost.publish()
    assert len(texts(lost)) == 1
