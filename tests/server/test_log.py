"""A line for each event, but for those that a client provokes by the thousand."""

import re

import pytest

from gateway.events import BugFound, ClientTooSlow, EndpointMoved, RequestFailed
from gateway.server.log import BURST, RATE, Log


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
