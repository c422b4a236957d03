"""Marks: opaque, checked, and the same when read again."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.postgres.marks import Mark, NoMark, Origin, mark_of

LONG = st.integers(0, 2**64 - 1)
TIME = st.integers(-(2**63), 2**63 - 1)
MARKS = st.builds(Mark, system=LONG, timeline=st.integers(0, 2**32 - 1), xid=LONG, position=LONG, life=TIME, taken=TIME)
MARK = Mark(system=7711395355516416927, timeline=1, xid=754, position=0x3001478, life=1795449144103451, taken=1)


@given(MARKS)
def test_a_mark_read_again_is_the_same(mark: Mark) -> None:
    assert Mark.read(mark.token()) == mark


def test_a_token_can_be_part_of_a_path() -> None:
    assert all(character.isalnum() or character in "-_" for character in MARK.token())


@given(st.integers(0, len(MARK.token()) - 1), st.characters(codec="ascii"))
def test_a_token_with_another_character_anywhere_is_none(at: int, character: str) -> None:
    token = MARK.token()
    if token[at] != character:
        with pytest.raises(NoMark):
            Mark.read(token[:at] + character + token[at + 1 :])


@pytest.mark.parametrize(
    "text", ["", "x", "é", "====", MARK.token()[:-1], MARK.token() + "=", MARK.token() + "A", "A" * 55, "A" * 1000]
)
def test_nonsense_is_no_token(text: str) -> None:
    with pytest.raises(NoMark):
        Mark.read(text)


@given(st.binary(max_size=100))
def test_bytes_at_random_are_no_token(data: bytes) -> None:
    with pytest.raises(NoMark):
        Mark.read(base64.urlsafe_b64encode(data).decode().rstrip("="))


def test_a_mark_is_made_of_what_the_server_says_in_the_transaction() -> None:
    mark = mark_of(Origin(system=7, life=8), [b"754", b"50337912", b"3", b"99"])
    assert mark == Mark(system=7, timeline=3, xid=754, position=50337912, life=8, taken=99)
