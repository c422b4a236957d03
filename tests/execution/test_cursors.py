"""Cursors come back as they were given out, and nothing else is taken for one."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest
from gateway.execution.cursors import Cursors, Position, newest
from gateway.postgres.tokens import Token

tokens = st.builds(
    Token,
    system=st.integers(0, 2**64 - 1),
    timeline=st.integers(0, 2**32 - 1),
    position=st.integers(0, 2**64 - 1),
)
positions = st.builds(Position, st.lists(st.none() | st.text(max_size=20), min_size=1, max_size=8), st.none() | tokens)
OURS = Cursors(b"a secret of all nodes")


@given(positions, st.binary(max_size=50))
def test_what_was_written_is_read_by_all_who_have_the_secret(position: Position, context: bytes) -> None:
    cursor = OURS.write(position, context)
    assert Cursors(b"a secret of all nodes").read(cursor, context) == position
    assert cursor.isascii()
    assert not set(cursor) & set("+/=%&?'\\ ")


@given(positions, st.binary(max_size=50), st.binary(max_size=50))
def test_it_is_good_in_its_context_and_with_its_secret_only(position: Position, context: bytes, other: bytes) -> None:
    assume(context != other)
    cursor = OURS.write(position, context)
    assert OURS.read(cursor, other) is None
    assert Cursors(b"another secret").read(cursor, context) is None


@given(positions, st.binary(max_size=20), st.data())
def test_no_other_text_is_taken(position: Position, context: bytes, data: st.DataObject) -> None:
    cursor = OURS.write(position, context)
    place = data.draw(st.integers(0, len(cursor)))
    changed = cursor[:place] + data.draw(st.text(max_size=3)) + cursor[data.draw(st.integers(place, len(cursor))) :]
    assume(changed != cursor)
    assert OURS.read(changed, context) is None


@given(st.text(max_size=100), st.binary(max_size=20))
def test_what_was_made_up_is_none(text: str, context: bytes) -> None:
    assert OURS.read(text, context) is None


@given(st.none() | tokens, st.none() | tokens)
def test_of_two_tokens_the_one_that_asks_for_more_holds(first: Token | None, second: Token | None) -> None:
    if first is None or second is None:
        assert newest(first, second) == (first or second)
    elif first.system != second.system:
        with pytest.raises(InvalidRequest):
            newest(first, second)
    else:
        chosen = newest(first, second)
        assert chosen in (first, second)
        assert chosen is not None
        assert all((chosen.timeline, chosen.position) >= (each.timeline, each.position) for each in (first, second))
