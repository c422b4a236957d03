"""The writes' audit sees every lie, and takes no truth for one."""

from collections.abc import Sequence

import pytest

from gateway.postgres.marks import Mark
from tests.chaos.ledger import Run, Said, Write, Wrong, compare, faults_of
from tests.chaos.proxy import COMMIT, Swap

RUN = Run(xid=700, at=5_000, rows=1, parts=1)
MARK = Mark(system=1, timeline=1, xid=700, position=9, life=1, taken=6_000).token()
YES = Said(200, "committed", body=b'{"row":{"xid":"700"},"outcome":"committed"}')
NO = Said(503, "rolled_back")
NOT_RUN = Said(503, "not_executed")
DOUBTFUL = Said(503, "unknown")
NOTHING = Said()


def write(*said: Said, parts: int = 1) -> Write:
    return Write(1, "plain", b"", parts, "key" if len(said) > 1 else None, said=list(said))


def marked(*found: str) -> Said:
    return Said(503, "unknown", mark=MARK, found=list(found))


@pytest.mark.parametrize(
    ("one", "runs"),
    [
        (write(YES), [RUN]),
        (write(NO), []),
        (write(NOT_RUN), []),
        (write(DOUBTFUL), [RUN]),
        (write(DOUBTFUL), []),
        (write(NOTHING), [RUN]),
        (write(marked()), [RUN]),
        (write(marked("unknown", "committed")), [RUN]),
        (write(marked("rolled_back")), []),
        (write(NOTHING, YES, YES), [RUN]),
        (write(NO, YES), [RUN]),
        (write(NOTHING, NO), [RUN]),
    ],
)
def test_what_may_be_is_not_blamed(one: Write, runs: Sequence[Run]) -> None:
    assert faults_of(one, runs) == set()


@pytest.mark.parametrize(
    ("one", "runs", "wrong"),
    [
        (write(YES), [], Wrong.FALSE_COMMITTED),
        (write(NO), [RUN], Wrong.FALSE_DENIED),
        (write(NOT_RUN, NO), [RUN], Wrong.FALSE_DENIED),
        (write(NOTHING), [RUN._replace(rows=2)], Wrong.DOUBLE),
        (write(NOTHING, YES), [RUN, RUN._replace(xid=701)], Wrong.DOUBLE),
        (write(YES, parts=3), [RUN._replace(rows=2, parts=2)], Wrong.TORN),
        (write(Said(500)), [], Wrong.SILENT),
        (write(marked("rolled_back")), [RUN], Wrong.FALSE_RESOLVED),
        (write(marked("committed")), [], Wrong.FALSE_RESOLVED),
        (write(marked("rolled_back", "committed")), [RUN], Wrong.FALSE_RESOLVED),
        (write(marked("committed")), [RUN._replace(at=7_000)], Wrong.FALSE_RESOLVED),
        (write(YES, Said(200, "committed", body=b"{}")), [RUN], Wrong.UNEQUAL),
        (write(YES), [RUN._replace(xid=701)], Wrong.OTHER_RUN),
    ],
)
def test_what_must_not_be_is_named(one: Write, runs: Sequence[Run], wrong: Wrong) -> None:
    assert faults_of(one, runs) == {wrong}


def test_a_row_that_nobody_asked_for_is_wrong() -> None:
    assert compare([write(YES)], {1: [RUN], 2: [RUN], 3: [RUN]}, {}).wrong == {Wrong.UNEXPLAINED: 2}


def test_what_a_promotion_lost_is_told_from_what_never_was() -> None:
    findings = compare([write(YES)], {}, {1: [RUN]})
    assert (findings.lost, findings.wrong) == (1, {})
    findings = compare([write(YES)], {}, {})
    assert (findings.lost, findings.wrong) == (0, {Wrong.FALSE_COMMITTED: 1})


def test_the_counts_are_of_writes_and_of_requests() -> None:
    found = compare([write(YES), write(NO), write(NOTHING, DOUBTFUL), write(marked("committed"))], {1: [RUN]}, {})
    assert (found.writes, found.requests, found.keys) == (4, 5, 1)
    assert (found.committed, found.denied, found.open) == (2, 1, 1)
    assert (found.unknown, found.unanswered, found.marked, found.resolved) == (3, 1, 1, 1)


def test_a_swap_puts_other_words_into_queries_only() -> None:
    swap = Swap(COMMIT, b"ROLLBACK")
    assert swap.apply(b"Q\x00\x00\x00\x0bCOMMIT\x00") == b"Q\x00\x00\x00\x0dROLLBACK\x00"
    assert swap.apply(b"Q\x00\x00\x00\x0aBEGIN\x00") == b"Q\x00\x00\x00\x0aBEGIN\x00"
    assert swap.apply(b"p\x00\x00\x00\x0bCOMMIT\x00") == b"p\x00\x00\x00\x0bCOMMIT\x00"
    assert swap.made == 1
