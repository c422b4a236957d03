"""The rules by which a server's answer says what became of a write, one row each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.postgres.marks import Mark
from gateway.postgres.outcomes import ONE_CRASH, Said, Verdict, history, judge

COMMITTED, ROLLED_BACK, UNKNOWN, LATER = Verdict.COMMITTED, Verdict.ROLLED_BACK, Verdict.UNKNOWN, Verdict.LATER
SOON = 5_000_000
MARK = Mark(system=77, timeline=3, xid=1000, position=500, life=100, taken=1_000)


def said(**what: Any) -> Said:
    """A writable server in the life and on the timeline of the mark, but for what is given."""
    usual: dict[str, Any] = {"system": "77", "writable": True, "timeline": 3, "life": 100, "recovered_to": None}
    return Said(**{**usual, "promoted": False, "status": "committed", **what})


CRASHED = {"life": MARK.taken + SOON}
NEXT = {"timeline": 4, "life": 9, "promoted": True}
ROWS: list[tuple[str, dict[str, Any], Verdict]] = [
    # The server that made the mark, in the same life.
    ("it has committed", {}, COMMITTED),
    ("it has not", {"status": "aborted"}, ROLLED_BACK),
    ("it is still at it", {"status": "in progress"}, LATER),
    ("too long ago to be known", {"status": None}, UNKNOWN),
    ("an xid that was not handed out", {"status": "future"}, UNKNOWN),
    ("a server that recovered before the mark was made", {"recovered_to": 10}, COMMITTED),
    # Whom not to ask.
    ("another cluster", {"system": "78"}, Verdict.FOREIGN),
    ("a standby proves nothing", {"writable": False, "timeline": 0, "status": "aborted"}, LATER),
    ("an old primary proves nothing", {"timeline": 2}, LATER),
    # It has crashed since: what was not flushed is gone, and its xid may be another's.
    ("recovered short of the mark: the xid is another's", CRASHED | {"recovered_to": 499}, ROLLED_BACK),
    ("recovered short of the mark, the xid is free", CRASHED | {"recovered_to": 499, "status": "future"}, ROLLED_BACK),
    ("recovered up to the mark", CRASHED | {"recovered_to": 500}, COMMITTED),
    ("recovered beyond it, without the commit", CRASHED | {"recovered_to": 900, "status": "aborted"}, ROLLED_BACK),
    ("recovered too long after for one crash", {"life": 2_000 + ONE_CRASH, "recovered_to": 900}, UNKNOWN),
    ("a clock that went back", {"life": 999, "recovered_to": 900}, UNKNOWN),
    ("crashed, and restarted in peace since", CRASHED | {"recovered_to": None}, UNKNOWN),
    ("counters that were never started", {"life": None, "recovered_to": 900}, UNKNOWN),
    # A replica was promoted since.
    ("promoted without the tail: the xid is another's", NEXT | {"recovered_to": 499}, ROLLED_BACK),
    ("promoted with all of it, or what a crash had put in its place", NEXT | {"recovered_to": 500}, UNKNOWN),
    ("promoted with the writes but not the commit", NEXT | {"recovered_to": 600, "status": "aborted"}, ROLLED_BACK),
    ("promoted, and crashed since", NEXT | {"promoted": False, "recovered_to": 600}, UNKNOWN),
    ("promoted, and crashed short of the mark", NEXT | {"promoted": False, "recovered_to": 499}, ROLLED_BACK),
    ("promoted, and restarted since", NEXT | {"promoted": False, "recovered_to": None}, UNKNOWN),
    ("promoted twice", NEXT | {"timeline": 5, "recovered_to": 600}, UNKNOWN),
    ("promoted twice, and behind the mark", NEXT | {"timeline": 5, "recovered_to": 499}, ROLLED_BACK),
    # The history may be read.
    ("the fork was at the mark", NEXT | {"promoted": False, "forks": {3: 500}}, UNKNOWN),
    ("the fork was at the mark, without the commit", NEXT | {"forks": {3: 500}, "status": "aborted"}, ROLLED_BACK),
    ("the fork was before the mark", NEXT | {"recovered_to": 900, "forks": {3: 499}}, ROLLED_BACK),
    ("two promotions, the first after the mark", NEXT | {"timeline": 5, "forks": {3: 600, 4: 700}}, UNKNOWN),
    ("not of this server's history", NEXT | {"timeline": 5, "recovered_to": 900, "forks": {2: 600}}, UNKNOWN),
]


@pytest.mark.parametrize(("what", "verdict"), [pytest.param(row[1], row[2], id=row[0]) for row in ROWS])
def test_a_rule(what: dict[str, Any], verdict: Verdict) -> None:
    assert judge(MARK, said(**what)) is verdict


@given(
    st.builds(
        said,
        system=st.sampled_from(["77", "78"]),
        writable=st.booleans(),
        timeline=st.integers(1, 6),
        life=st.sampled_from([None, 9, 100, MARK.taken + SOON]),
        recovered_to=st.none() | st.integers(490, 510),
        promoted=st.booleans(),
        forks=st.none() | st.dictionaries(st.integers(1, 5), st.integers(490, 510)),
        status=st.sampled_from([None, "committed", "aborted", "in progress", "future"]),
    )
)
def test_nothing_is_called_committed_where_the_mark_is_not_known_to_be_kept(answer: Said) -> None:
    if judge(MARK, answer) is COMMITTED:
        assert answer.status == "committed"
        assert answer.writable
        assert answer.system == "77"
        assert answer.timeline == MARK.timeline
        assert answer.life == MARK.life or (answer.recovered_to or 0) >= MARK.position


def test_a_history_file_is_read() -> None:
    text = (
        "# a comment\n1\t0/3001518\tno recovery target specified\n\n2\t1/A0000000\tbefore 2026-01-01 00:00:00 # late\n"
    )
    assert history(text) == {1: 0x3001518, 2: 0x1A0000000}
