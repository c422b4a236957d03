"""A row keeps the worst of its runs, a table says what was missed, the audit and the picture tell the truth."""

import json
from collections.abc import Iterator
from xml.etree import ElementTree

from tests.chaos.load import Kind, Record
from tests.chaos.picture import draw
from tests.chaos.report import as_json, explain, from_json, page, table
from tests.chaos.results import Figure, Row
from tests.chaos.scenes import Mark, Scene
from tests.chaos.watching import Change, Sight


def row(*runs: list[Figure]) -> Row:
    made = Row("killed", "name", "a fault")
    for figures in runs:
        made.add(figures, ["a remark"])
    return made


def test_a_row_shows_the_worst_of_its_runs() -> None:
    made = row([Figure("late", 20, 100, "ms")], [Figure("late", 90, 100, "ms")], [Figure("late", 30, 100, "ms")])
    assert made.figures["late"].value == 90
    assert (made.kept, made.verdict, made.remarks) == (True, "kept 3 times", [])


def test_one_run_that_misses_is_a_miss() -> None:
    made = row([Figure("failed", 0, 0)], [Figure("failed", 1, 0)])
    assert (made.kept, made.verdict, made.remarks) == (False, "MISSED 1 of 2", ["a remark"])
    assert "failed: 1 (!)" in table([made])
    assert explain([made]) == "name:\n  a remark"


def test_the_least_that_is_asked_for_is_a_limit_too() -> None:
    made = row([Figure("seen", 9, 5, least=True)], [Figure("seen", 4, 5, least=True)])
    assert (made.figures["seen"].value, made.missed) == (4, 1)


def test_a_rig_that_breaks_keeps_no_promise() -> None:
    def breaking() -> Iterator[Figure]:
        yield Figure("failed", 0, 0)
        raise OSError("no more")

    made = Row("killed", "name", "a fault")
    made.add(breaking(), [])
    assert (made.kept, made.verdict, made.faults) == (False, "BROKEN", ["OSError: no more"])


def test_what_never_happened_is_no_number() -> None:
    assert "back: never (!) " in table([row([Figure("back", float("inf"), 2, "s")])])


def test_the_page_shows_what_was_measured_and_on_which_day() -> None:
    rows = [row([Figure("late", 20, 100, "ms"), Figure("seen", 9, 5, least=True)]), row([Figure("failed", 1, 0)])]
    written = json.loads(json.dumps(as_json(rows, date="2026-11-23", machine="a machine")))
    assert from_json(written) == rows
    lines = page(written).splitlines()
    assert lines[0] == "Measured on 2026-11-23 on one machine: a machine."
    assert lines[4] == "| a fault | 1 | late: 20 ms (≤ 100 ms); seen: 9 (≥ 5) | 1 of 1 |"
    assert lines[5] == "| a fault | 1 | failed: 1 (0) **missed** | 0 of 1 |"


def test_a_picture_shows_every_request_and_every_change() -> None:
    records = [
        Record(Kind.READ, 1, 9.5, 9.51, 200, endpoint="replica1"),
        Record(Kind.READ, 2, 10.1, 10.2, 200, endpoint="replica1", attempts=2),
        Record(Kind.WRITE, 3, 10.2, 10.3, 503, "connection_lost", "unknown"),
    ]
    reads = Sight("replica", frozenset({"read"}), None)
    changes = [
        Change(8.0, 71, "replica1", reads),
        Change(10.05, 71, "replica1", Sight("replica", frozenset(), "lost")),
        Change(11.0, 71, "replica1", reads),
    ]
    scene = Scene("A & B", 9.0, 12.0, [Mark(10.0, "SIGKILL <replica1>")], ["replica1"], [71], changes, records)
    tree = ElementTree.fromstring(draw(scene))  # noqa: S314 -- of our own making
    texts = [element.text for element in tree.iter() if element.text]
    assert "A & B" in texts
    assert "SIGKILL <replica1>" in texts
    assert "+50 ms out: lost" in texts
    assert "2 reads, 1 of them run again, 0 failed" in texts
    assert "1 writes, 0 of them run again, 1 failed" in texts
    dots = [element for element in tree.iter() if element.tag.endswith("circle")]
    assert len(dots) == len(records) + 1
