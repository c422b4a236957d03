"""A line for each event, but for those that a client provokes by the thousand."""

import json
import logging
import re
from typing import Any

import pytest

from gateway.events import (
    BugFound,
    ClientTooSlow,
    ConnectionOpened,
    EndpointMoved,
    Level,
    LinesOmitted,
    RequestFailed,
    RequestServed,
    RequestSlow,
)
from gateway.server.log import BURST, RATE, Log, ServerLog
from gateway.server.writer import LONGEST
from gateway.settings import LogSettings


def fail() -> None:
    raise RuntimeError("oh")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_line_has_time_process_level_and_sentence() -> None:
    lines: list[str] = []
    Log(lines.append).observe(EndpointMoved(endpoint="a", standing="out of the rotation", serves=False))
    assert re.fullmatch(
        r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\] \[\d+\] \[WARNING\] endpoint a: out of the rotation", lines[0]
    )


def test_lines_of_one_kind_are_limited_in_rate_and_those_left_out_are_counted() -> None:
    lines: list[str] = []
    clock = Clock()
    log = Log(lines.append, clock=clock)
    for number in range(5000):
        log.observe(ClientTooSlow(unsent=number))
    assert len(lines) == BURST
    log.observe(EndpointMoved(endpoint="a", standing="in the rotation", serves=True))
    assert "endpoint a" in lines[-1]
    log.report()
    assert len(lines) == BURST + 1
    clock.now += 2 / RATE
    log.report()
    assert lines[-1].endswith(f"[WARNING] {5000 - BURST} more events of the kind client_too_slow were not logged")
    log.observe(ClientTooSlow(unsent=1))
    log.report()
    assert lines[-1].endswith("1 bytes are left")


def test_a_bug_is_logged_with_its_place() -> None:
    lines: list[str] = []
    with pytest.raises(RuntimeError) as caught:
        fail()
    Log(lines.append).observe(BugFound(where="a test", error=caught.value))
    assert "interrupted a test" in lines[0]
    assert "test_log.py" in lines[0]
    assert lines[0].endswith("RuntimeError: oh")


def test_words_of_others_cannot_look_like_a_line_or_move_a_cursor() -> None:
    lines: list[str] = []
    detail = "one\n[2026-01-01 00:00:00 +0000] [1] [ERROR] forged\r\x1b[2J"
    Log(lines.append).observe(RequestFailed(request_id="1", status=503, code="x", detail=detail))
    first, *more = lines[0].split("\n")
    assert more == [r"    [2026-01-01 00:00:00 +0000] [1] [ERROR] forged\r\x1b[2J"]
    assert first.endswith("one")


def served(status: int = 200) -> RequestServed:
    return RequestServed(request_id="r", query="q", status=status, ms=1.5)


def as_json(*events: Any) -> list[Any]:
    lines: list[str] = []
    log = Log(lines.append, as_json=True)
    for event in events:
        log.observe(event)
    return [json.loads(line) for line in lines]


def test_for_programs_a_line_is_an_object_of_the_events_own_fields_and_those_that_say_nothing_are_left_out() -> None:
    slow = RequestSlow(
        request_id="r", query="q", status=200, ms=612.5, queue_ms=0.0, db_ms=600.0, attempts=1, arguments=("a", "b")
    )
    (line,) = as_json(slow)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("pid")
    assert line == {
        "level": "warning",
        "event": "request_slow",
        "message": "request r: q: 200 took 612.5 ms: queue 0.0 ms, database 600.0 ms",
        "request_id": "r",
        "query": "q",
        "status": 200,
        "ms": 612.5,
        "queue_ms": 0.0,
        "db_ms": 600.0,
        "attempts": 1,
        "arguments": ["a", "b"],
    }


def test_for_programs_a_bug_has_its_traceback() -> None:
    with pytest.raises(RuntimeError) as caught:
        fail()
    (line,) = as_json(BugFound(where="a test", error=caught.value))
    assert line["error"] == "RuntimeError"
    assert line["traceback"].endswith("RuntimeError: oh")


@pytest.mark.parametrize("detail", ["\x00" * 100_000, '"' * 100_000, "\ud800", "é" * 100_000])
def test_whatever_is_said_a_line_is_json_and_is_not_cut(detail: str) -> None:
    lines: list[str] = []
    Log(lines.append, as_json=True).observe(RequestFailed(request_id="1", status=503, code="x", detail=detail))
    assert json.loads(lines[0])["code"] == "x"
    assert len(lines[0]) <= LONGEST
    assert "\n" not in lines[0]


def test_what_is_not_urgent_enough_is_not_written() -> None:
    lines: list[str] = []
    log = Log(lines.append)
    opened = ConnectionOpened(endpoint="a", group="read", ms=1.0)
    log.observe(opened)
    log.level = Level.DEBUG
    log.observe(opened)
    log.level = Level.ERROR
    log.observe(EndpointMoved(endpoint="a", standing="out", serves=False))
    assert len(lines) == 1


def test_no_line_of_the_access_log_is_left_out() -> None:
    assert len(as_json(*[served()] * (3 * BURST))) == 3 * BURST


@pytest.mark.parametrize(
    ("form", "is_terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("json", True, True), ("text", False, False)],
)
def test_people_get_text_and_programs_json(form: Any, is_terminal: bool, is_json: bool) -> None:
    lines: list[str] = []
    log = Log(lines.append)
    log.configure(LogSettings(format=form, level="warning"), is_terminal=is_terminal)
    log.observe(served())
    log.text("Exception ignored in: ...")
    (line,) = lines
    assert log.level is Level.WARNING
    assert (line[0] == "{") == is_json
    assert (json.loads(line)["event"] == "error_output") if is_json else line == "Exception ignored in: ..."
    assert (log.line(LinesOmitted(count=3))[0] == "{") == is_json


def test_gunicorns_lines_are_events() -> None:
    lines: list[str] = []
    logger = logging.Logger("x")
    logger.addHandler(ServerLog(Log(lines.append, as_json=True).observe))
    logger.critical("Worker (pid:%d) was sent %s", 7, "SIGKILL!")
    line = json.loads(lines[0])
    assert (line["event"], line["level"]) == ("server_said", "error")
    assert line["message"] == "Worker (pid:7) was sent SIGKILL!"
